#include "penstock/http/request_fields.h"

#include <algorithm>
#include <utility>

#include "bytes.h"
#include "head_builder.h"
#include "penstock/base/containers.h"

namespace penstock::http {

namespace {
constexpr size_t kLineExtra = 4;    // ": " and the line end
constexpr size_t kKept = 8 * 1024;  // larger buffers are not kept for the next head

bool of_connection(std::string_view name) {
  return name == "connection" || name == "keep-alive" || name == "proxy-connection" || name == "transfer-encoding" ||
         name == "upgrade";
}

bool has_capital(std::string_view name) {
  return std::any_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}
}  // namespace

Head* RequestHead::get() {
  return message_ == nullptr ? nullptr : &message_->builder.head();
}

size_t RequestHead::bytes() const {
  return message_ == nullptr ? 0 : message_->builder.storage().size();
}

void RequestHead::drop() {
  if (message_ != nullptr) give_back_message(std::exchange(message_, nullptr));
}

size_t RequestFields::held_bytes() const {
  return method_.size() + scheme_.size() + authority_.size() + path_.size() + host_.size() + cookie_.size() +
         lines_.size();
}

void RequestFields::add(std::string_view name, std::string_view value) {
  bytes_ += name.size() + value.size() + kLineExtra;
  if (bytes_ > limits_.head_bytes_max || ++count_ > limits_.headers_max) return fail(ParseError::head_too_large);
  if (error_ != ParseError::none) return;
  const bool pseudo = name.starts_with(':');
  if (!is_token(name.substr(pseudo)) || has_capital(name)) return fail(ParseError::malformed);
  if (has_control(value) || trim(value) != value) return fail(ParseError::smuggling);
  pseudo ? add_pseudo(name, value) : add_regular(name, value);
}

void RequestFields::add_pseudo(std::string_view name, std::string_view value) {
  if (regular_) return fail(ParseError::malformed);
  const auto once = [&](std::string& into, bool& has) {
    if (std::exchange(has, true)) return fail(ParseError::malformed);
    into = value;
  };
  if (name == ":path") {
    if (value.size() > limits_.uri_bytes_max) return fail(ParseError::uri_too_long);
    return once(path_, has_path_);
  }
  if (name == ":scheme") return once(scheme_, has_scheme_);
  if (name == ":authority") return once(authority_, has_authority_);
  bool has_method = !method_.empty();
  if (name == ":method") return once(method_, has_method);
  fail(ParseError::malformed);
}

void RequestFields::add_regular(std::string_view name, std::string_view value) {
  regular_ = true;
  if (of_connection(name)) return fail(ParseError::smuggling);
  if (name == "te" && !equals_lower(value, "trailers")) return fail(ParseError::malformed);
  if (name == "host") {
    if (std::exchange(has_host_, true)) return fail(ParseError::smuggling);
    host_ = value;
    return;
  }
  if (name == "cookie") {
    if (!cookie_.empty()) cookie_ += "; ";
    cookie_ += value;
    return;
  }
  lines_.append(name).append(": ").append(value).append("\r\n");
}

ParseError RequestFields::check() const {
  if (error_ != ParseError::none) return error_;
  if (!is_token(method_)) return ParseError::malformed;
  if (method_ == "CONNECT") {
    return has_authority_ && !has_path_ && !has_scheme_ ? ParseError::none : ParseError::malformed;
  }
  if (!has_path_ || (scheme_ != "http" && scheme_ != "https")) return ParseError::malformed;
  // Whether "*" is allowed here is judged with the request line. A URL is not: its host would be a third one.
  if (!path_.starts_with('/') && path_ != "*") return ParseError::malformed;
  if (has_authority_ && has_host_ && !same_ignoring_case(authority_, host_)) return ParseError::smuggling;
  return has_authority_ || has_host_ ? ParseError::none : ParseError::malformed;
}

void RequestFields::write() {
  const std::string& host = has_authority_ ? authority_ : host_;
  text_.clear();
  text_.append(method_).append(" ").append(method_ == "CONNECT" ? authority_ : path_).append(" HTTP/1.1\r\n");
  text_.append("host: ").append(host).append("\r\n").append(lines_);
  if (!cookie_.empty()) text_.append("cookie: ").append(cookie_).append("\r\n");
  text_.append("\r\n");
}

ParseError RequestFields::finish(bool body_follows, RequestHead& into) {
  into.drop();
  ParseError error = check();
  if (error == ParseError::none) {
    write();
    into.message_ = borrow_message();
    Message& message = *into.message_;
    message.guard.begin(HeadGuard::Block::request);
    // The start line is not among the counted bytes.
    ParserLimits limits = limits_;
    limits.head_bytes_max = std::max(limits.head_bytes_max, text_.size());
    const HeadGuard::Taken taken = message.guard.take(message.builder.storage(), text_, limits);
    error = message.guard.error();
    if (error == ParseError::none && (taken.progress != HeadGuard::Progress::complete || taken.consumed < text_.size()))
      error = ParseError::malformed;
    if (error == ParseError::none) {
      error = message.builder.build({.request = true, .without_body = false, .framing = message.guard.framing()});
    }
    if (error == ParseError::none) {
      Head& head = message.builder.head();
      if (!body_follows && head.has_content_length && head.content_length > 0) error = ParseError::smuggling;
      head.chunked = body_follows && !head.has_content_length;  // so many bytes as come
    }
    if (error != ParseError::none) into.drop();
  }
  clear();
  return error;
}

void RequestFields::clear() {
  for (std::string* text : {&method_, &scheme_, &authority_, &path_, &host_, &cookie_, &lines_, &text_}) {
    text->clear();
    if (text->capacity() > kKept) free_memory(*text);
  }
  bytes_ = count_ = 0;
  regular_ = has_path_ = has_scheme_ = has_authority_ = has_host_ = false;
  error_ = ParseError::none;
}

}  // namespace penstock::http
