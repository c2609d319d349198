// Odd bodies beside what Python's json module makes of them (tests/golden/json/oddities.py): each is read as Python
// reads it, or refused. Otherwise a body could pass by unread, or be understood differently by the model server.
#include <doctest/doctest.h>

#include <charconv>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/openai/request.h"
#include "tests/unit/openai/padded_body.h"

namespace penstock::openai {
namespace {

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    uint8_t byte = 0;
    std::from_chars(hex.data() + i, hex.data() + i + 2, byte, 16);
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

// "7b22,5b*600,7d": hex, and runs of one byte.
std::string body_of(const std::string& field) {
  std::string body;
  for (const std::string& piece : split(field, ',')) {
    const size_t star = piece.find('*');
    const std::string bytes = from_hex(std::string_view(piece).substr(0, star));
    if (star == std::string::npos) body += bytes;
    else body.append(std::stoul(piece.substr(star + 1)), bytes[0]);
  }
  return body;
}

struct Said {
  bool readable = false;  // a JSON object
  std::string model;      // as hex, "none" or "-"
  std::string stream;
};

Said said_by_python(const std::string& field) {
  if (field == "error" || field == "other") return {};
  const std::vector<std::string> words = split(field, ' ');
  return {true, words[0], words[1]};
}

void check_line(const std::string& line, Api api) {
  const std::vector<std::string> fields = split(line, '\t');
  REQUIRE(fields.size() == 4);
  CAPTURE(fields[0]);
  const Said python = said_by_python(fields[2]);
  RequestScanner scanner;
  Request request;
  const PaddedBody body(body_of(fields[1]));
  const ScanFailure failure = scanner.scan(api, body.view(), request);
  const bool read =
      failure.error == ScanError::none || failure.error == ScanError::no_model || failure.error == ScanError::no_prompt;
  CHECK((read ? "read" : "refused") == fields[3]);
  if (!read) {
    CHECK_FALSE(failure.message.empty());
    return;
  }
  CHECK(python.readable);
  CHECK(python.model != "-");
  if (python.model == "none") CHECK(request.model_value.empty());
  else CHECK(request.model == from_hex(python.model));
  if (python.stream != "-") CHECK(request.stream == (python.stream == "true"));
}

TEST_CASE("every body is read as Python reads it, or refused") {
  std::ifstream in(ODDITIES);
  REQUIRE(in.good());
  size_t lines = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    ++lines;
    check_line(line, Api::completions);
    check_line(line, Api::other);
  }
  CHECK(lines > 100);
}

TEST_CASE("a body in another encoding than UTF-8 is told so") {
  using namespace std::literals;
  for (const std::string& text : {"{\0\"\0m\0"s, "\0{\0\"\0m"s, "\xFF\xFE{\0}\0"s, "{\0\0\0}\0\0\0"s, "\0\0\0{"s}) {
    RequestScanner scanner;
    Request request;
    const PaddedBody body(text);
    const ScanFailure failure = scanner.scan(Api::completions, body.view(), request);
    CHECK(failure.error == ScanError::not_json);
    CHECK(failure.message == "The body is UTF-16 or UTF-32; JSON must be sent as UTF-8.");
  }
}

}  // namespace
}  // namespace penstock::openai
