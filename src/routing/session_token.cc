#include "penstock/routing/session_token.h"

#include <cstdint>

namespace penstock::routing {
namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Gives the characters of the token to `take` one by one, as long as it returns true.
template <typename Take>
void encode(std::string_view text, const Take& take) {
  for (size_t at = 0; at < text.size(); at += 3) {
    const size_t bytes = text.size() - at < 3 ? text.size() - at : 3;
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i) {
      bits = bits << 8 | (i < bytes ? static_cast<unsigned char>(text[at + i]) : 0);
    }
    for (size_t i = 0; i < 4; ++i) {
      if (!take(i <= bytes ? alphabet[bits >> (18 - 6 * i) & 63] : '=')) return;
    }
  }
}

}  // namespace

void append_session_token(std::string& out, std::string_view endpoint_name) {
  encode(endpoint_name, [&out](char c) {
    out += c;
    return true;
  });
}

bool is_session_token(std::string_view token, std::string_view endpoint_name) {
  if (token.empty() || token.size() != (endpoint_name.size() + 2) / 3 * 4) return false;
  size_t at = 0;
  encode(endpoint_name, [&](char c) { return at < token.size() && token[at] == c && ++at > 0; });
  return at == token.size();
}

}  // namespace penstock::routing
