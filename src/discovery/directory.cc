#include "penstock/discovery/directory.h"

#include <algorithm>

#include "endpoint_poller.h"
#include "penstock/base/log.h"
#include "penstock/base/text.h"

namespace penstock::discovery {

namespace {
constexpr Duration kTickMin = milliseconds(10), kTickMax = milliseconds(50);
constexpr Duration kTrafficMemory = milliseconds(500);  // how long after the last pick polling stays fast
// Many endpoints are scraped less often each: 2,000 scrapes in a second keep a good part of a core busy, and what we
// sent ourselves is known without them.
constexpr Duration kTimePerScrape = microseconds(500);

std::string key_of(const EndpointSpec& spec) {
  return (spec.uid.empty() ? spec.name : '\n' + spec.uid) + '\n' + spec.url + '\n' + spec.host + '\n' +
         spec.tls_name.value_or("") + '\n' + spec.tls_trust;
}

// For admission::awaited_until().
void note_readiness(const endpoints::EndpointView& view, int64_t now_ns) {
  std::atomic<int64_t>& since_ns = view.state->health.not_ready_since_ns;
  const bool ready = view.readiness == endpoints::Readiness::ready;
  const bool known = ready == (since_ns.load(std::memory_order_relaxed) == 0);
  if (!known) since_ns.store(ready ? 0 : now_ns, std::memory_order_relaxed);
}
}  // namespace

Directory::Directory(net::EventLoop& loop, upstream::Client& client, endpoints::SnapshotPublisher& publisher,
                     endpoints::EndpointRegistry& registry, DirectoryEvents& events, const PollOptions& options)
    : loop_(loop),
      client_(client),
      publisher_(publisher),
      registry_(registry),
      events_(events),
      options_(options),
      tick_(net::Timer::of<&Directory::on_tick>(this)),
      publish_timer_(net::Timer::of<&Directory::publish>(this)) {}

Directory::~Directory() = default;

std::vector<std::string> Directory::set_endpoints(const std::string& pool_name,
                                                  const std::vector<EndpointSpec>& specs) {
  PoolSpec pool{.id = {objects::Source::selector, "", pool_name, ""}, .name = pool_name};
  for (const EndpointSpec& spec : specs) pool.endpoints.push_back(std::make_shared<const EndpointSpec>(spec));
  PoolsSpec pools;
  pools.pools.push_back(std::move(pool));
  return set_pools(std::move(pools));
}

std::vector<std::string> Directory::set_pools(PoolsSpec spec) {
  ++round_;
  std::vector<std::string> problems;
  const KnownSpecs known = known_specs();
  std::vector<PoolState> next;
  for (PoolSpec& pool : spec.pools) {
    PoolState state{.id = pool.id,
                    .number = number_of(pool.id),
                    .name = std::move(pool.name),
                    .members = {},
                    .rewrites = std::move(pool.rewrites),
                    .objectives = std::move(pool.objectives)};
    state.members.reserve(pool.endpoints.size());
    for (auto& endpoint : pool.endpoints) {
      const auto same = known.find(endpoint.get());
      const auto poller = same == known.end() ? poller_of(*endpoint) : Result<EndpointPoller*>(same->second);
      if (!poller.ok()) {
        problems.push_back(poller.error().text);
        continue;
      }
      poller.value()->listed(*endpoint, round_);
      state.members.push_back({std::move(endpoint), poller.value()});
    }
    next.push_back(std::move(state));
  }
  pools_ = std::move(next);
  routes_ = std::move(spec.routes);
  route_pools_ = std::move(spec.route_pools);
  settle_pollers();
  tell_listed();
  publish();
  on_tick();
  return problems;
}

// Who was told apart before by the same specification is the same now: most are found by the pointer alone.
Directory::KnownSpecs Directory::known_specs() const {
  KnownSpecs known;
  known.reserve(pollers_.size());
  for (const PoolState& pool : pools_) {
    for (const Member& member : pool.members) known.emplace(member.spec.get(), member.poller);
  }
  return known;
}

Result<EndpointPoller*> Directory::poller_of(const EndpointSpec& spec) {
  const std::string key = key_of(spec);
  if (const auto found = pollers_.find(key); found != pollers_.end()) {
    found->second->set_engine(spec.engine);
    return found->second.get();
  }
  const std::string authority = authority_of(spec.host, spec.port);
  const auto address = net::Address::parse(authority);
  if (!address.ok()) return Message{"endpoint " + spec.name + ": " + address.error().text};
  endpoints::EndpointState& state = registry_.find_or_add(spec.name, spec.url, address->to_string(),
                                                          spec.authority.empty() ? authority : spec.authority, spec.uid,
                                                          spec.ns, spec.tls_name, spec.tls_trust);
  auto poller = std::make_unique<EndpointPoller>(*this, spec.engine, state, *address);
  return pollers_.emplace(key, std::move(poller)).first->second.get();
}

uint32_t Directory::number_of(const objects::PoolId& id) {
  const auto same = std::find_if(pools_.begin(), pools_.end(), [&](const PoolState& pool) { return pool.id == id; });
  return same == pools_.end() ? next_pool_++ : same->number;
}

// Those that nobody listed leave; the others take what was said of them.
void Directory::settle_pollers() {
  const bool first = round_ == 1;
  for (auto at = pollers_.begin(); at != pollers_.end();) {
    EndpointPoller& poller = *at->second;
    if (poller.round() == round_) {
      poller.settle(/*slow_start=*/!first);
      ++at;
      continue;
    }
    poller.leave();
    at = pollers_.erase(at);
  }
}

void Directory::tell_listed() {
  std::vector<DirectoryEvents::Listed> listed;
  for (const PoolState& pool : pools_) {
    for (const Member& member : pool.members) listed.push_back({member.poller->state(), *member.spec});
  }
  events_.on_listed(listed);
}

void Directory::stop() {
  tick_.cancel();
  publish_timer_.cancel();
  pools_.clear();
  pollers_.clear();
}

bool Directory::synced() const {
  if (synced_ || round_ == 0) return synced_;
  synced_ = std::all_of(pollers_.begin(), pollers_.end(), [](const auto& entry) { return entry.second->probed(); });
  return synced_;
}

std::vector<PollStatus> Directory::status() const {
  std::vector<PollStatus> all;
  for (const auto& [key, poller] : pollers_) all.push_back(poller->status());
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.endpoint < b.endpoint; });
  return all;
}

void Directory::on_tick() {
  const bool traffic = traffic_flows();
  const Instant now = loop_.now();
  Instant next = now + kTickMax;
  for (const auto& [key, poller] : pollers_) {
    poller->poll(now, traffic);
    next = std::min(next, poller->due(traffic));
  }
  registry_.collect(*publisher_.current(), publisher_.reclaim());
  // To wake a core for nothing costs what relaying a chunk does.
  loop_.arm_at(tick_, std::max(next, now + kTickMin));
}

bool Directory::traffic_flows() {
  uint64_t picks = 0;
  for (const auto& [key, poller] : pollers_) {
    const endpoints::LoadCounters& load = poller->state().load;
    picks += load.picks.load(std::memory_order_relaxed);
    if (load.requests.load(std::memory_order_relaxed) > 0) traffic_until_ = loop_.now() + kTrafficMemory;
  }
  if (picks != picks_seen_) traffic_until_ = loop_.now() + kTrafficMemory;
  picks_seen_ = picks;
  return loop_.now() < traffic_until_;
}

Duration Directory::scrape_interval(bool traffic) const {
  const auto least = static_cast<int64_t>(pollers_.size()) * kTimePerScrape;
  return std::max<Duration>(traffic ? options_.interval : options_.idle_interval, least);
}

// The last answer of a round of scrapes brings out all of them.
void Directory::changed(bool at_once) {
  const bool round_ends = scraping_ == 0 && loop_.now() - published_at_ >= options_.publish_interval;
  if (at_once || round_ends) return publish();
  if (!publish_timer_.armed()) loop_.arm(publish_timer_, options_.publish_interval);
}

void Directory::publish() {
  publish_timer_.cancel();
  auto next = std::make_unique<endpoints::Snapshot>();
  const int64_t now_ns = loop_.now().time_since_epoch().count();
  next->pools.reserve(pools_.size());
  for (const PoolState& pool : pools_) {
    endpoints::Pool& out = next->pools.emplace_back();
    out.id = pool.number;
    out.name = pool.name;
    out.rewrites = pool.rewrites;
    out.objectives = pool.objectives;
    out.endpoints.reserve(pool.members.size());
    for (const Member& member : pool.members) {
      note_readiness(out.endpoints.emplace_back(member.poller->view(*member.spec)), now_ns);
    }
  }
  next->routes = routes_;
  next->route_pools = route_pools_;
  publisher_.publish(std::move(next));
  published_at_ = loop_.now();
  events_.on_published(*publisher_.current());
}

}  // namespace penstock::discovery
