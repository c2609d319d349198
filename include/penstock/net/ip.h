// IP addresses without a port, as values, and ranges of them. IPv4 addresses are kept as ::ffff:a.b.c.d, so that a
// client is the same one whether it was accepted by an IPv4 or by an IPv6 listener. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/net/address.h"

namespace penstock::net {

struct IpAddress {
  uint64_t high = 0, low = 0;  // the sixteen bytes of an IPv6 address as two numbers

  // "192.0.2.1", "2001:db8::1", "[2001:db8::1]"; a port behind the address is ignored ("192.0.2.1:80", "[::1]:80").
  static std::optional<IpAddress> parse(std::string_view text);
  static std::optional<IpAddress> of(const Address& address);  // empty: neither IPv4 nor IPv6
  bool is_v4() const { return high == 0 && low >> 32 == 0xffff; }
  std::string to_string() const;
  // Who counts as one client: an IPv4 address, or the /64 that one subscriber of an IPv6 network gets.
  uint64_t client() const { return is_v4() ? low : high; }
  bool operator==(const IpAddress&) const = default;
};

// "10.0.0.0/8", "2001:db8::/32", or one address.
struct IpRange {
  IpAddress first;
  uint8_t bits = 128;  // of the 128

  // Empty: not a range. Bits behind the prefix must be zero, as in most of these a wrong address is a mistake.
  static std::optional<IpRange> parse(std::string_view text);
  bool contains(const IpAddress& address) const;
};

class IpRanges {
 public:
  IpRanges() = default;
  // Texts that are not ranges are left out: config has checked them.
  explicit IpRanges(const std::vector<std::string>& texts);
  bool contains(const IpAddress& address) const {
    for (const IpRange& range : ranges_) {
      if (range.contains(address)) return true;
    }
    return false;
  }
  bool empty() const { return ranges_.empty(); }

 private:
  std::vector<IpRange> ranges_;
};

}  // namespace penstock::net
