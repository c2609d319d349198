#include "penstock/http/websocket.h"

#include <openssl/evp.h>

#include <algorithm>

#include "bytes.h"
#include "penstock/base/text.h"

namespace penstock::http {

namespace {

constexpr std::string_view key_field = "sec-websocket-key", accept_field = "sec-websocket-accept";
constexpr std::string_view accept_text = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455, section 1.3
constexpr uint8_t close_opcode = 8;

// How often the fields of this kind name `wanted`, and how often something else.
struct Named {
  size_t wanted = 0, others = 0;
};
Named named(const Head& head, Field field, std::string_view wanted) {
  Named found;
  for (const Header& header : head.headers()) {
    if (header.field != field) continue;
    for_each_in_list(header.value, [&](std::string_view member) {
      if (same_ignoring_case(member, wanted)) ++found.wanted;
      else if (!member.empty()) ++found.others;
    });
  }
  return found;
}

// The value of the only field of this name; "": there is none, or there are several.
std::string_view only(const Head& head, std::string_view name) {
  std::string_view value;
  size_t count = 0;
  for (const Header& header : head.headers()) {
    if (header.field != Field::other || !same_ignoring_case(header.name, name)) continue;
    value = header.value;
    ++count;
  }
  return count == 1 ? value : std::string_view();
}

}  // namespace

bool asks_for_websocket(const Head& request) {
  if (!request.upgrade || request.method != Method::get || request.minor_version < 1) return false;  // the usual case
  if (request.chunked || request.has_content_length) return false;
  return named(request, Field::upgrade, "websocket").wanted > 0 && !only(request, key_field).empty();
}

bool accepts_websocket(const Head& answer, std::string_view key) {
  if (answer.status != 101 || key.empty() || answer.chunked || answer.has_content_length) return false;
  const Named protocols = named(answer, Field::upgrade, "websocket");
  if (protocols.wanted != 1 || protocols.others != 0) return false;
  return named(answer, Field::connection, "upgrade").wanted > 0 && only(answer, accept_field) == websocket_accept(key);
}

std::string websocket_accept(std::string_view key) {
  std::string text(key);
  text += accept_text;
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash;
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), hash.data(), &size, EVP_sha1(), nullptr) != 1) return {};
  std::array<unsigned char, EVP_MAX_MD_SIZE * 2> base64;
  const int length = EVP_EncodeBlock(base64.data(), hash.data(), static_cast<int>(size));
  return {reinterpret_cast<const char*>(base64.data()), static_cast<size_t>(length)};
}

// ---- frames (RFC 6455, section 5.2) ----

void WebSocketFrames::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (payload_left_ > 0) {
      const size_t passed = static_cast<size_t>(std::min<uint64_t>(payload_left_, bytes.size()));
      payload_left_ -= passed;
      bytes.remove_prefix(passed);
      continue;
    }
    head_byte(static_cast<uint8_t>(bytes.front()));
    bytes.remove_prefix(1);
  }
}

void WebSocketFrames::head_byte(uint8_t byte) {
  head_[taken_++] = byte;
  if (taken_ == 1) closed_ |= (byte & 0x0f) == close_opcode;
  const uint8_t length = head_[1] & 0x7f;
  const size_t length_bytes = taken_ < 2 || length < 126 ? 0 : length == 126 ? 2 : 8;
  if (taken_ == 2) wanted_ = static_cast<uint8_t>(2 + length_bytes + ((byte & 0x80) != 0 ? 4 : 0));
  if (taken_ < wanted_) return;
  payload_left_ = length_bytes == 0 ? length : 0;
  for (size_t i = 0; i < length_bytes; ++i) payload_left_ = payload_left_ << 8 | head_[2 + i];
  taken_ = 0;
  wanted_ = 2;
}

std::array<char, 4> websocket_close(WebSocketClose why) {
  const auto code = static_cast<uint16_t>(why);
  return {static_cast<char>(0x88), 2, static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
}

}  // namespace penstock::http
