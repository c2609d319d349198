#include "penstock/epp/reader.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "penstock/base/quantity.h"
#include "penstock/base/text.h"

namespace penstock::epp {
namespace {

struct Suffix {
  std::string_view name;
  double factor;
};
// Of quantities in Kubernetes.
constexpr Suffix suffixes[] = {{"", 1},
                               {"k", 1e3},
                               {"M", 1e6},
                               {"G", 1e9},
                               {"T", 1e12},
                               {"Ki", 1024},
                               {"Mi", 1024.0 * 1024},
                               {"Gi", 1073741824.0},
                               {"Ti", 1099511627776.0}};

}  // namespace

std::map<std::string, std::string> read_labels(
    const YAML::Node& map, const std::function<void(const YAML::Node& at, std::string message)>& complain) {
  std::map<std::string, std::string> labels;
  if (!map.IsMap()) {
    complain(map, "is no map; expected labels, each with its value");
    return labels;
  }
  for (const auto& label : map) {
    const YAML::Node &name = label.first, &value = label.second;
    if (name.IsScalar() && !name.Scalar().empty() && value.IsScalar()) labels[name.Scalar()] = value.Scalar();
    else complain(name, "has what is no label; expected names, each with a text as its value");
  }
  return labels;
}

int Reader::line_of(const YAML::Node& at) const {
  return source_.lines_before + at.Mark().line + 1;
}

void Reader::problem(const YAML::Node& at, const std::string& key, std::string message) {
  problems_.push_back({source_.file, line_of(at), source_.prefix + key, std::move(message)});
}

void Reader::note(const YAML::Node& at, const std::string& key, std::string message) {
  notes_.push_back({source_.file, line_of(at), source_.prefix + key, std::move(message)});
}

void Reader::each_entry(const YAML::Node& map, const std::string& key, const std::vector<std::string_view>& known,
                        const Take& take, std::string_view hint) {
  if (map.IsNull()) return;  // all commented out
  if (!map.IsMap()) return problem(map, key, "is no map; expected keys: " + joined(known, ", "));
  std::set<std::string> seen;
  for (const auto& entry : map) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const std::string path = key.empty() ? name : key + '.' + name;
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = closest(name, known);
      const std::string here = known.empty() ? " (none is known here)" : " (known here: " + joined(known, ", ") + ")";
      problem(entry.first, path,
              "is not a known key" + (near.empty() ? "" : "; did you mean " + near + "?") + here +
                  (hint.empty() ? "" : "; " + std::string(hint)));
    } else if (!seen.insert(name).second) {
      problem(entry.first, path, "is given twice");
    } else {
      take(name, path, entry.second);
    }
  }
}

void Reader::each_item(const YAML::Node& list, const std::string& key, const TakeItem& take) {
  if (list.IsNull()) return;
  if (!list.IsSequence()) return problem(list, key, "is no list");
  size_t index = 0;
  for (const YAML::Node& item : list) take(key + '[' + std::to_string(index++) + ']', item);
}

bool Reader::scalar(const YAML::Node& value, const std::string& key, std::string_view expected) {
  if (value.IsScalar()) return true;
  const char* const found = value.IsMap() ? "is a map" : value.IsSequence() ? "is a list" : "has no value";
  problem(value, key, std::string(found) + "; expected " + std::string(expected));
  return false;
}

bool Reader::read_text(const YAML::Node& value, const std::string& key, std::string* out) {
  if (!scalar(value, key, "text")) return false;
  if (value.Scalar().empty()) {
    problem(value, key, "is empty; expected text");
    return false;
  }
  *out = value.Scalar();
  return true;
}

bool Reader::read_bool(const YAML::Node& value, const std::string& key, bool* out) {
  if (!scalar(value, key, "true or false")) return false;
  const std::string& text = value.Scalar();
  if (text != "true" && text != "false") {
    problem(value, key, in_quotes(text) + " is not a boolean; expected true or false");
    return false;
  }
  *out = text == "true";
  return true;
}

bool Reader::read_number(const YAML::Node& value, const std::string& key, bool whole, double least, double most,
                         double* out) {
  const std::string expected =
      (whole ? "a whole number from " : "a number from ") + format_number(least) + " to " + format_number(most);
  if (!scalar(value, key, expected)) return false;
  const std::string& text = value.Scalar();
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool good = parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size() && number >= least &&
                    number <= most && (!whole || number == std::floor(number));
  if (!good) {
    problem(value, key, in_quotes(text) + " is not " + expected);
    return false;
  }
  *out = number;
  return true;
}

bool Reader::read_duration(const YAML::Node& value, const std::string& key, double least, double most, Duration* out) {
  const std::string expected = "a duration from " + format_duration(from_seconds(least)) + " to " +
                               format_duration(from_seconds(most)) + ", such as 200ms or 1m30s";
  if (!scalar(value, key, expected)) return false;
  const auto parsed = parse_duration(value.Scalar());
  if (!parsed.ok() || to_seconds(*parsed) < least || to_seconds(*parsed) > most) {
    problem(value, key, in_quotes(value.Scalar()) + " is not " + expected);
    return false;
  }
  *out = *parsed;
  return true;
}

bool Reader::read_quantity(const YAML::Node& value, const std::string& key, uint64_t* out) {
  constexpr std::string_view expected = "a quantity, such as 1000000, 500M or 1Gi";
  if (!scalar(value, key, expected)) return false;
  const std::string& text = value.Scalar();
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  const std::string_view rest(parsed.ptr, static_cast<size_t>(end - parsed.ptr));
  for (const Suffix& suffix : suffixes) {
    const double bytes = number * suffix.factor;
    if (parsed.ec != std::errc{} || suffix.name != rest || bytes < 0 || bytes > 9e15) continue;
    *out = static_cast<uint64_t>(bytes);
    return true;
  }
  problem(value, key, in_quotes(text) + " is not " + std::string(expected));
  return false;
}

bool Reader::read_word(const YAML::Node& value, const std::string& key, const std::vector<std::string_view>& words,
                       std::string* out) {
  if (!scalar(value, key, "one of: " + joined(words, ", "))) return false;
  if (std::find(words.begin(), words.end(), value.Scalar()) == words.end()) {
    not_among(value, key, value.Scalar(), words, "");
    return false;
  }
  *out = value.Scalar();
  return true;
}

void Reader::not_among(const YAML::Node& at, const std::string& key, const std::string& found,
                       const std::vector<std::string_view>& words, std::string_view what) {
  const std::string near = closest(found, words);
  problem(at, key,
          in_quotes(found) + " is not one of" + (what.empty() ? "" : " the " + std::string(what)) + ": " +
              (words.empty() ? "(there are none)" : joined(words, ", ")) +
              (near.empty() ? "" : "; did you mean " + near + "?"));
}

}  // namespace penstock::epp
