#include "values.h"

#include "penstock/net/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "penstock/base/text.h"

namespace penstock::config {
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

namespace {

// Splits "host:port" at the last colon and checks the port. "" when good.
std::string split_host_port(std::string_view text, unsigned least_port, std::string_view* host) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || (text.find(']') != std::string_view::npos && colon < text.find(']'))) {
    return "has no port";
  }
  const std::string_view port_text = text.substr(colon + 1);
  unsigned port = 0;
  const auto parsed = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || parsed.ec != std::errc{} || parsed.ptr != port_text.data() + port_text.size() ||
      port < least_port || port > 65535) {
    return "has the port " + in_quotes(port_text) + " (expected " + std::to_string(least_port) + " to 65535)";
  }
  *host = text.substr(0, colon);
  return "";
}

bool is_ip(std::string_view host) {
  in6_addr address;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    return inet_pton(AF_INET6, std::string(host.substr(1, host.size() - 2)).c_str(), &address) == 1;
  }
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1;
}

bool is_host_name(std::string_view host) {
  if (host.empty() || host.size() > 253 || host.front() == '.' || host.front() == '-') return false;
  return std::all_of(host.begin(), host.end(), [](char c) {
    return is_unit_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
  });
}

}  // namespace

std::string check_address(std::string_view text) {
  std::string_view host;
  const std::string problem = split_host_port(text, 0, &host);
  if (!problem.empty()) {
    uint16_t port = 0;
    const std::string meant = parse_port(text, &port) ? "; did you mean :" + std::string(text) + "?" : "";
    return in_quotes(text) + " " + problem + meant;
  }
  if (!host.empty() && !is_ip(host)) return in_quotes(host) + " is not a numeric address";
  return "";
}

std::string check_ip_range(std::string_view text) {
  if (net::IpRange::parse(text)) return "";
  const size_t slash = text.find('/');
  const bool address = slash != std::string_view::npos && net::IpAddress::parse(text.substr(0, slash)).has_value();
  return in_quotes(text) + (address ? " is not a range: its length is wrong, or bits behind it are not zero"
                                    : " is not an IP address or range");
}

bool parse_port(std::string_view text, uint16_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc{} && end == text.data() + text.size() && *out != 0;
}

bool is_endpoint_name(const std::string& name) {
  return !name.empty() && name.size() <= 253 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string check_url(std::string& text) {
  const std::string scheme = text.starts_with("https://") ? "https://" : "http://";
  if (!text.starts_with(scheme)) return in_quotes(text) + " is not a URL; write http://HOST:PORT or https://HOST:PORT";
  if (text.ends_with('/') && text.size() > scheme.size()) text.pop_back();
  const std::string_view authority = std::string_view(text).substr(scheme.size());
  if (authority.find_first_of("/?#") != std::string_view::npos) {
    return in_quotes(text) + " has a path; requests keep their own path, so write only " + scheme + "HOST:PORT";
  }
  if (authority.find('@') != std::string_view::npos)
    return in_quotes(text) + ": credentials in a URL are not supported";
  std::string_view host;
  const std::string problem = split_host_port(authority, 1, &host);
  if (!problem.empty()) return in_quotes(text) + " " + problem + "; write " + scheme + "HOST:PORT";
  if (!is_ip(host) && !is_host_name(host)) return in_quotes(host) + " is not a host name or address";
  return "";
}

std::string check_name_server(std::string_view text) {
  const bool bracketed = text.starts_with('[');
  if (!bracketed && is_ip(text)) return "";
  const std::string in_brackets = '[' + std::string(text) + ']';
  if (!bracketed && is_ip(in_brackets)) return "";
  std::string_view host;
  const std::string problem = split_host_port(text, 1, &host);
  if (!problem.empty()) return in_quotes(text) + " is no IP address, and " + problem;
  return is_ip(host) ? "" : in_quotes(host) + " is not a numeric address";
}

std::string closest(std::string_view text, const std::vector<std::string_view>& words) {
  // As many changes as this make another word, not a slip.
  size_t best_distance = (text.size() + 2) / 3 + 1;
  std::string_view best;
  for (const std::string_view word : words) {
    std::vector<size_t> row(word.size() + 1);
    for (size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= text.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= word.size(); ++j) {
        const size_t replaced = diagonal + (text[i - 1] == word[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = word;
    }
  }
  return std::string(best);
}

}  // namespace penstock::config
