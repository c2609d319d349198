#include "json.h"

#include <algorithm>
#include <limits>

namespace penstock::objects::json {
namespace {

std::string_view name_of(Type type) {
  switch (type) {
    case Type::array:
      return "a list";
    case Type::object:
      return "an object";
    case Type::number:
      return "a number";
    case Type::string:
      return "text";
    case Type::boolean:
      return "true or false";
    case Type::null:
      return "null";
  }
  return "something else";
}

// How many letters must be changed, added or removed to make `b` of `a`; words longer than 40 letters are never close.
size_t distance(std::string_view a, std::string_view b) {
  if (a.size() > 40 || b.size() > 40) return a.size() + b.size();
  size_t row[42];
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string unknown_key(std::string_view key, const std::vector<std::string_view>& known) {
  std::string message = "is not a known key";
  const auto near = std::min_element(known.begin(), known.end(), [&](std::string_view a, std::string_view b) {
    return distance(key, a) < distance(key, b);
  });
  if (near != known.end() && distance(key, *near) <= 2) message.append("; did you mean ").append(*near).append("?");
  message += " (known here:";
  for (const std::string_view word : known) message.append(" ").append(word);
  return message + ")";
}

std::string Reader::path(std::string_view key) const {
  std::string out;
  for (const Step& step : steps_) {
    if (step.index >= 0) {
      out.append("[").append(std::to_string(step.index)).append("]");
    } else {
      if (!out.empty()) out += '.';
      out.append(step.key);
    }
  }
  if (!key.empty()) out.append(out.empty() ? "" : ".").append(key);
  return out;
}

void Reader::problem(std::string message, std::string_view key) {
  constexpr size_t most = 100;  // of one object: more say nothing new
  if (problems_.size() < most) problems_.push_back({path(key), std::move(message)});
}

void Reader::missing(std::string_view key, std::string_view expected) {
  const std::string at = path(key);
  const auto told = [&](const FieldProblem& problem) { return problem.path.starts_with(at); };
  if (std::any_of(problems_.begin(), problems_.end(), told)) return;
  problem(std::string("is missing or empty; expected ").append(expected), key);
}

void Reader::malformed() {
  if (!broken_) problem("is not valid JSON");
  broken_ = true;
}

bool Reader::is(Value& value, Type wanted, std::string_view name) {
  Type type;
  if (value.type().get(type)) {
    malformed();
    return false;
  }
  if (type == wanted) return true;
  const bool unquoted = wanted == Type::string && (type == Type::number || type == Type::boolean);
  problem(std::string("is ")
              .append(name_of(type))
              .append("; expected ")
              .append(name)
              .append(unquoted ? " (in quotes)" : ""));
  return false;
}

void Reader::text(Value value, std::string& out) {
  std::string_view found;
  if (!is(value, Type::string, "text")) return;
  if (value.get_string().get(found)) return malformed();
  out = found;
}

void Reader::flag(Value value, bool& out) {
  if (!is(value, Type::boolean, "true or false")) return;
  if (value.get_bool().get(out)) malformed();
}

void Reader::flag(Value value, std::optional<bool>& out) {
  bool found = false;
  if (!is(value, Type::boolean, "true or false")) return;
  if (value.get_bool().get(found)) return malformed();
  out = found;
}

void Reader::integer(Value value, int64_t& out) {
  int64_t found = 0;
  if (!is(value, Type::number, "a whole number")) return;
  if (value.get_int64().get(found)) return problem("is not a whole number");
  out = found;
}

void Reader::integer(Value value, int64_t least, int64_t most, int32_t& out) {
  int64_t found = std::numeric_limits<int64_t>::min();
  const size_t before = problems_.size();
  integer(value, found);
  if (problems_.size() != before || broken_) return;
  if (found < least || found > most) {
    return problem("is " + std::to_string(found) + "; expected a whole number from " + std::to_string(least) + " to " +
                   std::to_string(most));
  }
  out = static_cast<int32_t>(found);
}

void Reader::texts(Value value, std::vector<std::string>& out) {
  out.clear();
  elements(value, [&](Value element) { text(element, out.emplace_back()); });
}

void Reader::labels(Value value, Labels& out) {
  out.clear();
  members(value, [&](std::string_view key, Value member) {
    std::string found;
    text(member, found);
    out.emplace_back(key, std::move(found));
  });
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  // Of a key that is given twice the last value counts.
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  const auto kept = std::unique(out.rbegin(), out.rend(), same);
  out.erase(out.begin(), kept.base());
}

void Reader::word(Value value, std::initializer_list<std::string_view> words, size_t& out) {
  std::string found;
  const size_t before = problems_.size();
  text(value, found);
  if (problems_.size() != before || broken_) return;
  const auto place = std::find(words.begin(), words.end(), found);
  if (place != words.end()) {
    out = static_cast<size_t>(place - words.begin());
    return;
  }
  std::string message = "is \"" + found.substr(0, 64) + "\"; expected one of:";
  for (const std::string_view accepted : words) message.append(" ").append(accepted);
  problem(std::move(message));
}

}  // namespace penstock::objects::json
