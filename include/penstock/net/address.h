// A socket address (IPv4 or IPv6 with port). A value; cheap to copy.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/base/result.h"

namespace penstock::net {

class Address {
 public:
  Address() = default;
  Address(const sockaddr* address, socklen_t length);

  // "127.0.0.1:8080", "[::1]:8080", ":8080" (any address). Numeric only: never blocks.
  static Result<Address> parse(std::string_view text);
  // Also resolves names (getaddrinfo: blocks; start-up and control thread only).
  static Result<Address> resolve(std::string_view host, uint16_t port);
  // The local or remote end of a socket; an empty Address when the kernel says no.
  static Address local_of(int fd);
  static Address peer_of(int fd);

  const sockaddr* data() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  int family() const { return storage_.ss_family; }
  uint16_t port() const;
  bool empty() const { return size_ == 0; }
  std::string to_string() const;  // "1.2.3.4:80", "[::1]:80"
  std::string ip_string() const;  // without the port or brackets
  bool operator==(const Address& other) const;

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

}  // namespace penstock::net
