// Writes JSON for the admin pages. Pure.
#pragma once

#include <string>
#include <string_view>

#include "text.h"

namespace penstock::observability {

// Writes one JSON document; commas follow from what was written before.
class Json {
 public:
  explicit Json(std::string& out) : out_(out) {}

  void open(char bracket) {
    out_ += bracket;
    first_ = true;
  }
  void close(char bracket) {
    out_ += bracket;
    first_ = false;
  }
  // An element of an array.
  void element() {
    if (!first_) out_ += ',';
    first_ = false;
  }
  Json& key(std::string_view name) {
    element();
    append_json_string(out_, name);
    out_ += ':';
    return *this;
  }
  void text(std::string_view value) { append_json_string(out_, value); }
  void number(double value) { append_number(out_, value); }
  void count(uint64_t value) { out_ += std::to_string(value); }
  void boolean(bool value) { out_ += value ? "true" : "false"; }
  void null() { out_ += "null"; }

 private:
  std::string& out_;
  bool first_ = true;
};

}  // namespace penstock::observability
