#include "penstock/base/url_path.h"

#include <array>

namespace penstock {
namespace {

// pchar of RFC 3986 without percent-encoding, and the slash.
constexpr std::array<bool, 256> make_literal() {
  std::array<bool, 256> literal{};
  for (unsigned c = '0'; c <= '9'; ++c) literal[c] = true;
  for (unsigned c = 'a'; c <= 'z'; ++c) literal[c] = literal[c - 'a' + 'A'] = true;
  for (const char c : std::string_view("-._~!$&'()*+,;=:@/")) literal[static_cast<unsigned char>(c)] = true;
  return literal;
}
constexpr std::array<bool, 256> literal = make_literal();

bool is_literal(char c) {
  return literal[static_cast<unsigned char>(c)];
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The usual case. Also false for some canonical paths: those with a segment that begins with a dot or has an encoded
// byte.
bool surely_canonical(std::string_view path) {
  char before = 0;
  for (const char c : path) {
    if (!is_literal(c) || (before == '/' && (c == '/' || c == '.'))) return false;
    before = c;
  }
  return true;
}

void append_byte(std::string& out, char c) {
  constexpr char digits[] = "0123456789ABCDEF";
  if (c == '/' && out.ends_with('/')) return;
  if (is_literal(c)) {
    out += c;
    return;
  }
  const auto byte = static_cast<unsigned char>(c);
  out += '%';
  out += digits[byte >> 4];
  out += digits[byte & 15];
}

bool has_dot_segment(std::string_view path) {
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string_view segment = path.substr(0, path.find('/'));
    if (segment == "." || segment == "..") return true;
    path.remove_prefix(segment.size());
  }
  return false;
}

// Decodes, checks and encodes byte by byte. Null, or why not.
const char* canonical_form(std::string_view path, std::string& out) {
  out.reserve(path.size());
  for (size_t i = 0; i < path.size(); ++i) {
    char c = path[i];
    if (c == '%') {
      const int high = i + 2 < path.size() ? digit_of(path[i + 1]) : -1;
      const int low = i + 2 < path.size() ? digit_of(path[i + 2]) : -1;
      if (high < 0 || low < 0) return "The path has a percent sign without two hexadecimal digits.";
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) return "The path has a control character.";
    if (c == '\\') return "The path has a backslash.";
    append_byte(out, c);
  }
  return has_dot_segment(out) ? R"(The path has segments "." or "..".)" : nullptr;
}

// Within one segment: '*' stands for any bytes. Goes back to the last '*' only, which is enough.
bool segment_matches(std::string_view pattern, std::string_view segment) {
  size_t p = 0, s = 0, star = std::string_view::npos, retry = 0;
  while (s < segment.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = s;
    } else if (p < pattern.size() && pattern[p] == segment[s]) {
      ++p;
      ++s;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      s = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

// Takes "/segment" off the front.
std::string_view take_segment(std::string_view& path) {
  path.remove_prefix(1);
  const std::string_view segment = path.substr(0, path.find('/'));
  path.remove_prefix(segment.size());
  return segment;
}

}  // namespace

const char* canonicalise_target(std::string& target) {
  const std::string_view path = std::string_view(target).substr(0, target.find('?'));
  if (!path.starts_with('/') || surely_canonical(path)) return nullptr;
  std::string canonical;
  if (const char* const problem = canonical_form(path, canonical)) return problem;
  if (canonical != path) target.replace(0, path.size(), canonical);
  return nullptr;
}

std::string_view bare_path(std::string_view target) {
  target = target.substr(0, target.find('?'));
  if (target.size() > 1 && target.ends_with('/')) target.remove_suffix(1);
  return target;
}

bool path_matches(std::string_view pattern, std::string_view path) {
  if (pattern == "*" || pattern == "**") return true;
  path = bare_path(path);
  while (!pattern.empty()) {
    if (pattern == "/**") return true;
    if (!path.starts_with('/')) return false;
    if (!segment_matches(take_segment(pattern), take_segment(path))) return false;
  }
  return path.empty();
}

std::string check_path_pattern(std::string_view pattern) {
  if (pattern == "*" || pattern == "**") return "";
  if (!pattern.starts_with('/')) return "does not begin with a slash";
  if (pattern.find('?') != std::string_view::npos) return "has a query, but only paths are compared";
  const size_t deep = pattern.find("**");
  if (deep != std::string_view::npos && (deep + 2 != pattern.size() || pattern[deep - 1] != '/')) {
    return "has ** elsewhere than as its last segment";
  }
  std::string canonical(pattern);
  if (canonicalise_target(canonical) != nullptr) return "is not a path that a request may have";
  if (canonical.size() > 1 && canonical.ends_with('/')) canonical.pop_back();
  if (canonical != pattern) return "would never match; write " + canonical;
  return "";
}

}  // namespace penstock
