#include "penstock/net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <charconv>
#include <cstring>

#include "penstock/base/text.h"

namespace penstock::net {
namespace {

// Decimal digits only: from_chars would accept a sign for signed types and stop at trailing text.
bool parse_port(std::string_view text, uint16_t& port) {
  if (text.empty() || text.size() > 5) return false;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > 65535) return false;
  port = static_cast<uint16_t>(value);
  return true;
}

Message not_an_address(std::string_view text) {
  return Message{"'" + std::string(text) + "' is not IP:PORT (such as 127.0.0.1:8080, [::1]:8080 or :8080)"};
}

}  // namespace

Address::Address(const sockaddr* address, socklen_t length) {
  if (length > sizeof storage_) return;
  std::memcpy(&storage_, address, length);
  size_ = length;
}

Result<Address> Address::parse(std::string_view text) {
  const Authority parts = split_authority(text);
  uint16_t port = 0;
  if (!parse_port(parts.port, port)) return not_an_address(text);
  const std::string copy(without_brackets(parts.host));
  const bool bracketed = copy.size() != parts.host.size();
  if (copy.find('\0') != std::string::npos) return not_an_address(text);

  if (bracketed) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    if (inet_pton(AF_INET6, copy.c_str(), &v6.sin6_addr) != 1) return not_an_address(text);
    return Address(reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (!copy.empty() && inet_pton(AF_INET, copy.c_str(), &v4.sin_addr) != 1) return not_an_address(text);
  return Address(reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
}

Result<Address> Address::resolve(std::string_view host, uint16_t port) {
  std::string name(host);
  if (name.size() >= 2 && name.front() == '[' && name.back() == ']') name = name.substr(1, name.size() - 2);
  if (name.empty() || name.find('\0') != std::string::npos) return Message{"cannot resolve an empty host name"};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(name.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) return Message{"cannot resolve '" + name + "': " + gai_strerror(error)};
  const Address first(found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return first;
}

Address Address::local_of(int fd) {
  Address address;
  socklen_t size = sizeof address.storage_;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage_), &size) != 0) return {};
  address.size_ = size;
  return address;
}

Address Address::peer_of(int fd) {
  Address address;
  socklen_t size = sizeof address.storage_;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage_), &size) != 0) return {};
  address.size_ = size;
  return address;
}

uint16_t Address::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
  return 0;
}

std::string Address::ip_string() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr, text, sizeof text);
  } else if (family() == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr, text, sizeof text);
  }
  return text;
}

std::string Address::to_string() const {
  if (family() == AF_INET) return ip_string() + ":" + std::to_string(port());
  if (family() == AF_INET6) return "[" + ip_string() + "]:" + std::to_string(port());
  return "";
}

// Compares what names an end of a connection; padding and unused fields do not count.
bool Address::operator==(const Address& other) const {
  if (empty() || other.empty()) return empty() == other.empty();
  if (family() != other.family()) return false;
  if (family() == AF_INET) {
    const auto& a = *reinterpret_cast<const sockaddr_in*>(&storage_);
    const auto& b = *reinterpret_cast<const sockaddr_in*>(&other.storage_);
    return a.sin_port == b.sin_port && a.sin_addr.s_addr == b.sin_addr.s_addr;
  }
  if (family() == AF_INET6) {
    const auto& a = *reinterpret_cast<const sockaddr_in6*>(&storage_);
    const auto& b = *reinterpret_cast<const sockaddr_in6*>(&other.storage_);
    return a.sin6_port == b.sin6_port && a.sin6_scope_id == b.sin6_scope_id &&
           std::memcmp(&a.sin6_addr, &b.sin6_addr, sizeof a.sin6_addr) == 0;
  }
  return size_ == other.size_ && std::memcmp(&storage_, &other.storage_, size_) == 0;
}

}  // namespace penstock::net
