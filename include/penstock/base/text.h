// Text put together from pieces. Pure.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

namespace penstock {

// Length of the well-formed UTF-8 character at the front of `text`; 0 when there is none.
size_t utf8_length(std::string_view text);
// Valid UTF-8 without control characters: can be the value of a metric label and stand in a line of a log.
bool is_label_text(std::string_view text);

// Appends `text` as a JSON string, with its quotes. Control characters are escaped; each byte that is no part of
// well-formed UTF-8 becomes U+FFFD, so that any text of a peer makes valid JSON.
void append_json_string(std::string& out, std::string_view text);

// "10.0.0.7:8000", "[fd00::1]:8000": what stands in a URL. `host` is a name or an address without brackets.
std::string authority_of(std::string_view host, uint16_t port);

// Appends all pieces; `out` grows once. For paths where a call per piece would count. None of them may point into
// `out`.
inline void append_all(std::string& out, std::initializer_list<std::string_view> pieces) {
  size_t size = out.size();
  for (const std::string_view piece : pieces) size += piece.size();
  const size_t before = out.size();
  // The capacity grows geometrically, as with append().
  if (size > out.capacity()) out.reserve(size > 2 * out.capacity() ? size : 2 * out.capacity());
  out.resize_and_overwrite(size, [&](char* bytes, size_t) {
    char* at = bytes + before;
    for (const std::string_view piece : pieces) {
      if (piece.empty()) continue;  // its data may be null
      std::memcpy(at, piece.data(), piece.size());
      at += piece.size();
    }
    return size;
  });
}

}  // namespace penstock
