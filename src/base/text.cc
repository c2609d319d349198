#include "penstock/base/text.h"

#include <cstdio>

namespace penstock {

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string authority_of(std::string_view host, uint16_t port) {
  const bool ipv6 = host.find(':') != std::string_view::npos;
  std::string out;
  out.append(ipv6 ? "[" : "").append(host).append(ipv6 ? "]:" : ":").append(std::to_string(port));
  return out;
}

}  // namespace penstock
