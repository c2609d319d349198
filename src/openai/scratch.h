// Where answers and their events are parsed.
#pragma once

#include <simdjson.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "json_text.h"

namespace penstock::openai {

// A padded copy of what is parsed, and the parser. One for each thread and not for each observer: there may be tens of
// thousands of streams, and each needs it for a microsecond at its end.
class Scratch {
 public:
  // `text` (with `lead` in front) as a document; it lives until the next call.
  bool open(std::string_view lead, std::string_view text, simdjson::ondemand::document& document);
  // What `copied`, a part of the copy, was in `text`, which was opened without a lead.
  std::string_view original(std::string_view text, std::string_view copied) const {
    return text.substr(static_cast<size_t>(copied.data() - bytes_.get()), copied.size());
  }
  void shrink();

 private:
  simdjson::ondemand::parser parser_;
  std::unique_ptr<char[]> bytes_;
  size_t capacity_ = 0;
};

Scratch& scratch();

// Calls visit(key, value) for each field. False after broken JSON, and when `visit` says so.
template <typename Visit>
bool each_field(simdjson::ondemand::object& object, Visit visit) {
  for (auto result : object) {
    simdjson::ondemand::field field;
    std::string_view key;
    if (std::move(result).get(field) || field.unescaped_key().get(key)) return false;
    if (!visit(key, field.value())) return false;
  }
  return true;
}

// The same for a value; true without any call when it is no object.
template <typename Visit>
bool each_field(simdjson::ondemand::value value, Visit visit) {
  simdjson::ondemand::object object;
  if (!value.raw_json_token().starts_with('{')) return true;
  return !value.get_object().get(object) && each_field(object, visit);
}

// A value as it is written, without space around it. False: it is broken.
inline bool written(simdjson::ondemand::value value, std::string_view& out) {
  const std::string_view token = value.raw_json_token();
  simdjson::ondemand::array array;
  simdjson::ondemand::object object;
  if (token.starts_with('[')) {
    if (value.get_array().get(array) || array.raw_json().get(out)) return false;
  } else if (token.starts_with('{')) {
    if (value.get_object().get(object) || object.raw_json().get(out)) return false;
  } else {
    out = token;
  }
  out = trim_end(out);
  return !out.empty();
}

}  // namespace penstock::openai
