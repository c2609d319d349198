// The head of a request that arrives as fields, decoded from HPACK (RFC 9113, section 8), and as strictly read as one
// of HTTP/1.1: once the rules of HTTP/2 hold, it is written as an HTTP/1.1 head and goes through the same guard and
// llhttp. Refused besides what they refuse: pseudo-fields that are unknown, doubled, missing or late; names with
// capitals; values with spaces at their ends; the fields of HTTP/1.1's connections; `te` other than `trailers`; a
// `host` that differs from `:authority`; a Content-Length without a body. Crumbs of a cookie are joined. Pure; one
// thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "penstock/http/parser.h"

namespace penstock::http {

struct Message;

// A head with memory of its own, borrowed from the thread's pool.
class RequestHead {
 public:
  RequestHead() = default;
  ~RequestHead() { drop(); }
  RequestHead(const RequestHead&) = delete;

  Head* get();  // null: there is none
  size_t bytes() const;
  void drop();

 private:
  friend class RequestFields;
  Message* message_ = nullptr;
};

// Collects the fields of one head after the other.
class RequestFields {
 public:
  explicit RequestFields(const ParserLimits& limits) : limits_(limits) {}

  // In the order in which they come. What is over a limit, or comes after an error, is counted and not kept.
  void add(std::string_view name, std::string_view value);
  size_t bytes() const { return bytes_; }  // of all fields so far, as HTTP/1.1 would write them
  size_t held_bytes() const;               // of memory
  bool asks_for_head() const { return method_ == "HEAD"; }
  // All fields are here. On success `into` has the head; in any case this is ready for the next one.
  ParseError finish(bool body_follows, RequestHead& into);
  void clear();

 private:
  void add_pseudo(std::string_view name, std::string_view value);
  void add_regular(std::string_view name, std::string_view value);
  ParseError check() const;
  void write();
  void fail(ParseError error) {
    if (error_ == ParseError::none) error_ = error;
  }

  const ParserLimits limits_;
  std::string method_, scheme_, authority_, path_, host_, cookie_;
  std::string lines_;  // of the other fields
  std::string text_;   // the whole head
  size_t bytes_ = 0, count_ = 0;
  bool regular_ = false, has_path_ = false, has_scheme_ = false, has_authority_ = false, has_host_ = false;
  ParseError error_ = ParseError::none;
};

}  // namespace penstock::http
