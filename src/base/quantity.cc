#include "penstock/base/quantity.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "penstock/base/text.h"

namespace penstock {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};
constexpr Unit duration_units[] = {
    {"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000}};
constexpr Unit size_units[] = {{"B", 1},
                               {"KB", 1'000},
                               {"MB", 1'000'000},
                               {"GB", 1'000'000'000},
                               {"TB", 1'000'000'000'000},
                               {"KiB", uint64_t{1} << 10},
                               {"MiB", uint64_t{1} << 20},
                               {"GiB", uint64_t{1} << 30},
                               {"TiB", uint64_t{1} << 40}};

template <size_t N>
const Unit* find_unit(const Unit (&units)[N], std::string_view name) {
  const auto found = std::find_if(std::begin(units), std::end(units), [&](const Unit& u) { return u.name == name; });
  return found == std::end(units) ? nullptr : found;
}

bool is_unit_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Takes "12.5" and then the letters behind it off the front of `text`. False when there is no number.
bool take_quantity(std::string_view& text, double* number, std::string_view* unit) {
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, *number, std::chars_format::fixed);
  if (parsed.ec != std::errc{} || *number < 0) return false;
  const char* unit_end = parsed.ptr;
  while (unit_end != end && is_unit_letter(*unit_end)) ++unit_end;
  *unit = {parsed.ptr, static_cast<size_t>(unit_end - parsed.ptr)};
  text.remove_prefix(static_cast<size_t>(unit_end - text.data()));
  return true;
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  if (text == "none" || text == "0") return Duration{0};
  const std::string_view whole = text;
  double total = 0;
  do {
    double number = 0;
    std::string_view unit_name;
    const bool quantity = take_quantity(text, &number, &unit_name);
    if (!quantity || (unit_name.empty() && !text.empty())) {
      return Message{in_quotes(whole) + " is not a duration (numbers with units, such as 1m30s: ns, us, ms, s, m, h)"};
    }
    if (unit_name.empty()) {
      return Message{in_quotes(whole) + " has no unit (write " + std::string(whole) + "s or " + std::string(whole) +
                     "ms)"};
    }
    const Unit* const unit = find_unit(duration_units, unit_name);
    if (unit == nullptr) return Message{in_quotes(unit_name) + " is not a unit of time (ns, us, ms, s, m, h)"};
    total += number * static_cast<double>(unit->factor);
  } while (!text.empty());
  if (total > 9.2e18) return Message{in_quotes(whole) + " is too long"};
  return Duration{std::llround(total)};
}

std::string format_duration(Duration duration) {
  const auto count = static_cast<uint64_t>(duration.count());
  if (count == 0) return "0s";
  const Unit* best = &duration_units[0];
  for (const Unit& unit : duration_units) {
    if (count % unit.factor == 0) best = &unit;
  }
  return std::to_string(count / best->factor) + std::string(best->name);
}

Result<uint64_t> parse_size(std::string_view text) {
  if (text == "none") return uint64_t{0};
  const std::string_view whole = text;
  double number = 0;
  std::string_view unit_name;
  if (!take_quantity(text, &number, &unit_name) || !text.empty()) return Message{in_quotes(whole) + " is not a size"};
  const Unit* const unit = unit_name.empty() ? &size_units[0] : find_unit(size_units, unit_name);
  if (unit == nullptr) {
    return Message{in_quotes(unit_name) + " is not a unit of size (KB, MB, GB, TB; KiB, MiB, GiB, TiB)"};
  }
  const double bytes = number * static_cast<double>(unit->factor);
  if (bytes > 9e15) return Message{in_quotes(whole) + " is too large"};
  return static_cast<uint64_t>(bytes);
}

std::string format_size(uint64_t bytes) {
  constexpr std::string_view binary[] = {"", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(binary)) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + std::string(binary[unit]);
}

std::string format_number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed).ptr;
  return {text, end};
}

}  // namespace penstock
