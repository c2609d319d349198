#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "penstock/base/text.h"
#include "penstock/routing/router.h"

namespace penstock::routing {
namespace {

constexpr size_t header_bytes_max = 2048;
constexpr std::string_view cut_mark = "; ...";

__attribute__((format(printf, 2, 3))) void append(std::string& out, const char* format, ...) {
  char text[160];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  out += text;
}

// The number, or `unknown` when it is NaN.
void append_known(std::string& out, const char* unknown, double value) {
  if (std::isnan(value)) {
    out += unknown;
  } else {
    append(out, "%.4g", value);
  }
}

// Names come from clusters and files: what a header must not carry becomes '?'.
void append_ascii(std::string& out, std::string_view text) {
  for (const char c : text) out += c > ' ' && c < 0x7f && c != ';' ? c : '?';
}

void append_names(std::string& out, std::string_view before, const std::vector<std::string>& names) {
  out += before;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += ',';
    append_json_string(out, names[i]);
  }
}

// Adds ", part" as a whole or not at all; false when the header is full.
bool add_part(std::string& header, std::string_view part) {
  const size_t separator = header.empty() ? 0 : 2;
  if (header.size() + separator + part.size() + cut_mark.size() > header_bytes_max) {
    header += cut_mark;
    return false;
  }
  if (separator != 0) header += "; ";
  header += part;
  return true;
}

}  // namespace

void Explanation::clear() {
  profile.clear();
  scorers.clear();
  terms.clear();
  rows.clear();
  excluded.clear();
  stages.clear();
  times.clear();
  shadow.clear();
  shadow_gain_seconds = 0;
  attempt = 1;
  resumes = false;
  inputs.whole = false;
  inputs.endpoints.clear();
}

void Explanation::keep_best() {
  if (rows.size() > shown_max) rows.resize(shown_max);
  if (excluded.size() > shown_max) excluded.resize(shown_max);
}

std::string Explanation::to_header() const {
  std::string header, part;
  if (!profile.empty()) {
    part = "profile: ";
    append_ascii(part, profile);
    add_part(header, part);
  }
  for (const Row& row : rows) {
    part.clear();
    append_ascii(part, row.endpoint);
    append(part, " total=%.4g", row.total);
    for (size_t i = 0; i < row.scores.size() && i < scorers.size(); ++i) {
      part += ' ';
      append_ascii(part, scorers[i]);
      append(part, "=%.4g", row.scores[i]);
    }
    append(part, " matched=%u%s waiting=%.4g kv=", row.matched_blocks, row.told ? " (told)" : "", row.waiting);
    append_known(part, "?", row.kv_usage);
    append(part, " in-flight=%lld", static_cast<long long>(row.in_flight));
    for (size_t i = 0; i < row.terms.size() && i < terms.size(); ++i) {
      part += ' ';
      append_ascii(part, terms[i]);
      append(part, "=%.4g", row.terms[i]);
    }
    if (!add_part(header, part)) return header;
  }
  for (const auto& [stage, endpoint] : stages) {
    part = stage + ": ";
    append_ascii(part, endpoint);
    if (!add_part(header, part)) return header;
  }
  for (const auto& [endpoint, why] : excluded) {
    part.clear();
    append_ascii(part, endpoint);
    part += " excluded: " + why;
    if (!add_part(header, part)) return header;
  }
  if (shadow.empty()) return header;
  part = "shadow: ";
  append_ascii(part, shadow);
  append(part, " gain_s=%.4g", shadow_gain_seconds);
  add_part(header, part);
  return header;
}

void Explanation::append_json(std::string& out) const {
  out += "{\"profile\":";
  append_json_string(out, profile);
  append_names(out, ",\"scorers\":[", scorers);
  append_names(out, "],\"terms\":[", terms);
  out += "],\"candidates\":[";
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    out += i > 0 ? ",{\"endpoint\":" : "{\"endpoint\":";
    append_json_string(out, row.endpoint);
    append(out, ",\"total\":%.6g,\"scores\":[", row.total);
    for (size_t s = 0; s < row.scores.size(); ++s) append(out, s > 0 ? ",%.6g" : "%.6g", row.scores[s]);
    append(out, "],\"matched_blocks\":%u%s,\"waiting\":%.6g,\"kv_usage\":", row.matched_blocks,
           row.told ? ",\"matched_told\":true" : "", row.waiting);
    append_known(out, "null", row.kv_usage);
    append(out, ",\"in_flight\":%lld,\"terms\":[", static_cast<long long>(row.in_flight));
    for (size_t t = 0; t < row.terms.size(); ++t) append(out, t > 0 ? ",%.6g" : "%.6g", row.terms[t]);
    out += "]}";
  }
  out += "],\"excluded\":[";
  for (size_t i = 0; i < excluded.size(); ++i) {
    out += i > 0 ? ",{\"endpoint\":" : "{\"endpoint\":";
    append_json_string(out, excluded[i].first);
    out += ",\"reason\":";
    append_json_string(out, excluded[i].second);
    out += '}';
  }
  out += ']';
  for (size_t i = 0; i < stages.size(); ++i) {
    out += i > 0 ? ",{\"stage\":" : ",\"stages\":[{\"stage\":";
    append_json_string(out, stages[i].first);
    out += ",\"endpoint\":";
    append_json_string(out, stages[i].second);
    out += i + 1 < stages.size() ? "}" : "}]";
  }
  out += '}';
}

}  // namespace penstock::routing
