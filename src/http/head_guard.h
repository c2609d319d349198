// Looks at the raw lines of a header block (a message head or a trailer section) before llhttp does and
// refuses what two parsers could read differently. It does not trust llhttp to be strict: versions and build
// modes of it differ in what they tolerate. Judges line by line, as soon as a line is complete, so that the
// verdict does not depend on how the bytes were cut into reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "bytes.h"
#include "penstock/http/parser.h"

namespace penstock::http {

class HeadGuard {
 public:
  enum class Block : uint8_t { request, response, trailers };
  enum class Progress : uint8_t { more, complete, refused };
  struct Taken {
    size_t consumed;
    Progress progress;
  };
  // What the block says about the body, filled when it is complete.
  struct Framing {
    uint8_t minor_version = 1;
    bool chunked = false;
    bool has_content_length = false;
    uint64_t content_length = 0;
  };

  void begin(Block block);
  // Moves bytes to the end of `storage`, which holds this block alone, up to its final empty line.
  Taken take(std::string& storage, std::string_view bytes, const ParserLimits& limits);
  ParseError error() const { return error_; }
  const Framing& framing() const { return framing_; }

 private:
  struct Line {
    std::string_view text;  // with its LF, when whole
    bool whole = false;
    bool clean = false;  // known to have no control character before its CRLF
  };
  static Line first_line(std::string_view bytes);
  bool going() const { return !complete_ && error_ == ParseError::none; }
  size_t room(size_t size, const ParserLimits& limits) const;
  void check_unfinished(std::string_view text, size_t size, const ParserLimits& limits);
  static ParseError request_line_overflow(std::string_view text, const ParserLimits& limits);
  size_t finish_line(std::string& storage, std::string_view bytes, const ParserLimits& limits);
  ParseError line(const Line& whole, const ParserLimits& limits);
  ParseError request_line(std::string_view text, const ParserLimits& limits);
  ParseError status_line(std::string_view text);
  ParseError version(std::string_view text);
  ParseError field(std::string_view text, bool clean, const ParserLimits& limits);
  ParseError host(std::string_view value);
  ParseError connection(std::string_view value, const ParserLimits& limits);
  ParseError content_length(std::string_view value);
  ParseError transfer_encoding(std::string_view value);
  ParseError end() const;

  Block block_ = Block::request;
  ParseError error_ = ParseError::none;
  bool complete_ = false;
  bool coding_ = false;  // Transfer-Encoding was there
  uint16_t lines_ = 0;   // complete ones, the start line included
  uint16_t hosts_ = 0;
  size_t connection_bytes_ = 0;
  size_t line_begin_ = 0;  // of the unfinished line, in storage
  Framing framing_;
};

// A value of Content-Length: digits alone, and no more than anybody means. `length` counts only where the answer is
// none.
inline ParseError read_length(std::string_view value, uint64_t& length) {
  constexpr uint64_t most = uint64_t{1} << 60;  // far from where another digit would overflow
  if (value.empty()) return ParseError::smuggling;
  length = 0;
  for (const char c : value) {
    if (!is_digit(c)) return ParseError::smuggling;
    length = length * 10 + static_cast<uint64_t>(c - '0');
    if (length > most) return ParseError::malformed;
  }
  return ParseError::none;
}

}  // namespace penstock::http
