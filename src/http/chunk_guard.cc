#include "chunk_guard.h"

#include <algorithm>

#include "bytes.h"

namespace penstock::http {

namespace {
constexpr uint64_t kChunkMax = uint64_t{1} << 60;
constexpr uint8_t kDigitsMax = 16;  // leading zeros included

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}
}  // namespace

ChunkGuard::Piece ChunkGuard::next(std::string_view bytes) {
  if (state_ == State::data) {
    const size_t size = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
    left_ -= size;
    if (left_ == 0) state_ = State::data_cr;
    return {Kind::data, size};
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    const Kind kind = step(bytes[i]);
    if (kind == Kind::data) return {Kind::framing, i + 1};
    if (kind != Kind::framing || state_ == State::size_first) return {kind, i + 1};
  }
  return {Kind::framing, bytes.size()};
}

ChunkGuard::Whole ChunkGuard::whole(std::string_view bytes) const {
  constexpr size_t digits_max = 7, line_end = 2;
  if (state_ != State::size_first) return {};
  const auto is_line_end = [&](size_t at) { return bytes[at] == '\r' && bytes[at + 1] == '\n'; };
  size_t size = 0, at = 0;
  for (int value; at < bytes.size() && (value = hex_value(bytes[at])) >= 0; ++at) {
    size = size * 16 + static_cast<size_t>(value);
    if (at == digits_max) return {};
  }
  if (size == 0 || bytes.size() - at < size + 2 * line_end) return {};
  if (!is_line_end(at) || !is_line_end(at + line_end + size)) return {};
  return {at + line_end, size};
}

// One byte of framing; `data` when chunk data begins behind it.
ChunkGuard::Kind ChunkGuard::step(char c) {
  switch (state_) {
    case State::size_first:
      left_ = digits_ = 0;
      state_ = State::size;
      return digit(c) ? Kind::framing : Kind::refused;
    case State::size:
      if (c == '\r') {
        state_ = State::size_end;
      } else if (c == ';') {
        state_ = State::extension;
      } else if (!digit(c)) {
        return Kind::refused;
      }
      return Kind::framing;
    case State::extension:
      if (c == '\r') {
        state_ = State::size_end;
        return Kind::framing;
      }
      if (++extension_bytes_ > extension_bytes_max) return Kind::refused;
      return c == '\t' || (c >= ' ' && c < 0x7f) ? Kind::framing : Kind::refused;
    case State::size_end:
      if (c != '\n') return Kind::refused;
      state_ = left_ > 0 ? State::data : State::size_first;
      return left_ > 0 ? Kind::data : Kind::last;
    case State::data_cr:
      state_ = State::data_end;
      return c == '\r' ? Kind::framing : Kind::refused;
    case State::data_end:
      state_ = State::size_first;
      return c == '\n' ? Kind::framing : Kind::refused;
    case State::data:
      break;
  }
  return Kind::refused;
}

bool ChunkGuard::digit(char c) {
  const int value = hex_value(c);
  if (value < 0) return false;
  left_ = left_ * 16 + static_cast<uint64_t>(value);
  return ++digits_ <= kDigitsMax && left_ <= kChunkMax;
}

}  // namespace penstock::http
