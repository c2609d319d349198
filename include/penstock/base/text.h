// Text put together from pieces. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

// ASCII letters alone have a case, whatever the locale.
constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}
constexpr bool same_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

// Length of the well-formed UTF-8 character at the front of `text`; 0 when there is none.
size_t utf8_length(std::string_view text);
// Valid UTF-8 without control characters: can be the value of a metric label and stand in a line of a log.
bool is_label_text(std::string_view text);

// Appends `text` as a JSON string, with its quotes. Control characters are escaped; each byte that is no part of
// well-formed UTF-8 becomes U+FFFD, so that any text of a peer makes valid JSON.
void append_json_string(std::string& out, std::string_view text);

// `text`, or its first `longest` bytes, between two marks: how a message cites what somebody wrote. Nothing is escaped.
// (A function of the name `quoted` would lose to std::quoted wherever <iomanip> is included.)
std::string in_quotes(std::string_view text, size_t longest = std::string_view::npos, char mark = '"');

// Without the spaces, tabs and line ends around it.
constexpr std::string_view trimmed(std::string_view text) {
  constexpr std::string_view space = " \t\r\n";
  const size_t begin = std::min(text.find_first_not_of(space), text.size());
  return text.substr(begin, text.find_last_not_of(space) + 1 - begin);
}

// The texts of a range, one after the other with `separator` between two of them.
template <typename Range>
std::string joined(const Range& texts, std::string_view separator) {
  std::string out;
  for (bool first = true; const std::string_view text : texts) {
    if (!first) out += separator;
    out += text;
    first = false;
  }
  return out;
}

// The word in `words` that `text` was probably meant to be, a third of it wrong at most, or "".
std::string closest(std::string_view text, const std::vector<std::string_view>& words);

// "10.0.0.7:8000", "[fd00::1]:8000": what stands in a URL. `host` is a name or an address without brackets.
std::string authority_of(std::string_view host, uint16_t port);
// The parts of one, as they are written: the port is what stands behind the last colon that is not within the brackets
// of an IPv6 address. Without a port the host is all of the text.
struct Authority {
  std::string_view host, port;
};
Authority split_authority(std::string_view text);
std::string_view without_brackets(std::string_view host);

namespace detail {
// A literal's size is known to the compiler, so that copying it is a move or two.
template <size_t N>
constexpr size_t piece_size(const char (&)[N]) {
  return N - 1;
}
constexpr size_t piece_size(std::string_view piece) {
  return piece.size();
}
template <size_t N>
inline char* put_piece(char* at, const char (&literal)[N]) {
  std::memcpy(at, literal, N - 1);
  return at + N - 1;
}
inline char* put_piece(char* at, std::string_view piece) {
  if (piece.empty()) return at;  // its data may be null
  std::memcpy(at, piece.data(), piece.size());
  return at + piece.size();
}
}  // namespace detail

// What to = text does, which is a call into the C++ library and there into another. For paths where that would count.
// `text` must not point into `to`.
inline void copy_text(std::string& to, std::string_view text) {
  to.resize_and_overwrite(text.size(), [text](char* bytes, size_t) {  // the second may be more than was asked for
    if (!text.empty()) std::memcpy(bytes, text.data(), text.size());  // its data may be null
    return text.size();
  });
}

// Appends all pieces, literals and what converts to a string_view (no other arrays); `out` grows once. For paths where
// a call per piece would count. None of them may point into `out`.
template <typename... Pieces>
inline void append_all(std::string& out, const Pieces&... pieces) {
  const size_t before = out.size(), size = (before + ... + detail::piece_size(pieces));
  // The capacity grows geometrically, as with append().
  if (size > out.capacity()) out.reserve(size > 2 * out.capacity() ? size : 2 * out.capacity());
  out.resize_and_overwrite(size, [&](char* bytes, size_t) {
    char* at = bytes + before;
    ((at = detail::put_piece(at, pieces)), ...);
    return size;
  });
}

}  // namespace penstock
