#include "penstock/discovery/directory.h"

#include <algorithm>

#include "endpoint_poller.h"
#include "penstock/base/log.h"

namespace penstock::discovery {

namespace {
constexpr Duration kTick = milliseconds(10), kIdleTick = milliseconds(50);
constexpr Duration kTrafficMemory = milliseconds(500);  // how long after the last pick polling stays fast
}  // namespace

Directory::Directory(net::EventLoop& loop, upstream::Client& client, endpoints::SnapshotPublisher& publisher,
                     endpoints::EndpointRegistry& registry, DirectoryEvents& events, std::string pool_name,
                     const PollOptions& options)
    : loop_(loop),
      client_(client),
      publisher_(publisher),
      registry_(registry),
      events_(events),
      pool_name_(std::move(pool_name)),
      options_(options),
      tick_(net::Timer::of<&Directory::on_tick>(this)),
      publish_timer_(net::Timer::of<&Directory::publish>(this)) {}

Directory::~Directory() = default;

std::vector<std::string> Directory::set_endpoints(const std::vector<EndpointSpec>& specs) {
  std::vector<std::string> problems;
  std::vector<std::unique_ptr<EndpointPoller>> kept;
  for (const EndpointSpec& spec : specs) {
    const auto same =
        std::find_if(pollers_.begin(), pollers_.end(), [&](const auto& p) { return p && p->spec() == spec; });
    if (same != pollers_.end()) {
      kept.push_back(std::move(*same));
      continue;
    }
    const auto address = net::Address::resolve(spec.host, spec.port);
    if (!address.ok()) {
      problems.push_back("endpoint " + spec.name + ": cannot resolve " + spec.host + ": " + address.error().text);
      continue;
    }
    const std::string authority = spec.host.find(':') == std::string::npos ? spec.host : "[" + spec.host + "]";
    endpoints::EndpointState& state =
        registry_.find_or_add(spec.name, spec.url, address->to_string(), authority + ":" + std::to_string(spec.port));
    kept.push_back(std::make_unique<EndpointPoller>(*this, spec, state, *address));
  }
  for (const auto& poller : pollers_) {
    if (!poller) continue;
    client_.drop_idle(poller->state().slot);
    events_.on_caches_lost(poller->state());
  }
  pollers_ = std::move(kept);
  publish();
  on_tick();
  return problems;
}

void Directory::stop() {
  tick_.cancel();
  publish_timer_.cancel();
  pollers_.clear();
}

bool Directory::synced() const {
  return std::all_of(pollers_.begin(), pollers_.end(), [](const auto& poller) { return poller->probed(); });
}

std::vector<PollStatus> Directory::status() const {
  std::vector<PollStatus> all;
  for (const auto& poller : pollers_) all.push_back(poller->status());
  return all;
}

void Directory::on_tick() {
  const bool traffic = traffic_flows();
  for (const auto& poller : pollers_) poller->poll(loop_.now(), traffic);
  registry_.collect(*publisher_.current(), publisher_.reclaim());
  loop_.arm(tick_, traffic ? kTick : kIdleTick);
}

bool Directory::traffic_flows() {
  uint64_t picks = 0;
  for (const auto& poller : pollers_) {
    const endpoints::LoadCounters& load = poller->state().load;
    picks += load.picks.load(std::memory_order_relaxed);
    if (load.requests.load(std::memory_order_relaxed) > 0) traffic_until_ = loop_.now() + kTrafficMemory;
  }
  if (picks != picks_seen_) traffic_until_ = loop_.now() + kTrafficMemory;
  picks_seen_ = picks;
  return loop_.now() < traffic_until_;
}

void Directory::changed(bool at_once) {
  if (at_once) return publish();
  if (!publish_timer_.armed()) loop_.arm(publish_timer_, options_.publish_interval);
}

void Directory::publish() {
  publish_timer_.cancel();
  auto next = std::make_unique<endpoints::Snapshot>();
  next->pools.push_back({.name = pool_name_});
  for (const auto& poller : pollers_) next->pools.front().endpoints.push_back(poller->view());
  publisher_.publish(std::move(next));
  published_at_ = loop_.now();
}

}  // namespace penstock::discovery
