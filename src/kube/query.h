// A path with its query, escaped. Empty values are left out; the path may bring some of its query along.
#pragma once

#include <string>
#include <string_view>

#include "encoding.h"

namespace penstock::kube {

class Query {
 public:
  explicit Query(std::string path) : text_(std::move(path)), separator_(text_.find('?') == text_.npos ? '?' : '&') {}
  void add(std::string_view key, std::string_view value) {
    if (value.empty()) return;
    text_.append(1, std::exchange(separator_, '&')).append(key).append(1, '=');
    append_escaped(text_, value);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  char separator_;
};

}  // namespace penstock::kube
