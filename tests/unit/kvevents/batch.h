// Builds batches of events as vLLM writes them, byte by byte.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::kvevents::test {

// A value in MessagePack.
inline std::string nil() {
  return "\xc0";
}
inline std::string number(uint64_t value) {
  std::string out = value < 128 ? std::string(1, static_cast<char>(value)) : "\xcf";
  for (int shift = 56; value >= 128 && shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  return out;
}
inline std::string text(std::string_view value) {
  return std::string("\xd9") + static_cast<char>(value.size()) + std::string(value);
}
inline std::string binary(std::string_view value) {
  return std::string("\xc4") + static_cast<char>(value.size()) + std::string(value);
}
inline std::string array(const std::vector<std::string>& values) {
  std::string out = {'\xdc', static_cast<char>(values.size() >> 8), static_cast<char>(values.size())};
  for (const std::string& value : values) out += value;
  return out;
}
inline std::string map(const std::vector<std::string>& values) {
  std::string out = {'\xde', static_cast<char>(values.size() / 2 >> 8), static_cast<char>(values.size() / 2)};
  for (const std::string& value : values) out += value;
  return out;
}
inline std::string numbers(const std::vector<uint64_t>& values) {
  std::vector<std::string> out;
  for (const uint64_t value : values) out.push_back(number(value));
  return array(out);
}

inline const std::string time_stamp = std::string("\xcb\x41\xd9\x00\x00\x00\x00\x00\x00", 9);

inline std::string batch(const std::vector<std::string>& events) {
  return array({time_stamp, array(events), number(0)});
}
inline std::string stored(const std::vector<uint64_t>& hashes, std::optional<uint64_t> parent,
                          const std::vector<uint64_t>& tokens, uint64_t block_size) {
  return array({text("BlockStored"), numbers(hashes), parent ? number(*parent) : nil(), numbers(tokens),
                number(block_size), nil(), text("GPU")});
}
inline std::string removed(const std::vector<uint64_t>& hashes) {
  return array({text("BlockRemoved"), numbers(hashes), text("GPU")});
}
inline std::string cleared() {
  return array({text("AllBlocksCleared")});
}

}  // namespace penstock::kvevents::test
