// The endpoints of a replay: simulated engines, and what the gateway knows of them, in the product's own types.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/engine/engine.h"
#include "penstock/replay/simulate.h"

namespace penstock::replay {

class Fleet {
 public:
  Fleet(const Setup& setup, bool index_unbounded, Random& random);

  size_t size() const { return engines_.size(); }
  engine::Engine& engine(size_t i) { return *engines_[i]; }
  // What the router is shown.
  const endpoints::Pool& pool() const { return pool_; }
  size_t index_of(const endpoints::EndpointState& state) const { return state.slot; }

  // When something happens by itself next, and where; nothing while all is idle. Engines before scrapes.
  struct Event {
    Instant at;
    size_t endpoint;
    bool scrape;
  };
  std::optional<Event> next() const;
  bool busy() const;
  // The engine has new work, or has done some.
  void refresh(size_t i) { due_[i] = engines_[i]->next_event().value_or(Instant::max()); }
  // Speeds that change up to `now`. To be called before anything else that happens then.
  void change_speeds(Instant now);
  void scrape(size_t i, Instant now);
  void scrape_all(Instant now);
  bool scrapes_itself() const { return interval_ > Duration::zero(); }

 private:
  Duration interval_;
  std::span<const SpeedChange> changes_;  // still to come
  bool index_unbounded_, silent_;
  endpoints::EndpointRegistry registry_;
  std::vector<std::unique_ptr<engine::Engine>> engines_;
  endpoints::Pool pool_;
  std::vector<Instant> due_, next_scrape_;
};

}  // namespace penstock::replay
