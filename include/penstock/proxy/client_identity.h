// Who a client is, where proxies stand in front of the gateway, and what an answer may tell it about the inside. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "penstock/http/head.h"
#include "penstock/net/ip.h"

namespace penstock::proxy {

// To whom the gateway tells something about the inside: which endpoint answered, and why.
enum class ShownTo : uint8_t { everyone, trusted, nobody };

struct ClientTrust {
  net::IpRanges proxies;  // trusted_proxies: whose X-Forwarded-For is believed
  net::IpRanges trusted;  // identity.trusted
  ShownTo endpoint_header = ShownTo::everyone, explain = ShownTo::everyone;
};

struct ClientIdentity {
  // The client's address: the peer's, or what a trusted proxy says; empty: not known.
  std::optional<net::IpAddress> address;
  bool from_proxy = false;  // the peer is a trusted proxy
  bool forwarded = false;   // `address` is one that a trusted proxy says
  bool trusted = false;     // it is one of identity.trusted

  bool may_see(ShownTo shown) const { return shown == ShownTo::everyone || (shown == ShownTo::trusted && trusted); }
};

// Of the addresses in X-Forwarded-For each proxy appends that of its own peer, so that they are read from the right:
// the client is the first one that is no trusted proxy. From other peers the field is not believed; and as it says that
// there is a proxy in between, its client is then nobody whom we could trust.
ClientIdentity identify(const std::optional<net::IpAddress>& peer, const http::Head& head, const ClientTrust& trust);

}  // namespace penstock::proxy
