#include "penstock/objects/types.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace penstock::objects {
namespace {

// The number of exactly `count` digits at `at`, which moves behind them; -1 when there are none.
int digits(std::string_view text, size_t& at, size_t count) {
  if (at + count > text.size()) return -1;
  int value = 0;
  for (size_t i = 0; i < count; ++i, ++at) {
    if (text[at] < '0' || text[at] > '9') return -1;
    value = value * 10 + (text[at] - '0');
  }
  return value;
}

bool skip(std::string_view text, size_t& at, char wanted) {
  if (at >= text.size() || text[at] != wanted) return false;
  ++at;
  return true;
}

// Nanoseconds of ".123"; 0 when there is no fraction.
int64_t fraction(std::string_view text, size_t& at) {
  if (!skip(text, at, '.')) return 0;
  int64_t value = 0, unit = 100'000'000;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10) value += (text[at] - '0') * unit;
  return value;
}

// Seconds east of UTC of "Z" or "+02:00".
std::optional<int64_t> zone(std::string_view text, size_t& at) {
  if (skip(text, at, 'Z')) return 0;
  const bool west = at < text.size() && text[at] == '-';
  if (!west && !(at < text.size() && text[at] == '+')) return std::nullopt;
  ++at;
  const int hours = digits(text, at, 2);
  if (!skip(text, at, ':')) return std::nullopt;
  const int minutes = digits(text, at, 2);
  if (hours < 0 || minutes < 0) return std::nullopt;
  const int64_t offset = hours * 3600 + minutes * 60;
  return west ? -offset : offset;
}

}  // namespace

const std::string* find_label(const Labels& labels, std::string_view key) {
  const auto found = std::lower_bound(labels.begin(), labels.end(), key,
                                      [](const auto& label, std::string_view wanted) { return label.first < wanted; });
  return found != labels.end() && found->first == key ? &found->second : nullptr;
}

bool has_all(const Labels& labels, const Labels& selector) {
  return std::all_of(selector.begin(), selector.end(), [&](const auto& wanted) {
    const std::string* const value = find_label(labels, wanted.first);
    return value != nullptr && *value == wanted.second;
  });
}

std::optional<Timestamp> parse_timestamp(std::string_view text) {
  size_t at = 0;
  const int year = digits(text, at, 4);
  if (year < 0 || !skip(text, at, '-')) return std::nullopt;
  const int month = digits(text, at, 2);
  if (!skip(text, at, '-')) return std::nullopt;
  const int day = digits(text, at, 2);
  if (!skip(text, at, 'T')) return std::nullopt;
  const int hour = digits(text, at, 2);
  if (!skip(text, at, ':')) return std::nullopt;
  const int minute = digits(text, at, 2);
  if (!skip(text, at, ':')) return std::nullopt;
  const int second = digits(text, at, 2);
  const int64_t nanos = fraction(text, at);
  const std::optional<int64_t> offset = zone(text, at);
  if (!offset || at != text.size() || hour < 0 || minute < 0 || second < 0) return std::nullopt;
  const std::chrono::year_month_day date(std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day)));
  if (month < 1 || day < 1 || !date.ok()) return std::nullopt;
  if (year < 1970 || year > 2200) return 0;  // "0001-01-01T00:00:00Z" is how Go writes that there is none
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return (days * 86400 + hour * 3600 + minute * 60 + second - *offset) * 1'000'000'000 + nanos;
}

std::string format_timestamp(int64_t seconds_since_1970) {
  const std::chrono::sys_seconds moment{std::chrono::seconds(seconds_since_1970)};
  const auto midnight = std::chrono::floor<std::chrono::days>(moment);
  const std::chrono::year_month_day date(midnight);
  const std::chrono::hh_mm_ss time(moment - midnight);
  char text[48];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                static_cast<int>(time.seconds().count()));
  return text;
}

bool LabelSelector::matches(const Labels& labels) const {
  if (!has_all(labels, match_labels)) return false;
  return std::all_of(requirements.begin(), requirements.end(), [&](const LabelRequirement& requirement) {
    using Operator = LabelRequirement::Operator;
    const std::string* const value = find_label(labels, requirement.key);
    const auto& accepted = requirement.values;
    const bool listed = value != nullptr && std::find(accepted.begin(), accepted.end(), *value) != accepted.end();
    switch (requirement.op) {
      case Operator::in:
        return listed;
      case Operator::not_in:
        return !listed;
      case Operator::exists:
        return value != nullptr;
      case Operator::does_not_exist:
        return value == nullptr;
    }
    return false;
  });
}

const Meta& meta_of(const Object& object) {
  return std::visit([](const auto& typed) -> const Meta& { return typed.meta; }, object);
}

}  // namespace penstock::objects
