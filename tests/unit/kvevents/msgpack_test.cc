#include "penstock/kvevents/msgpack.h"

#include <doctest/doctest.h>

#include <string>

using namespace penstock::kvevents;
using Kind = MsgpackReader::Kind;
using namespace std::literals;

TEST_CASE("integers of all widths") {
  const std::pair<std::string_view, uint64_t> cases[] = {
      {"\x00"sv, 0},
      {"\x7f"sv, 127},
      {"\xff"sv, UINT64_MAX},
      {"\xe0"sv, static_cast<uint64_t>(-32)},
      {"\xcc\xc8"sv, 200},
      {"\xcd\x12\x34"sv, 0x1234},
      {"\xce\xff\x00\x00\x01"sv, 0xff000001},
      {"\xcf\xff\x00\x00\x00\x00\x00\x00\x01"sv, 0xff00000000000001},
      {"\xd0\x80"sv, static_cast<uint64_t>(-128)},
      {"\xd1\xff\xfe"sv, static_cast<uint64_t>(-2)},
      {"\xd2\x80\x00\x00\x00"sv, static_cast<uint64_t>(INT32_MIN)},
      {"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"sv, uint64_t{1} << 63},
      {"\xd3\x00\x00\x00\x00\x00\x00\x00\x07"sv, 7},
  };
  for (const auto& [bytes, expected] : cases) {
    MsgpackReader in(bytes);
    uint64_t value = 0;
    CHECK(in.peek() == Kind::integer);
    CHECK(in.integer(&value));
    CHECK(value == expected);
    CHECK(in.at_end());
    for (size_t cut = 0; cut < bytes.size(); ++cut) CHECK_FALSE(MsgpackReader(bytes.substr(0, cut)).integer(&value));
  }
}

TEST_CASE("text and binary, in place and only when all is there") {
  const std::string_view all[] = {
      "\xa3"
      "abc",
      "\xd9\x03"
      "abc",
      "\xc4\x03"
      "abc",
      "\xda\x00\x03"
      "abc"sv,
      "\xc5\x00\x03"
      "abc"sv,
      "\xdb\x00\x00\x00\x03"
      "abc"sv,
      "\xc6\x00\x00\x00\x03"
      "abc"sv};
  for (const std::string_view bytes : all) {
    MsgpackReader in(bytes);
    std::string_view value;
    CHECK(in.bytes(&value));
    CHECK(value == "abc");
    for (size_t cut = 0; cut < bytes.size(); ++cut) CHECK_FALSE(MsgpackReader(bytes.substr(0, cut)).bytes(&value));
  }
}

TEST_CASE("lengths that the bytes do not have are refused before anybody believes them") {
  uint32_t count = 0;
  std::string_view text;
  CHECK_FALSE(MsgpackReader("\xdd\xff\xff\xff\xff\x01"sv).array(&count));
  CHECK_FALSE(MsgpackReader("\xdf\xff\xff\xff\xff\x01"sv).map(&count));
  CHECK_FALSE(MsgpackReader("\xdb\xff\xff\xff\xff\x01"sv).bytes(&text));
  CHECK_FALSE(MsgpackReader("\xdd\xff\xff\xff\xff\x01"sv).skip());
  CHECK_FALSE(MsgpackReader("\xc1"sv).skip());
}

TEST_CASE("anything can be skipped, however deep, and a copy is a bookmark") {
  const std::string nested = std::string(100'000, '\x91') + "\xc0\x05";
  const std::string all =
      nested + "\xca\x01\x02\x03\x04" + "\xc2\xd4\x01\x02" + "\x82\x01\xa1x\x02\x90"s + "\xc7\x02\x05zz" + "\x09";
  MsgpackReader in(all);
  const MsgpackReader begin = in;
  for (int i = 0; i < 7; ++i) REQUIRE(in.skip());
  uint64_t value = 0;
  CHECK(in.integer(&value));
  CHECK(value == 9);
  CHECK(in.at_end());
  CHECK(begin.peek() == Kind::array);
  for (size_t cut = 0; cut < nested.size() - 1; cut += 997) CHECK_FALSE(MsgpackReader(nested.substr(0, cut)).skip());
}
