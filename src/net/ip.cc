#include "penstock/net/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>
#include <cstring>

namespace penstock::net {
namespace {

constexpr uint64_t v4_prefix = uint64_t{0xffff} << 32;

IpAddress from_bytes(const unsigned char (&bytes)[16]) {
  IpAddress out;
  for (size_t i = 0; i < 8; ++i) {
    out.high = out.high << 8 | bytes[i];
    out.low = out.low << 8 | bytes[i + 8];
  }
  return out;
}

IpAddress from_v4(const in_addr& v4) {
  return {.high = 0, .low = v4_prefix | ntohl(v4.s_addr)};
}

// The address without brackets and port.
std::string_view bare(std::string_view text) {
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    return end == std::string_view::npos ? std::string_view() : text.substr(1, end - 1);
  }
  const size_t colon = text.find(':');
  const bool port = colon != std::string_view::npos && text.find(':', colon + 1) == std::string_view::npos;
  return port ? text.substr(0, colon) : text;
}

// The highest `bits` of 64.
uint64_t mask_of(unsigned bits) {
  return bits == 0 ? 0 : ~uint64_t{0} << (64 - bits);
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string_view host = bare(text);
  char copy[INET6_ADDRSTRLEN];
  if (host.empty() || host.size() >= sizeof copy || host.find('\0') != std::string_view::npos) return std::nullopt;
  std::memcpy(copy, host.data(), host.size());
  copy[host.size()] = '\0';
  if (in_addr v4; inet_pton(AF_INET, copy, &v4) == 1) return from_v4(v4);
  if (in6_addr v6; inet_pton(AF_INET6, copy, &v6) == 1) return from_bytes(v6.s6_addr);
  return std::nullopt;
}

std::optional<IpAddress> IpAddress::of(const Address& address) {
  if (address.family() == AF_INET) return from_v4(reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr);
  if (address.family() == AF_INET6) {
    return from_bytes(reinterpret_cast<const sockaddr_in6*>(address.data())->sin6_addr.s6_addr);
  }
  return std::nullopt;
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (is_v4()) {
    const in_addr v4{htonl(static_cast<uint32_t>(low))};
    inet_ntop(AF_INET, &v4, text, sizeof text);
    return text;
  }
  in6_addr v6{};
  for (size_t i = 0; i < 8; ++i) {
    v6.s6_addr[i] = static_cast<unsigned char>(high >> (56 - 8 * i));
    v6.s6_addr[i + 8] = static_cast<unsigned char>(low >> (56 - 8 * i));
  }
  inet_ntop(AF_INET6, &v6, text, sizeof text);
  return text;
}

std::optional<IpRange> IpRange::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string_view host = text.substr(0, slash);
  if (bare(host) != host) return std::nullopt;  // no port, no brackets
  const auto first = IpAddress::parse(host);
  if (!first) return std::nullopt;
  const bool v4 = host.find(':') == std::string_view::npos;
  unsigned bits = v4 ? 32 : 128;
  if (slash != std::string_view::npos) {
    const std::string_view length = text.substr(slash + 1);
    unsigned given = 0;
    const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), given);
    if (error != std::errc{} || end != length.data() + length.size() || given > bits) return std::nullopt;
    bits = given;
  }
  const IpRange range{.first = *first, .bits = static_cast<uint8_t>(v4 ? bits + 96 : bits)};
  const uint64_t high = mask_of(range.bits < 64 ? range.bits : 64),
                 low = mask_of(range.bits > 64 ? range.bits - 64u : 0);
  if ((first->high & ~high) != 0 || (first->low & ~low) != 0) return std::nullopt;
  return range;
}

bool IpRange::contains(const IpAddress& address) const {
  const uint64_t high = mask_of(bits < 64 ? bits : 64), low = mask_of(bits > 64 ? bits - 64u : 0);
  return ((address.high ^ first.high) & high) == 0 && ((address.low ^ first.low) & low) == 0;
}

IpRanges::IpRanges(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (const auto range = IpRange::parse(text)) ranges_.push_back(*range);
  }
}

}  // namespace penstock::net
