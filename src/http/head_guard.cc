#include "head_guard.h"

#include <algorithm>
#include <array>

#include "bytes.h"
#include "penstock/base/assert.h"

namespace penstock::http {

namespace {
// The longest method, spaces and version around a target; a longer start line is given up without its end.
constexpr size_t kStartLineExtra = 64;
constexpr size_t kMethodMax = 32;

// What a host's name may have, enough to have no two readings: no list, no userinfo, no path.
constexpr std::array<bool, 256> kHostTable = [] {
  std::array<bool, 256> table = kTokenTable;
  for (const char c : {'(', ')', ';', '='}) table[static_cast<uint8_t>(c)] = true;
  table['#'] = false;
  return table;
}();

bool is_host_char(char c) {
  return kHostTable[static_cast<uint8_t>(c)];
}

// A name or an address, then a port or none (RFC 3986, section 3.2). An empty one is allowed (RFC 9112, section 3.2).
bool is_host(std::string_view value) {
  if (value.starts_with('[')) {  // an IPv6 address
    const size_t end = value.find(']');
    if (end == std::string_view::npos || end == 1) return false;
    const std::string_view address = value.substr(1, end - 1);
    if (!std::all_of(address.begin(), address.end(), [](char c) { return c == ':' || is_host_char(c); })) return false;
    value.remove_prefix(end + 1);
    if (!value.empty() && value.front() != ':') return false;
  }
  const size_t colon = std::min(value.find(':'), value.size());
  return std::all_of(value.begin(), value.begin() + static_cast<ptrdiff_t>(colon), is_host_char) &&
         (colon == value.size() ||
          std::all_of(value.begin() + static_cast<ptrdiff_t>(colon) + 1, value.end(), is_digit));
}

// RFC 9112, section 3.2: a path, "*" for OPTIONS alone, or a URL of HTTP, without a fragment. What CONNECT names is not
// ours to judge.
bool is_target(std::string_view method, std::string_view target) {
  if (method == "CONNECT") return true;
  if (target.find('#') != std::string_view::npos) return false;
  if (target.starts_with('/')) return true;
  if (target == "*") return method == "OPTIONS";
  const size_t scheme = target.find("://");
  if (scheme == std::string_view::npos) return false;
  if (!equals_lower(target.substr(0, scheme), "http") && !equals_lower(target.substr(0, scheme), "https")) return false;
  target.remove_prefix(scheme + 3);
  const std::string_view host = target.substr(0, target.find_first_of("/?#"));
  return !host.empty() && is_host(host);
}
}  // namespace

void HeadGuard::begin(Block block) {
  *this = HeadGuard{}, block_ = block;
}

// Lines that are whole in `bytes` are judged there; all that is taken is copied once.
HeadGuard::Taken HeadGuard::take(std::string& storage, std::string_view bytes, const ParserLimits& limits) {
  PENSTOCK_ASSERT(going());
  size_t used = storage.size() > line_begin_ ? finish_line(storage, bytes, limits) : 0;
  const size_t copied = used;
  while (used < bytes.size() && going()) {
    const size_t before = storage.size() + used - copied;
    const Line first = first_line({bytes.data() + used, std::min(bytes.size() - used, room(before, limits))});
    const size_t end = before + first.text.size();
    used += first.text.size();
    if (!first.whole) {
      check_unfinished(first.text, end, limits);
      break;
    }
    line_begin_ = end;
    error_ = line(first, limits);
  }
  storage.append(bytes.substr(copied, used - copied));
  if (error_ != ParseError::none) return {used, Progress::refused};
  return {used, complete_ ? Progress::complete : Progress::more};
}

// Goes on with the line that an earlier read has begun. Returns the bytes used.
size_t HeadGuard::finish_line(std::string& storage, std::string_view bytes, const ParserLimits& limits) {
  bytes = bytes.substr(0, room(storage.size(), limits));
  const size_t end = bytes.find('\n');
  if (end != std::string_view::npos) bytes = bytes.substr(0, end + 1);
  storage.append(bytes);
  const std::string_view text = std::string_view(storage).substr(line_begin_);
  if (end == std::string_view::npos) {
    check_unfinished(text, storage.size(), limits);
  } else {
    line_begin_ = storage.size();
    error_ = line({.text = text, .whole = true}, limits);
  }
  return bytes.size();
}

HeadGuard::Line HeadGuard::first_line(std::string_view bytes) {
  size_t end = find_control(bytes);
  if (end + 1 < bytes.size() && bytes[end] == '\r' && bytes[end + 1] == '\n') {
    return {.text = {bytes.data(), end + 2}, .whole = true, .clean = true};
  }
  end = bytes.find('\n', end);
  if (end == std::string_view::npos) return {.text = bytes};
  return {.text = bytes.substr(0, end + 1), .whole = true};
}

// `text` is what there is of a line, `size` that of the block up to here.
void HeadGuard::check_unfinished(std::string_view text, size_t size, const ParserLimits& limits) {
  const bool request_line = block_ == Block::request && lines_ == 0;
  if (request_line && !text.empty() && !is_token_char(text[0])) {
    error_ = ParseError::malformed;  // a TLS hello, say: no need to wait for a line end
  } else if (room(size, limits) == 0) {
    error_ = request_line ? request_line_overflow(text, limits) : ParseError::head_too_large;
  }
}

// How many bytes may still come before the line that is being collected must have ended.
size_t HeadGuard::room(size_t size, const ParserLimits& limits) const {
  size_t limit = limits.head_bytes_max;
  if (block_ == Block::request && lines_ == 0) limit = std::min(limit, limits.uri_bytes_max + kStartLineExtra);
  return limit > size ? limit - size : 0;
}

ParseError HeadGuard::request_line_overflow(std::string_view text, const ParserLimits& limits) {
  const size_t space = text.substr(0, kMethodMax).find(' ');
  if (space == std::string_view::npos) return ParseError::malformed;
  return text.size() - space - 1 > limits.uri_bytes_max ? ParseError::uri_too_long : ParseError::head_too_large;
}

ParseError HeadGuard::line(const Line& whole, const ParserLimits& limits) {
  std::string_view text = whole.text;
  const bool start = lines_ == 0 && block_ != Block::trailers;
  if (start && block_ == Block::request && !is_token_char(text[0])) return ParseError::malformed;
  if (text.size() < 2 || text[text.size() - 2] != '\r') return ParseError::smuggling;
  text.remove_suffix(2);
  if (text.empty() && (lines_ > 0 || block_ == Block::trailers)) {
    complete_ = true;
    return end();
  }
  ++lines_;
  const size_t fields = block_ == Block::trailers ? lines_ : lines_ - 1;
  if (fields > limits.headers_max) return ParseError::head_too_large;
  if (!start) return field(text, whole.clean, limits);
  return block_ == Block::request ? request_line(text, limits) : status_line(text);
}

ParseError HeadGuard::request_line(std::string_view text, const ParserLimits& limits) {
  const size_t first = text.find(' ');
  if (first == std::string_view::npos || first > kMethodMax) return ParseError::malformed;
  if (!is_token(text.substr(0, first))) return ParseError::malformed;
  const std::string_view rest = text.substr(first + 1);
  const size_t second = rest.find(' ');
  const std::string_view target = rest.substr(0, second);
  if (target.size() > limits.uri_bytes_max) return ParseError::uri_too_long;
  if (target.empty() || second == std::string_view::npos) return ParseError::malformed;
  const auto visible = [](char c) { return c > ' ' && c < 0x7f; };
  if (!std::all_of(target.begin(), target.end(), visible)) return ParseError::malformed;
  if (const ParseError error = version(rest.substr(second + 1)); error != ParseError::none) return error;
  return is_target(text.substr(0, first), target) ? ParseError::none : ParseError::malformed;
}

ParseError HeadGuard::status_line(std::string_view text) {
  const size_t space = text.find(' ');
  if (const ParseError error = version(text.substr(0, space)); error != ParseError::none) return error;
  if (space == std::string_view::npos) return ParseError::malformed;
  const std::string_view rest = text.substr(space + 1);
  if (rest.size() < 3 || !is_digit(rest[0]) || !is_digit(rest[1]) || !is_digit(rest[2])) return ParseError::malformed;
  if (rest[0] == '0' || (rest.size() > 3 && rest[3] != ' ')) return ParseError::malformed;
  return has_control(rest) ? ParseError::malformed : ParseError::none;
}

ParseError HeadGuard::version(std::string_view text) {
  if (text.size() != 8 || text.substr(0, 5) != "HTTP/" || !is_digit(text[5]) || text[6] != '.' || !is_digit(text[7])) {
    return ParseError::malformed;
  }
  if (text[5] != '1' || text[7] > '1') return ParseError::unsupported_version;
  framing_.minor_version = static_cast<uint8_t>(text[7] - '0');
  return ParseError::none;
}

ParseError HeadGuard::field(std::string_view text, bool clean, const ParserLimits& limits) {
  if (is_space(text[0])) return ParseError::smuggling;  // obs-fold, or a first field that hides behind the start line
  const size_t colon = find_token_end(text);
  if (colon == text.size() || colon == 0) return ParseError::malformed;
  if (text[colon] != ':') return is_space(text[colon]) ? ParseError::smuggling : ParseError::malformed;
  const std::string_view name(text.data(), colon), value(text.data() + colon + 1, text.size() - colon - 1);
  if (!clean && has_control(value)) return ParseError::smuggling;
  switch (name.size()) {  // a name is compared with the one that is as long
    case 4:
      return equals_lower(name, "host") ? host(trim(value)) : ParseError::none;
    case 10:
      return equals_lower(name, "connection") ? connection(value, limits) : ParseError::none;
    case 14:
      return equals_lower(name, "content-length") ? content_length(trim(value)) : ParseError::none;
    case 17:
      return equals_lower(name, "transfer-encoding") ? transfer_encoding(trim(value)) : ParseError::none;
    default:
      return ParseError::none;
  }
}

// A trailer that speaks of the host or of framing comes too late to be meant well.
ParseError HeadGuard::host(std::string_view value) {
  if (block_ == Block::trailers) return ParseError::smuggling;
  if (block_ == Block::response) return ParseError::none;
  if (++hosts_ > 1) return ParseError::smuggling;
  return is_host(value) ? ParseError::none : ParseError::malformed;
}

ParseError HeadGuard::connection(std::string_view value, const ParserLimits& limits) {
  connection_bytes_ += value.size();
  return connection_bytes_ > limits.connection_bytes_max ? ParseError::head_too_large : ParseError::none;
}

ParseError HeadGuard::content_length(std::string_view value) {
  if (block_ == Block::trailers || framing_.has_content_length || coding_) return ParseError::smuggling;
  framing_.has_content_length = true;
  return read_length(value, framing_.content_length);
}

ParseError HeadGuard::transfer_encoding(std::string_view value) {
  if (block_ == Block::trailers || coding_ || framing_.has_content_length || framing_.minor_version == 0)
    return ParseError::smuggling;
  coding_ = true;
  if (equals_lower(value, "chunked")) {
    framing_.chunked = true;
    return ParseError::none;
  }
  // Some other coding is honest as long as its end can be found: "chunked" last and once.
  size_t codings = 0, chunked = 0;
  bool last_is_chunked = false;
  for_each_in_list(value, [&](std::string_view token) {
    last_is_chunked = equals_lower(token, "chunked");
    chunked += last_is_chunked;
    ++codings;
  });
  if (codings == 0 || chunked > 1 || (chunked == 1 && !last_is_chunked)) return ParseError::smuggling;
  return codings == 1 && chunked == 1 ? ParseError::smuggling : ParseError::unsupported_coding;  // ", chunked"
}

ParseError HeadGuard::end() const {
  const bool needs_host = block_ == Block::request && framing_.minor_version == 1;
  return needs_host && hosts_ == 0 ? ParseError::malformed : ParseError::none;
}

}  // namespace penstock::http
