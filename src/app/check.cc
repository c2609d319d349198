#include "check.h"

#include <cstdio>

#include "penstock/base/log.h"
#include "penstock/discovery/names.h"
#include "penstock/net/resolver.h"
#include "sources.h"

namespace penstock::app {
namespace {

constexpr Duration kLookupsMost = seconds(3);  // for all names together

// A look at each name, all at the same time.
std::vector<discovery::NameStatus> look_up(const config::Options& options) {
  const auto ring = net::make_ring({.kind = net::RingKind::epoll}, {});
  if (!ring.ok()) return {};
  net::EventLoop loop(**ring, net::system_clock());
  net::DnsResolver resolver(loop, {.servers = options.dns.servers, .timeout = kLookupsMost});
  discovery::NamedEndpoints names(loop, resolver, [] {});
  std::vector<discovery::NamedEndpoint> list;
  for (const config::EndpointEntry& entry : options.endpoints) list.push_back({.spec = host_of(entry)});
  names.set(std::move(list), {});
  const Instant deadline = net::system_clock().now() + kLookupsMost;
  while (!names.settled() && net::system_clock().now() < deadline) loop.run_turn(milliseconds(10));
  std::vector<discovery::NameStatus> found = names.status();
  names.stop();
  return found;
}

void warn(const config::Command& command, const discovery::NameStatus& name) {
  for (size_t i = 0; i < command.options.endpoints.size(); ++i) {
    if (host_of(command.options.endpoints[i]).host != name.host) continue;
    Problem warning = command.endpoint_places.at(i);
    warning.message = "the name " + name.host +
                      " does not resolve here: " + (name.asked ? name.error : "no answer in time") +
                      " (serve starts all the same, and asks again until it does)";
    std::printf("  warning: %s\n", to_string(warning).c_str());
  }
}

}  // namespace

int check(const config::Command& command) {
  std::fputs(command.output.c_str(), stdout);
  log::configure(log::Level::error, log::Format::text);  // what lookups find is said below
  for (const discovery::NameStatus& name : look_up(command.options)) {
    if (name.addresses.empty()) warn(command, name);
  }
  return command.exit_code;
}

}  // namespace penstock::app
