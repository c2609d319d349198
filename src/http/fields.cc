#include "penstock/http/fields.h"

#include "bytes.h"
#include "penstock/base/text.h"
#include "penstock/http/writer.h"

namespace penstock::http {

void Fields::add(std::string_view name, std::string_view value) {
  HeadWriter(lines_).field(name, value);
}

void Fields::add(std::string_view name, uint64_t value) {
  HeadWriter(lines_).field(name, value);
}

void Fields::set(std::string_view name, std::string_view value) {
  remove(name);
  add(name, value);
}

void Fields::remove(std::string_view name) {
  for (size_t at = 0; at < lines_.size();) {
    const Line line = first_line(std::string_view(lines_).substr(at));
    if (same_ignoring_case(line.name, name)) lines_.erase(at, line.size);
    else at += line.size;
  }
}

std::optional<std::string_view> Fields::get(std::string_view name) const {
  for (std::string_view rest = lines_; !rest.empty();) {
    const Line line = first_line(rest);
    if (same_ignoring_case(line.name, name)) return line.value;
    rest.remove_prefix(line.size);
  }
  return std::nullopt;
}

// Received lines may have any white space around their values, and end in a bare line feed.
Fields::Line Fields::first_line(std::string_view lines) {
  const size_t size = lines.find('\n') + 1;
  const std::string_view line = lines.substr(0, size);
  const size_t colon = line.find(':');
  return {.name = line.substr(0, colon), .value = trimmed(line.substr(colon + 1)), .size = size};
}

}  // namespace penstock::http
