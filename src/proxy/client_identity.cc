#include "penstock/proxy/client_identity.h"

#include <ranges>

#include "penstock/base/text.h"

namespace penstock::proxy {

namespace {

// Walks the values of X-Forwarded-For from the right. What cannot be read ends the walk: whoever wrote what stands
// before it is not known to be trusted.
void follow(ClientIdentity& who, const http::Head& head, const net::IpRanges& proxies) {
  for (const http::Header& header : std::views::reverse(head.headers())) {
    if (header.field != http::Field::x_forwarded_for) continue;
    for (std::string_view rest = header.value; !rest.empty();) {
      const size_t comma = rest.rfind(',');
      const std::string_view last = comma == std::string_view::npos ? rest : rest.substr(comma + 1);
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(0, comma);
      const auto address = net::IpAddress::parse(trimmed(last));
      if (!address) return;
      who.address = address;
      who.forwarded = true;
      if (!proxies.contains(*address)) return;
    }
  }
}

}  // namespace

ClientIdentity identify(const std::optional<net::IpAddress>& peer, const http::Head& head, const ClientTrust& trust) {
  ClientIdentity who{.address = peer};
  if (!peer) return who;
  who.from_proxy = trust.proxies.contains(*peer);
  if (who.from_proxy) follow(who, head, trust.proxies);
  const bool trusts = trust.trusted.contains(*who.address);
  who.trusted = trusts && (who.from_proxy || !head.has(http::Field::x_forwarded_for));
  return who;
}

}  // namespace penstock::proxy
