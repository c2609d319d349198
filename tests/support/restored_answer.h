// What openai::ModelRestorer should make of a whole answer, found in another way: with a JSON parser.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/base/text.h"

namespace penstock::test {

class RestoredAnswer {
 public:
  // The text with the names restored; nothing when it is not JSON.
  static std::optional<std::string> of(std::string_view json, std::string_view asked) {
    const simdjson::padded_string text(json);
    simdjson::dom::parser strict;
    simdjson::dom::element element;
    if (strict.parse(text).get(element) != simdjson::SUCCESS) return std::nullopt;
    if (!element.is_object()) return std::string(json);
    RestoredAnswer self(text);
    simdjson::ondemand::parser parser;
    simdjson::ondemand::document document;
    simdjson::ondemand::object object;
    if (parser.iterate(text).get(document) || document.get_object().get(object)) return std::nullopt;
    if (!self.look(object, false)) return std::nullopt;
    std::string out;
    size_t from = 0;
    for (const auto& [begin, end] : self.names_) {
      out.append(json, from, begin - from);
      append_json_string(out, asked);
      from = end;
    }
    return out.append(json, from);
  }

 private:
  explicit RestoredAnswer(const simdjson::padded_string& text) : text_(text) {}

  bool look(simdjson::ondemand::object& object, bool inner) {
    for (auto result : object) {
      simdjson::ondemand::field field;
      if (std::move(result).get(field)) return false;
      const simdjson::ondemand::raw_json_string key = field.key();
      const bool model = key.unsafe_is_equal("model");
      const bool deeper = !inner && (key.unsafe_is_equal("response") || key.unsafe_is_equal("message"));
      simdjson::ondemand::value value = field.value();
      const std::string_view token = value.raw_json_token();
      if (model && token.starts_with('"')) {
        note(token.data());
      } else if (deeper && token.starts_with('{')) {
        simdjson::ondemand::object nested;
        if (value.get_object().get(nested) || !look(nested, true)) return false;
      }
    }
    return true;
  }

  void note(const char* quote) {
    const auto begin = static_cast<size_t>(quote - text_.data());
    size_t end = begin + 1;
    while (text_.data()[end] != '"') end += text_.data()[end] == '\\' ? 2 : 1;
    names_.emplace_back(begin, end + 1);
  }

  const simdjson::padded_string& text_;
  std::vector<std::pair<size_t, size_t>> names_;
};

}  // namespace penstock::test
