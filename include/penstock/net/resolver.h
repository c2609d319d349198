// Addresses of host names, found without blocking: a name server that does not answer stops nobody. The control thread
// asks; shards know numeric addresses only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/base/time.h"
#include "penstock/net/address.h"
#include "penstock/net/event_loop.h"

namespace penstock::net {

struct HostAddresses {
  // Without ports, no two alike, the one to be preferred first (RFC 6724: what this host can reach comes before what it
  // cannot). Never empty, and none that names no host (0.0.0.0, ::, multicast).
  std::vector<Address> addresses;
  Duration ttl{};  // of the record that expires first; 0: from /etc/hosts
};

// One question under way. Destroying it withdraws the question.
class Lookup {
 public:
  virtual ~Lookup() = default;
};

class Resolver {
 public:
  using Answer = std::function<void(const Result<HostAddresses>&)>;
  virtual ~Resolver() = default;
  // `answer` is called once, never from inside this call, unless the lookup is destroyed before; it may destroy it.
  virtual std::unique_ptr<Lookup> look_up(const std::string& host, Answer answer) = 0;
};

struct DnsOptions {
  std::vector<std::string> servers;  // IP or IP:PORT; none: those of /etc/resolv.conf
  Duration timeout = seconds(5);     // of one lookup, with all servers and search domains together
};

// By /etc/hosts, then DNS, through c-ares. Everything that the system says about it (/etc/hosts, /etc/resolv.conf) is
// read again for each lookup, so that a change counts at once; other sources of nsswitch.conf are not asked.
class DnsResolver final : public Resolver {
 public:
  DnsResolver(EventLoop& loop, DnsOptions options) : loop_(loop), options_(std::move(options)) {}
  void set_options(DnsOptions options) { options_ = std::move(options); }  // for lookups from now on
  std::unique_ptr<Lookup> look_up(const std::string& host, Answer answer) override;

 private:
  EventLoop& loop_;
  DnsOptions options_;
};

}  // namespace penstock::net
