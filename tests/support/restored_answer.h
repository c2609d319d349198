// What openai::AnswerRestorer should make of a whole answer, found in another way: with a JSON parser.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/base/text.h"
#include "penstock/openai/answer_restorer.h"

namespace penstock::test {

class RestoredAnswer {
 public:
  // The text restored; nothing when it is not JSON, or has ids that are not numbers.
  static std::optional<std::string> of(std::string_view json, const openai::AnswerRestorer::Changes& changes) {
    const simdjson::padded_string text(json);
    simdjson::dom::parser strict;
    simdjson::dom::element element;
    if (strict.parse(text).get(element) != simdjson::SUCCESS) return std::nullopt;
    if (!element.is_object()) return std::string(json);
    RestoredAnswer self(text, changes);
    simdjson::ondemand::parser parser;
    simdjson::ondemand::document document;
    simdjson::ondemand::object object;
    if (parser.iterate(text).get(document) || document.get_object().get(object)) return std::nullopt;
    if (!self.look(object, Level::top)) return std::nullopt;
    std::string out;
    size_t from = 0;
    for (const auto& [begin, end] : self.replaced_) {
      out.append(json, from, begin - from);
      if (json[begin] == '"') append_json_string(out, changes.model);
      else out += "null";
      from = end;
    }
    return out.append(json, from);
  }

 private:
  enum class Level : uint8_t { top, inner, choice };
  using Object = simdjson::ondemand::object;
  using Value = simdjson::ondemand::value;

  RestoredAnswer(const simdjson::padded_string& text, const openai::AnswerRestorer::Changes& changes)
      : text_(text), changes_(changes) {}

  bool look(Object& object, Level level) {
    for (auto result : object) {
      simdjson::ondemand::field field;
      if (std::move(result).get(field)) return false;
      const simdjson::ondemand::raw_json_string key = field.key();
      Value value = field.value();
      const char first = value.raw_json_token().front();
      const bool top = level == Level::top;
      const bool ids =
          key.unsafe_is_equal("prompt_token_ids") || (level == Level::choice && key.unsafe_is_equal("token_ids"));
      bool good = true;
      if (first == '"' && level != Level::choice && key.unsafe_is_equal("model")) {
        note_name(value.raw_json_token().data());
      } else if (first == '{' && top && (key.unsafe_is_equal("response") || key.unsafe_is_equal("message"))) {
        good = look_into(value, Level::inner);
      } else if (first == '[' && changes_.token_ids && top && key.unsafe_is_equal("choices")) {
        good = look_at_choices(value);
      } else if (first == '[' && changes_.token_ids && ids) {
        good = note_ids(value);
      }
      if (!good) return false;
    }
    return true;
  }

  bool look_into(Value& value, Level level) {
    Object object;
    return !value.get_object().get(object) && look(object, level);
  }

  // Behind one that is no object nothing is restored.
  bool look_at_choices(Value& value) {
    simdjson::ondemand::array array;
    if (value.get_array().get(array)) return false;
    for (auto element : array) {
      Value choice;
      if (std::move(element).get(choice) || !choice.raw_json_token().starts_with('{')) return false;
      if (!look_into(choice, Level::choice)) return false;
    }
    return true;
  }

  void note_name(const char* quote) {
    if (changes_.model.empty()) return;
    const auto begin = static_cast<size_t>(quote - text_.data());
    size_t end = begin + 1;
    while (text_.data()[end] != '"') end += text_.data()[end] == '\\' ? 2 : 1;
    replaced_.emplace_back(begin, end + 1);
  }

  bool note_ids(Value& value) {
    const auto begin = static_cast<size_t>(value.raw_json_token().data() - text_.data());
    const std::string_view rest = std::string_view(text_).substr(begin + 1);
    const size_t size = rest.find(']');
    if (rest.substr(0, size).find_first_of("[{\"") != std::string_view::npos) return false;
    replaced_.emplace_back(begin, begin + size + 2);
    return true;
  }

  const simdjson::padded_string& text_;
  const openai::AnswerRestorer::Changes& changes_;
  std::vector<std::pair<size_t, size_t>> replaced_;
};

}  // namespace penstock::test
