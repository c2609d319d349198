// Endpoints that the configuration names by host: the names are looked up for as long as the gateway runs, and become
// endpoints with numeric addresses, which is all that the directory knows.
//
// An answer counts for its time to live, within bounds. A name that does not resolve is asked for again after 0.5 s,
// then twice as long each time, up to 10 s. Addresses that were known stay while a lookup fails, whatever the reason: a
// server that is really gone fails its health probe, and a resolver's trouble must not stop a pool that works. Thread:
// control.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "penstock/discovery/directory.h"
#include "penstock/net/event_loop.h"
#include "penstock/net/resolver.h"

namespace penstock::discovery {

struct NameOptions {
  Duration min_ttl = seconds(5), max_ttl = seconds(30);  // dns.min_ttl, dns.max_ttl
};

struct NamedEndpoint {
  EndpointSpec spec;  // `host` is a name or an IP address
  // Every address of the name is an endpoint, called NAME-ADDRESS, that gets the name in the Host field; of several
  // families those of the best one, since a server that has two addresses is still one. Otherwise one address is: the
  // one in use while the answers have it and it can be reached, else the next.
  bool all = false;
};

// For /status, the metrics and /readyz.
struct NameStatus {
  std::string host;
  std::vector<std::string> addresses;  // that are known, whether or not the last lookup failed
  std::string error;                   // of the last lookup; "": it was answered
  Instant since{};                     // of `error`, or of its absence
  bool asked = false;                  // a first lookup has ended
  uint64_t lookups = 0, failures = 0;
};

class NamedEndpoints {
 public:
  // `changed`: endpoints() may be others than before. Never called from inside a call to this object.
  NamedEndpoints(net::EventLoop& loop, net::Resolver& resolver, std::function<void()> changed);
  ~NamedEndpoints();

  // Replaces the list. What is known of a host stays; all of them are looked up now.
  void set(std::vector<NamedEndpoint> list, const NameOptions& options);
  // Those whose addresses are known, in the order of the list.
  std::vector<EndpointSpec> endpoints() const;
  // The first lookup of each name has ended, with an address or without. Once true it stays so, whatever names come
  // later.
  bool settled() const;
  std::vector<NameStatus> status() const;
  // Probes of this address fail: what it belongs to is looked up again (not within min_ttl), and if its name has other
  // addresses and only one is used, the next one is.
  void unreachable(const std::string& ip);
  void stop();

 private:
  struct Host {
    NameStatus known;
    std::string chosen;  // of known.addresses, for those who want one
    Instant asked_at{}, next{};
    Instant chosen_at{}, next_choice{};
    Duration retry{}, choice{};           // the pauses that grow
    std::unique_ptr<net::Lookup> lookup;  // null: none is under way
  };

  void on_due();
  void ask(const std::string& name, Host& host);
  void on_answer(const std::string& name, const Result<net::HostAddresses>& answer);
  void take(Host& host, const net::HostAddresses& answer);
  void fail(Host& host, const std::string& why);
  void choose_next(Host& host, const std::string& unreachable);
  void tell() { changed_(); }
  void wait();
  void add(const NamedEndpoint& entry, std::vector<EndpointSpec>& out) const;

  net::EventLoop& loop_;
  net::Resolver& resolver_;
  std::function<void()> changed_;
  NameOptions options_;
  std::vector<NamedEndpoint> list_;
  std::map<std::string, Host> hosts_;
  mutable bool settled_ = false;
  std::vector<std::unique_ptr<net::Lookup>> ended_;  // destroyed off their own stack
  net::Timer due_, tell_;
};

}  // namespace penstock::discovery
