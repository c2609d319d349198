#include "penstock/discovery/names.h"

#include <algorithm>
#include <set>
#include <utility>

#include "penstock/base/log.h"
#include "penstock/base/text.h"

namespace penstock::discovery {
namespace {

constexpr Duration kFirstRetry = milliseconds(500), kLastRetry = seconds(10);
// How long an address of several is tried at least: longer each time, while none of them lives.
constexpr Duration kChoiceLeast = seconds(1), kChoiceMost = seconds(10);
constexpr size_t kLookupsAtOnce = 32;  // each has a few descriptors

bool is_ip(const EndpointSpec& spec) {
  return net::Address::parse(authority_of(spec.host, spec.port)).ok();
}

// Of one address of several. A name that is only host and port keeps that form.
std::string name_of_one(const EndpointSpec& spec, const std::string& ip) {
  if (spec.name != authority_of(spec.host, spec.port)) return spec.name + '-' + ip;
  return authority_of(spec.host + '-' + ip, spec.port);
}

// Those of the family that the first, which is the best, belongs to.
std::vector<std::string> one_family(const std::vector<std::string>& addresses) {
  const auto is_v6 = [](const std::string& ip) { return ip.find(':') != std::string::npos; };
  std::vector<std::string> out;
  for (const std::string& ip : addresses) {
    if (is_v6(ip) == is_v6(addresses.front())) out.push_back(ip);
  }
  std::sort(out.begin(), out.end());  // name servers change the order with each answer
  return out;
}

bool same_set(std::vector<std::string> a, std::vector<std::string> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

}  // namespace

NamedEndpoints::NamedEndpoints(net::EventLoop& loop, net::Resolver& resolver, std::function<void()> changed)
    : loop_(loop),
      resolver_(resolver),
      changed_(std::move(changed)),
      due_(net::Timer::of<&NamedEndpoints::on_due>(this)),
      tell_(net::Timer::of<&NamedEndpoints::tell>(this)) {}

NamedEndpoints::~NamedEndpoints() = default;

void NamedEndpoints::stop() {
  due_.cancel();
  tell_.cancel();
  hosts_.clear();
  list_.clear();
  ended_.clear();
}

void NamedEndpoints::set(std::vector<NamedEndpoint> list, const NameOptions& options) {
  options_ = options;
  list_ = std::move(list);
  std::map<std::string, Host> hosts;
  for (const NamedEndpoint& entry : list_) {
    if (is_ip(entry.spec) || hosts.contains(entry.spec.host)) continue;
    auto known = hosts_.extract(entry.spec.host);
    Host host = known ? std::move(known.mapped()) : Host();
    host.known.host = entry.spec.host;
    host.next = {};
    host.retry = {};
    hosts.emplace(entry.spec.host, std::move(host));
  }
  hosts_ = std::move(hosts);
  loop_.arm(due_, Duration{0});
}

std::vector<EndpointSpec> NamedEndpoints::endpoints() const {
  std::vector<EndpointSpec> out;
  for (const NamedEndpoint& entry : list_) add(entry, out);
  return out;
}

void NamedEndpoints::add(const NamedEndpoint& entry, std::vector<EndpointSpec>& out) const {
  const auto found = hosts_.find(entry.spec.host);
  if (found == hosts_.end()) {
    out.push_back(entry.spec);
    return;
  }
  const Host& host = found->second;
  if (host.known.addresses.empty()) return;
  EndpointSpec spec = entry.spec;
  spec.authority = authority_of(entry.spec.host, spec.port);
  if (!entry.all) {
    spec.host = host.chosen;
    out.push_back(std::move(spec));
    return;
  }
  for (const std::string& ip : one_family(host.known.addresses)) {
    // A server that an entry before this one has listed is not another server.
    const auto same = [&](const EndpointSpec& other) { return other.host == ip && other.port == spec.port; };
    if (std::any_of(out.begin(), out.end(), same)) continue;
    spec.host = ip;
    spec.name = name_of_one(entry.spec, ip);
    spec.url = (spec.tls_name ? "https://" : "http://") + authority_of(ip, spec.port);
    out.push_back(spec);
  }
}

bool NamedEndpoints::settled() const {
  settled_ =
      settled_ || std::all_of(hosts_.begin(), hosts_.end(), [](const auto& entry) { return entry.second.known.asked; });
  return settled_;
}

std::vector<NameStatus> NamedEndpoints::status() const {
  std::vector<NameStatus> out;
  for (const auto& [name, host] : hosts_) out.push_back(host.known);
  return out;
}

void NamedEndpoints::unreachable(const std::string& ip) {
  const Instant now = loop_.now();
  for (auto& [name, host] : hosts_) {
    const std::vector<std::string>& all = host.known.addresses;
    if (std::find(all.begin(), all.end(), ip) == all.end()) continue;
    host.next = std::min(host.next, host.asked_at + options_.min_ttl);
    if (host.chosen == ip && all.size() > 1 && now >= host.next_choice) choose_next(host, ip);
  }
  wait();
}

void NamedEndpoints::choose_next(Host& host, const std::string& unreachable) {
  const Instant now = loop_.now();
  const std::vector<std::string>& all = host.known.addresses;
  const auto at = std::find(all.begin(), all.end(), unreachable);
  const bool lived = now - host.chosen_at > 2 * kChoiceMost;
  host.choice = lived ? kChoiceLeast : std::clamp(2 * host.choice, kChoiceLeast, kChoiceMost);
  host.next_choice = now + host.choice;
  host.chosen_at = now;
  host.chosen = at + 1 == all.end() ? all.front() : *(at + 1);
  log::info("the next address of a name is tried",
            {{"host", host.known.host}, {"instead_of", unreachable}, {"address", host.chosen}});
  loop_.arm(tell_, Duration{0});
}

// ---- lookups ----

void NamedEndpoints::wait() {
  Instant next = Instant::max();
  for (const auto& [name, host] : hosts_) {
    if (host.lookup == nullptr) next = std::min(next, host.next);
  }
  if (next == Instant::max()) return due_.cancel();
  loop_.arm_at(due_, next);
}

void NamedEndpoints::on_due() {
  ended_.clear();
  const Instant now = loop_.now();
  size_t under_way = 0;
  for (const auto& [name, host] : hosts_) under_way += host.lookup != nullptr;
  for (auto& [name, host] : hosts_) {
    if (host.lookup != nullptr || host.next > now) continue;
    if (under_way >= kLookupsAtOnce) return;  // comes again when one of them ends
    ask(name, host);
    ++under_way;
  }
  wait();
}

void NamedEndpoints::ask(const std::string& name, Host& host) {
  host.asked_at = loop_.now();
  ++host.known.lookups;
  host.lookup = resolver_.look_up(name, [this, name](const auto& answer) { on_answer(name, answer); });
}

void NamedEndpoints::on_answer(const std::string& name, const Result<net::HostAddresses>& answer) {
  const auto found = hosts_.find(name);
  if (found == hosts_.end()) return;
  Host& host = found->second;
  ended_.push_back(std::move(host.lookup));
  host.known.asked = true;
  if (answer.ok()) take(host, *answer);
  else fail(host, answer.error().text);
  loop_.arm(due_, Duration{0});
}

void NamedEndpoints::take(Host& host, const net::HostAddresses& answer) {
  const Instant now = loop_.now();
  host.next = now + std::clamp(answer.ttl, options_.min_ttl, options_.max_ttl);
  host.retry = {};
  std::vector<std::string> addresses;
  for (const net::Address& address : answer.addresses) addresses.push_back(address.ip_string());
  const bool first = host.known.addresses.empty();
  const bool recovers = first || !host.known.error.empty();
  const bool others = !same_set(addresses, host.known.addresses);
  if (recovers) host.known.since = now;  // else the time of the first good answer stays
  host.known.error.clear();
  host.known.addresses = std::move(addresses);
  const std::vector<std::string>& all = host.known.addresses;
  if (std::find(all.begin(), all.end(), host.chosen) == all.end()) {
    host.chosen = all.front();
    host.chosen_at = now;
  }
  if (!recovers && !others) return;
  log::info(first    ? "a name resolves"
            : others ? "a name has other addresses"
                     : "a name resolves again",
            {{"host", host.known.host}, {"addresses", joined(all, " ")}});
  loop_.arm(tell_, Duration{0});
}

void NamedEndpoints::fail(Host& host, const std::string& why) {
  const Instant now = loop_.now();
  ++host.known.failures;
  host.retry = std::clamp(2 * host.retry, kFirstRetry, kLastRetry);
  host.next = now + host.retry;
  const bool news = host.known.error.empty();
  host.known.error = why;
  if (!news) return;
  host.known.since = now;
  log::warn("a name does not resolve",
            {{"host", host.known.host},
             {"error", why},
             {"until_then", host.known.addresses.empty()
                                ? "its endpoints are left out"
                                : "the addresses known before stay: " + joined(host.known.addresses, " ")}});
  loop_.arm(tell_, Duration{0});  // what is not ready has another reason
}

}  // namespace penstock::discovery
