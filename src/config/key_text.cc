// Between keys of the table and text: what a key accepts, how its value is read and written.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "penstock/base/text.h"
#include "table.h"
#include "values.h"

namespace penstock::config {
namespace {

std::string show_bound(const Key& key, double bound) {
  if (key.type == Type::duration) return format_duration(from_seconds(bound));
  if (key.type == Type::size) return format_size(static_cast<uint64_t>(bound));
  return format_number(bound);
}

std::string not_among(std::string_view text, std::span<const std::string_view> words) {
  const std::string near = closest(text, {words.begin(), words.end()});
  return '"' + std::string(text) + "\" is not one of: " + joined(words, ", ") +
         (near.empty() ? "" : "; did you mean " + near + "?");
}

std::string expects(const Key& key) {
  return "; expected " + std::string(type_name(key.type)) + ": " + accepted_values(key);
}

// "" when `value` (seconds, bytes or plain) is within the key's range, or zero where zero means something.
std::string check_range(const Key& key, double value, std::string_view text) {
  if (value == 0 && !key.zero.empty()) return "";
  if (value >= key.min && value <= key.max) return "";
  return '"' + std::string(text) + "\" is out of range" + expects(key);
}

std::string set_text(const Key& key, std::string& field, std::string_view text) {
  const std::string shown = '"' + std::string(text) + '"';
  switch (key.type) {
    case Type::address:
      if (!key.zero.empty() && text == key.zero) break;
      if (const std::string problem = check_address(text); !problem.empty()) return problem + expects(key);
      break;
    case Type::url_path:
      if (text.empty() && !key.accepted.empty()) break;
      if (!text.starts_with('/') || text.find_first_of(" \t\r\n#") != std::string_view::npos) {
        return shown + " is not a path of a URL" + expects(key);
      }
      break;
    case Type::choice:
      if (std::find(key.words.begin(), key.words.end(), text) == key.words.end()) {
        return not_among(text, key.words);
      }
      break;
    case Type::text:
      if (const std::string problem = check_range(key, static_cast<double>(text.size()), text); !problem.empty()) {
        return problem;
      }
      break;
    default:
      if (text.empty() && key.accepted.empty()) return "is empty" + expects(key);
  }
  if (key.check != nullptr && !text.empty()) {
    if (std::string problem = key.check(text); !problem.empty()) return problem + expects(key);
  }
  field = text;
  return "";
}

std::string text_of(const std::string& item) {
  return item;
}
std::string text_of(uint16_t item) {
  return std::to_string(item);
}
void from_text(std::string& item, std::string_view text) {
  item = text;
}
void from_text(uint16_t& item, std::string_view text) {  // checked before
  std::from_chars(text.data(), text.data() + text.size(), item);
}

template <typename Item>
std::string add_to_list(const Key& key, std::vector<Item>& list, std::string_view text) {
  if (text.empty()) return "has an empty item" + expects(key);
  if (std::string problem = key.check(text); !problem.empty()) return problem + expects(key);
  Item item{};
  from_text(item, text);
  if (std::find(list.begin(), list.end(), item) != list.end()) return '"' + std::string(text) + "\" is given twice";
  if (static_cast<double>(list.size()) >= key.max) return "has more than " + format_number(key.max) + " items";
  list.push_back(std::move(item));
  return "";
}

template <typename Item>
std::string set_list(const Key& key, std::vector<Item>& list, std::string_view text) {
  list.clear();
  if (text == "[]") return "";
  for (size_t from = 0; from <= text.size();) {
    const size_t to = std::min(text.find(',', from), text.size());
    if (std::string problem = add_to_list(key, list, trimmed(text.substr(from, to - from))); !problem.empty()) {
      return problem;
    }
    from = to + 1;
  }
  return "";
}

template <typename Item>
std::string list_text(const std::vector<Item>& list) {
  std::string out;
  for (const Item& item : list) out.append(out.empty() ? "" : ", ").append(text_of(item));
  return out.empty() ? "[]" : out;
}

template <typename Integer>
std::string set_integer(const Key& key, Integer& field, std::string_view text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || parsed.ptr != text.data() + text.size() || parsed.ec == std::errc::invalid_argument) {
    return '"' + std::string(text) + "\" is not a whole number" + expects(key);
  }
  if (parsed.ec != std::errc{}) value = UINT64_MAX;  // too long for 64 bits: out of every range below
  if (std::string problem = check_range(key, static_cast<double>(value), text); !problem.empty()) return problem;
  field = static_cast<Integer>(value);
  return "";
}

std::string set_size(const Key& key, size_t& field, std::string_view text) {
  const auto parsed = parse_size(text);
  if (!parsed) return parsed.error().text + expects(key);
  if (std::string problem = check_range(key, static_cast<double>(*parsed), text); !problem.empty()) return problem;
  field = *parsed;
  return "";
}

std::string set_duration(const Key& key, Duration& field, std::string_view text) {
  if (key.type == Type::microseconds) {
    uint64_t count = 0;
    std::string problem = set_integer(key, count, text);
    if (problem.empty()) field = microseconds(count);
    return problem;
  }
  const auto parsed = parse_duration(text);
  if (!parsed) return parsed.error().text + expects(key);
  if (std::string problem = check_range(key, to_seconds(*parsed), text); !problem.empty()) return problem;
  field = *parsed;
  return "";
}

std::string set_number(const Key& key, double& field, std::string_view text) {
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || !std::isfinite(value)) {
    return '"' + std::string(text) + "\" is not a number" + expects(key);
  }
  if (std::string problem = check_range(key, value, text); !problem.empty()) return problem;
  field = value;
  return "";
}

std::string set_boolean(const Key& key, bool& field, std::string_view text) {
  if (text != "true" && text != "false") return '"' + std::string(text) + "\" is not a boolean" + expects(key);
  field = text == "true";
  return "";
}

std::string set_word(const Key& key, const EnumField& field, Options& options, std::string_view text) {
  const auto found = std::find(key.words.begin(), key.words.end(), text);
  if (found == key.words.end()) return not_among(text, key.words);
  field.set(options, static_cast<int>(found - key.words.begin()));
  return "";
}

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

std::string set_from_text(const Key& key, Options& options, std::string_view text) {
  return std::visit(Overloaded{
                        [&](Reference<std::string> field) { return set_text(key, field(options), text); },
                        [&](Reference<bool> field) { return set_boolean(key, field(options), text); },
                        [&](Reference<uint32_t> field) { return set_integer(key, field(options), text); },
                        [&](Reference<size_t> field) {
                          return key.type == Type::size ? set_size(key, field(options), text)
                                                        : set_integer(key, field(options), text);
                        },
                        [&](Reference<double> field) { return set_number(key, field(options), text); },
                        [&](Reference<Duration> field) { return set_duration(key, field(options), text); },
                        [&](Reference<std::vector<std::string>> field) { return set_list(key, field(options), text); },
                        [&](Reference<std::vector<uint16_t>> field) { return set_list(key, field(options), text); },
                        [&](const EnumField& field) { return set_word(key, field, options, text); },
                    },
                    key.field);
}

std::string add_item(const Key& key, Options& options, std::string_view item) {
  if (const auto* words = std::get_if<Reference<std::vector<std::string>>>(&key.field)) {
    return add_to_list(key, (*words)(options), item);
  }
  return add_to_list(key, std::get<Reference<std::vector<uint16_t>>>(key.field)(options), item);
}

std::string to_text(const Key& key, const Options& options) {
  Options& from = const_cast<Options&>(options);  // the accessors serve reading and writing; nothing is written here
  return std::visit(
      Overloaded{
          [&](Reference<std::string> field) { return field(from); },
          [&](Reference<bool> field) { return std::string(field(from) ? "true" : "false"); },
          [&](Reference<uint32_t> field) { return std::to_string(field(from)); },
          [&](Reference<size_t> field) {
            return key.type == Type::size ? format_size(field(from)) : std::to_string(field(from));
          },
          [&](Reference<double> field) { return format_number(field(from)); },
          [&](Reference<Duration> field) {
            if (key.type == Type::microseconds) {
              return std::to_string(duration_cast<microseconds>(field(from)).count());
            }
            return field(from) == Duration{0} && key.zero == "none" ? "none" : format_duration(field(from));
          },
          [&](Reference<std::vector<std::string>> field) { return list_text(field(from)); },
          [&](Reference<std::vector<uint16_t>> field) { return list_text(field(from)); },
          [&](const EnumField& field) { return std::string(key.words[static_cast<size_t>(field.get(from))]); },
      },
      key.field);
}

std::string_view type_name(Type type) {
  switch (type) {
    case Type::text:
      return "text";
    case Type::path:
      return "file";
    case Type::url_path:
      return "URL path";
    case Type::address:
      return "address";
    case Type::boolean:
      return "boolean";
    case Type::integer:
      return "whole number";
    case Type::number:
      return "number";
    case Type::microseconds:
      return "microseconds";
    case Type::duration:
      return "duration";
    case Type::size:
      return "size";
    case Type::choice:
      return "choice";
    case Type::list:
      return "list";
  }
  return "";
}

std::string accepted_values(const Key& key) {
  if (key.type == Type::list) return "up to " + format_number(key.max) + ": " + std::string(key.accepted);
  if (!key.accepted.empty()) return std::string(key.accepted);
  switch (key.type) {
    case Type::text:
      return format_number(key.min) + " to " + format_number(key.max) + " characters";
    case Type::path:
      return "a path, or - for standard output";
    case Type::url_path:
      return "starts with /";
    case Type::address:
      return "ADDRESS:PORT, such as 0.0.0.0:8080, [::]:8080 or :8080" +
             (key.zero.empty() ? "" : ", or " + std::string(key.zero));
    case Type::boolean:
      return "true or false";
    case Type::choice:
      return joined(key.words, ", ");
    default:
      break;
  }
  std::string out = show_bound(key, key.min) + " to " + show_bound(key, key.max);
  if (key.zero == "none") {
    out += ", or none";
  } else if (!key.zero.empty()) {
    out.append(key.min > 0 ? ", or 0 (" : " (0: ").append(key.zero).append(")");
  }
  return out;
}

}  // namespace penstock::config
