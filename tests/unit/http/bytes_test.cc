#include "src/http/bytes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>

using namespace penstock::http;
using penstock::lower;

TEST_CASE("control characters are found wherever they stand, and nothing else is taken for one") {
  constexpr uint64_t kSeed = 11;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 50, ' ');
    // Mostly bytes at the edges of what is a control character, a few of any value.
    constexpr unsigned char kEdges[] = {0x1f, 0x20, 0x21, 0x7e, 0x7f, 0x80, 0xa0, 0xff, '\t', 0x08, 0x0a, 0x00};
    for (char& c : text) {
      const uint64_t kind = random() % 40;
      c = static_cast<char>(kind == 0 ? kEdges[random() % std::size(kEdges)] : kind < 8 ? '\t' : 0x20 + random() % 95);
    }
    const auto naive = static_cast<size_t>(std::find_if(text.begin(), text.end(), is_control) - text.begin());
    CAPTURE(text);
    REQUIRE(find_control(text) == naive);
    REQUIRE(find_control_by_word(text, 0) == naive);
    REQUIRE(has_control(text) == (naive != text.size()));
  }
}

TEST_CASE("a line end is found wherever it stands, and nothing else is taken for one") {
  for (size_t size = 0; size < 70; ++size) {
    for (const char filler : {' ', '\t', '\v', '\x0c', '\x0e', 'M', 'J', '\x8d', '\x8a'}) {
      std::string text(size, filler);
      CAPTURE(size);
      CAPTURE(static_cast<int>(filler));
      REQUIRE_FALSE(has_line_end(text));
      for (size_t at = 0; at < size; ++at) {
        for (const char end : {'\r', '\n'}) {
          text[at] = end;
          REQUIRE(has_line_end(text));
        }
        text[at] = filler;
      }
    }
  }
}

TEST_CASE("names are equal in either case of their letters, and with no other byte anywhere") {
  for (const std::string name : {"", "a", "te", "via", "host", "close", "x-0_z.9", "sixteen-", "x-request-id-azk",
                                 "content-length", "transfer-encoding", "x-gateway-destination-endpoint-subset"}) {
    CAPTURE(name);
    CHECK(equals_lower(name, name));
    CHECK_FALSE(equals_lower(name + "x", name));
    CHECK_FALSE(equals_lower(name, name + "x"));
    for (size_t at = 0; at < name.size(); ++at) {
      for (int byte = 0; byte < 256; ++byte) {
        std::string other = name;
        other[at] = static_cast<char>(byte);
        CAPTURE(other);
        REQUIRE(equals_lower(other, name) == (lower(other[at]) == name[at]));
      }
    }
  }
}

TEST_CASE("the elements of a list come trimmed and the empty ones not at all") {
  std::string seen;
  for_each_in_list(" a ,, b\t,c d, ,", [&](std::string_view token) { seen.append("<").append(token).append(">"); });
  CHECK(seen == "<a><b><c d>");
  for_each_in_list("", [&](std::string_view) { seen = "called"; });
  CHECK(seen == "<a><b><c d>");
}
