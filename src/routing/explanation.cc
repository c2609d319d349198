#include <cmath>
#include <cstdarg>
#include <cstdio>

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

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      append(out, "\\u%04x", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += '"';
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

std::string Explanation::to_header() const {
  std::string header, part;
  for (const Row& row : rows) {
    part.clear();
    append_ascii(part, row.endpoint);
    append(part, " total=%.4g", row.total);
    for (size_t i = 0; i < row.scores.size() && i < scorers.size(); ++i) {
      part += ' ';
      append_ascii(part, scorers[i]);
      append(part, "=%.4g", row.scores[i]);
    }
    append(part, " matched=%u waiting=%.4g kv=", row.matched_blocks, row.waiting);
    append_known(part, "?", row.kv_usage);
    append(part, " in-flight=%lld", static_cast<long long>(row.in_flight));
    if (!add_part(header, part)) return header;
  }
  for (const auto& [endpoint, why] : excluded) {
    part.clear();
    append_ascii(part, endpoint);
    part += " excluded: " + why;
    if (!add_part(header, part)) return header;
  }
  return header;
}

void Explanation::append_json(std::string& out) const {
  out += "{\"scorers\":[";
  for (size_t i = 0; i < scorers.size(); ++i) {
    if (i > 0) out += ',';
    append_json_string(out, scorers[i]);
  }
  out += "],\"candidates\":[";
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    out += i > 0 ? ",{\"endpoint\":" : "{\"endpoint\":";
    append_json_string(out, row.endpoint);
    append(out, ",\"total\":%.6g,\"scores\":[", row.total);
    for (size_t s = 0; s < row.scores.size(); ++s) append(out, s > 0 ? ",%.6g" : "%.6g", row.scores[s]);
    append(out, "],\"matched_blocks\":%u,\"waiting\":%.6g,\"kv_usage\":", row.matched_blocks, row.waiting);
    append_known(out, "null", row.kv_usage);
    append(out, ",\"in_flight\":%lld}", static_cast<long long>(row.in_flight));
  }
  out += "],\"excluded\":[";
  for (size_t i = 0; i < excluded.size(); ++i) {
    out += i > 0 ? ",{\"endpoint\":" : "{\"endpoint\":";
    append_json_string(out, excluded[i].first);
    out += ",\"reason\":";
    append_json_string(out, excluded[i].second);
    out += '}';
  }
  out += "]}";
}

}  // namespace penstock::routing
