// Runs bytes through the HTTP codec, cut in a given way, and writes down the events as text. Two ways of cutting
// the same bytes must give the same text: golden tests and fuzz targets compare it.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "penstock/http/parser.h"

namespace penstock::http {

inline std::string escaped(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if (c == '\r') {
      text += "\\r";
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\\') {
      text += "\\\\";
    } else if (c >= ' ' && c < 0x7f) {
      text += c;
    } else {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned>(static_cast<uint8_t>(c)));
      text += hex;
    }
  }
  return text;
}

class CodecLog final : ParserEvents {
 public:
  struct Input {
    Parser::Kind kind = Parser::Kind::request;
    ParserLimits limits;
    bool answers_head = false;  // each response answers a HEAD request
    bool close = false;         // the peer closes behind the bytes
    bool raw = false;           // also what is said of raw bytes: trailer sections, how much was body
  };

  explicit CodecLog(const Input& input) : input_(input), parser_(input.kind, *this, input.limits) {}

  // `next_size(left)` says how long the next read is; 1 to `left`. One run per object.
  template <typename NextSize>
  std::string run(std::string_view bytes, NextSize&& next_size) {
    ready();
    while (!bytes.empty() && !over_) {
      std::string_view piece = bytes.substr(0, next_size(bytes.size()));
      bytes.remove_prefix(piece.size());
      while (!piece.empty() && !over_) piece.remove_prefix(feed(piece));
      unread_ = piece.size() + bytes.size();
    }
    finish();
    return std::move(log_);
  }

 private:
  size_t feed(std::string_view piece) {
    // A copy on the heap: views into it that outlive the feed are seen by the sanitizer.
    const std::string copy(piece);
    const Parser::FeedResult fed = parser_.feed(copy);
    if (fed.head_bytes + fed.trailer_bytes > fed.consumed) say("more head and trailers than bytes");
    raw_body_ += fed.consumed - fed.head_bytes - fed.trailer_bytes;
    if (fed.error == ParseError::none && input_.raw && parser_.idle()) say_raw_body();
    if (fed.consumed > piece.size()) say("consumed more than was fed");
    if (fed.error != ParseError::none) {
      say(std::string("error ") + name_of(fed.error));
      over_ = failed_ = true;
    } else if (fed.consumed == 0) {
      say("stuck");
      over_ = failed_ = true;
    }
    return std::min(fed.consumed, piece.size());
  }

  void finish() {
    if (failed_) return flush();
    if (unread_ > 0) say("unread " + std::to_string(unread_));
    if (over_) return;
    if (input_.close) {
      const bool idle = parser_.idle();
      const ParseError error = parser_.finish();
      if (error != ParseError::none) return say(std::string("cut, error ") + name_of(error));
      if (idle) return say("closed between messages");
    } else if (!parser_.idle()) {
      say(parser_.in_head()            ? "waits for the head"
          : parser_.body_until_close() ? "waits for close"
                                       : "waits for the body");
    } else {
      flush();
    }
  }

  void on_head(Head& head) override {
    const bool request = input_.kind == Parser::Kind::request;
    std::string line = "head ";
    line += request ? escaped(head.method_text) + " " + shortened(head.target)
                    : std::to_string(head.status) + " \"" + shortened(head.reason) + "\"";
    line += head.minor_version == 1 ? " 1.1" : " 1.0";
    if (head.keep_alive) line += " keep-alive";
    if (head.chunked) line += " chunked";
    if (head.has_content_length) line += " length=" + std::to_string(head.content_length);
    if (head.expects_continue) line += " expects-continue";
    if (head.upgrade) line += " upgrade";
    say(line);
    for (const Header& header : head.headers()) {
      say("  " + escaped(header.name) + ": " + shortened(header.value) + (is_hop_by_hop(head, header) ? " (hop)" : ""));
    }
  }

  void on_body(std::string_view bytes) override {
    if (bytes.empty()) say("an empty piece of body");
    body_ += bytes;
  }

  void on_message_end(bool keep_alive) override {
    say(keep_alive ? "end, keep-alive" : "end, close");
    if (!keep_alive) over_ = true;
    ready();
  }

  void on_trailers(std::string_view section) override {
    if (input_.raw) say("trailers " + escaped(section));
  }

  void say_raw_body() {
    if (raw_body_ > 0) say("raw body of " + std::to_string(raw_body_) + " bytes");
    raw_body_ = 0;
  }

  void ready() {
    if (input_.answers_head) parser_.expect_response_to(Method::head);
  }

  static std::string shortened(std::string_view text) {
    if (text.size() > 200) return std::to_string(text.size()) + " bytes of " + escaped(text.substr(0, 1)) + "...";
    return escaped(text);
  }

  void flush() {
    if (!body_.empty()) log_ += "body " + shortened(body_) + "\n";
    body_.clear();
  }

  void say(const std::string& line) {
    flush();
    log_ += line + "\n";
  }

  static const char* name_of(ParseError error) {
    switch (error) {
      case ParseError::none:
        return "none";
      case ParseError::unknown_method:
        return "unknown_method";
      case ParseError::malformed:
        return "malformed";
      case ParseError::smuggling:
        return "smuggling";
      case ParseError::head_too_large:
        return "head_too_large";
      case ParseError::uri_too_long:
        return "uri_too_long";
      case ParseError::unsupported_version:
        return "unsupported_version";
      case ParseError::unsupported_coding:
        return "unsupported_coding";
    }
    return "?";
  }

  const Input input_;
  Parser parser_;
  std::string log_, body_;
  size_t unread_ = 0, raw_body_ = 0;
  bool over_ = false, failed_ = false;
};

}  // namespace penstock::http
