#include "fleet.h"

#include <algorithm>

namespace penstock::replay {

Fleet::Fleet(const Setup& setup, bool index_unbounded, Random& random)
    : interval_(setup.scrape), changes_(setup.speed_changes), index_unbounded_(index_unbounded), silent_(setup.silent) {
  pool_.name = "replay";
  for (uint32_t i = 0; i < setup.endpoints; ++i) {
    engines_.push_back(std::make_unique<engine::Engine>(setup.engine));
    if (i < setup.engine_speeds.size()) engines_.back()->set_speed(setup.engine_speeds[i]);
    const std::string name = "engine-" + std::to_string(i);
    pool_.endpoints.emplace_back().state = &registry_.find_or_add(name, "http://" + name, name, name);
    due_.push_back(Instant::max());
    // Each endpoint is looked at in its own rhythm, as by a poller that spreads its work.
    next_scrape_.push_back(Instant(from_seconds(to_seconds(interval_) * random.unit())));
    scrape(i, Instant());
  }
}

std::optional<Fleet::Event> Fleet::next() const {
  const auto engine = std::min_element(due_.begin(), due_.end());
  const size_t at = static_cast<size_t>(engine - due_.begin());
  if (!scrapes_itself()) return *engine == Instant::max() ? std::nullopt : std::optional(Event{*engine, at, false});
  const auto look = std::min_element(next_scrape_.begin(), next_scrape_.end());
  if (*engine <= *look) return Event{*engine, at, false};
  return Event{*look, static_cast<size_t>(look - next_scrape_.begin()), true};
}

bool Fleet::busy() const {
  return std::any_of(due_.begin(), due_.end(), [](Instant at) { return at != Instant::max(); });
}

void Fleet::change_speeds(Instant now) {
  for (; !changes_.empty() && changes_.front().at <= now; changes_ = changes_.subspan(1)) {
    engines_[changes_.front().endpoint]->set_speed(changes_.front().speed);
  }
}

void Fleet::scrape(size_t i, Instant now) {
  if (now >= next_scrape_[i]) next_scrape_[i] = now + interval_;
  if (silent_ && now > Instant()) return;
  const engine::Engine& engine = *engines_[i];
  endpoints::EndpointView& view = pool_.endpoints[i];
  endpoints::EngineMetrics& metrics = view.metrics;
  metrics.known = true;
  metrics.scraped_at = now;
  metrics.waiting = static_cast<double>(engine.gauges().waiting);
  metrics.running = static_cast<double>(engine.gauges().running);
  metrics.kv_usage = engine.gauges().kv_usage;
  metrics.block_size = engine.options().block_size;
  metrics.kv_blocks = index_unbounded_ ? 0 : engine.options().kv_blocks;
  const endpoints::LoadCounters& load = view.state->load;
  metrics.requests_at_scrape = load.requests.load(std::memory_order_relaxed);
  metrics.not_counted_at_scrape =
      endpoints::not_counted(metrics, metrics.requests_at_scrape, load.decoding.load(std::memory_order_relaxed));
}

void Fleet::scrape_all(Instant now) {
  for (size_t i = 0; i < size(); ++i) scrape(i, now);
}

}  // namespace penstock::replay
