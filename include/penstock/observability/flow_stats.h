// Statistics of the hold queue: what waits now, how long requests have waited and how that ended, for each fairness id,
// priority, pool and model. Written by whichever shard moves a request, read by the exporter: under a lock, since only
// requests that have to wait come here. Fairness ids are the clients': combinations that find no room on the page of
// metrics are counted under the fairness id and model "other", and one that was not used for a while loses its series.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "penstock/base/stats.h"
#include "penstock/observability/buckets.h"
#include "penstock/proxy/hold_queue.h"

namespace penstock::observability {

class FlowStats final : public proxy::HoldObserver {
 public:
  // A combination takes so many lines of the page, of so many bytes beside its labels.
  static constexpr size_t lines = 80, line_bytes = 160;

  // `bytes`: of the page, for all combinations together.
  explicit FlowStats(size_t bytes = size_t{1} << 30) : bytes_left_(bytes) {}

  // A longer fairness id or model is "other", and so is one that is not UTF-8 or has control characters.
  static constexpr size_t label_bytes_max = 256;

  void offered(const proxy::HeldLabels& labels, uint64_t bytes, bool in, Duration cost) override;
  void left(const proxy::HeldLabels& labels, uint64_t bytes, proxy::HoldOutcome outcome, Duration waited) override;
  void cycle(Duration cost) override;
  void evicting(std::string_view pool, int priority) override;
  void evicted(std::string_view pool, Duration took) override;

  // To be called regularly: series of combinations that were not used between so many calls, and of which nothing
  // waits, go. What outcomes() tells stays.
  void forget_unused(uint32_t sweeps_max);

  // ---- for the exporter; references are valid during the visit ----
  struct Labels {
    std::string fairness_id, pool, model, target_model;
    int priority = 0;
    size_t page_bytes = 0;  // what its series take of the page
  };
  struct Series : Labels {
    Gauge requests, bytes;
    std::array<Histogram<epp_flow_queue_seconds>, proxy::hold_outcome_count> waited;
    // By whether it came in.
    std::array<Histogram<epp_decision_seconds>, 2> offered;
    bool used = false;         // since the last forget_unused()
    uint32_t idle_sweeps = 0;  // in a row
  };
  // How waiting ended, by pool and priority: of all combinations, also of those that are forgotten.
  using Outcomes = std::map<std::pair<std::string, int>, std::array<uint64_t, proxy::hold_outcome_count>, std::less<>>;
  Outcomes outcomes() const;
  // Times something was counted as "other" for lack of room.
  uint64_t folded() const;
  template <typename Visit>
  void each(const Visit& visit) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, series] : series_) visit(series);
  }
  template <typename Visit>
  void cycles(const Visit& visit) const {
    const std::lock_guard lock(mutex_);
    visit(cycles_);
  }
  // Of one pool: requests that were cut off, by the priority of those for whom, and how long it took until they ended.
  struct Evictions {
    std::map<int, uint64_t> begun;
    uint64_t ended = 0;
    Histogram<epp_eviction_seconds> took;
  };
  template <typename Visit>
  void evictions(const Visit& visit) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [pool, evictions] : evictions_) visit(pool, evictions);
  }
  struct Held {
    int64_t requests = 0, bytes = 0;
  };
  Held held_in(std::string_view pool) const;

 private:
  Series& series_of(const proxy::HeldLabels& labels, bool may_be_new);
  void make_key(std::string_view fairness_id, int priority, std::string_view pool, std::string_view model,
                std::string_view target_model);
  static Series& use(Series& series);
  Series& add(const std::string& key, Labels labels);
  void ended(Series& series, proxy::HoldOutcome outcome, Duration waited);

  mutable std::mutex mutex_;
  std::map<std::string, Series, std::less<>> series_;
  std::map<std::string, Evictions, std::less<>> evictions_;
  Outcomes outcomes_;
  size_t bytes_left_;
  uint64_t folded_ = 0;
  Histogram<epp_decision_seconds> cycles_;
  std::string key_;  // scratch
};

}  // namespace penstock::observability
