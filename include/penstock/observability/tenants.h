// Statistics of requests by fairness id, for the metrics that llm-d's newer names tell apart by it. Clients invent
// these ids, so only so many kinds of requests have series of their own (TenantRoom), and one that was not used for a
// while loses them again.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/observability/kind_stats.h"

namespace penstock::observability {

// Which kinds have series of their own: one per process, since all shards' series of a kind are one. Any thread. The
// lock is taken when a shard meets a kind for the first time and there is room for it, and when it forgets one: not by
// requests of known kinds, nor by a flood of invented ids that finds the room full.
class TenantRoom {
 public:
  static constexpr size_t places = 255;

  // `bytes`: of the page of metrics, for all of them together.
  explicit TenantRoom(size_t bytes) : bytes_left_(bytes) {}

  // One more shard counts this kind, whose series take so many bytes of the page. False: there is no room.
  bool admit(uint64_t hash, size_t bytes);
  void release(uint64_t hash);  // undoes one admit()
  // Whether admit() would most likely say no; takes no lock.
  bool refuses(uint64_t hash) const;

 private:
  struct Kind {
    uint64_t hash;
    size_t bytes;
    uint32_t shards;
  };
  void publish();

  std::mutex mutex_;
  std::vector<Kind> kinds_;
  size_t bytes_left_;
  std::atomic<bool> full_{false};
  std::array<std::atomic<uint64_t>, places> hashes_{};  // of kinds_, for refuses(); 0: none
};

// What is counted of one kind.
struct Tenant {
  Tenant(std::string_view model, std::string_view target_model, std::string_view fairness_id, std::string_view priority,
         Histogram<inter_token_seconds>& all_gaps)
      : names{std::string(model), std::string(target_model), std::string(fairness_id), std::string(priority)},
        stats(all_gaps) {}
  bool is(std::string_view model, std::string_view target_model, std::string_view fairness_id,
          std::string_view priority) const {
    return names[2] == fairness_id && names[0] == model && names[1] == target_model && names[3] == priority;
  }

  const std::string names[4];  // model, target model, fairness id, priority
  KindStats stats;
  Gauge running;
  uint64_t hash = 0;
  bool used = false;         // since the last sweep
  uint32_t idle_sweeps = 0;  // in a row
};

// Those of one shard: its thread alone changes them.
class Tenants {
 public:
  // A page shows so many lines of each kind, of so many bytes beside its names.
  static constexpr size_t lines = 245, line_bytes = 130;

  Tenants(TenantRoom& room, Histogram<inter_token_seconds>& all_gaps) : room_(room), all_gaps_(all_gaps) {}
  ~Tenants();
  Tenants(const Tenants&) = delete;

  // The place of this kind, 1 to TenantRoom::places. 0: it has none, since there is no room, it is no text, or it must
  // not be new. A place is kept while requests of it run.
  uint32_t place_of(std::string_view model, std::string_view target_model, std::string_view fairness_id,
                    std::string_view priority, bool may_be_new);
  Tenant& at(uint32_t place) { return *places_[place - 1]; }
  // Forgets what was not used during so many sweeps in a row, this one included, and does not run.
  void sweep(uint32_t idle_sweeps_max);

  // Any thread.
  std::vector<std::shared_ptr<const Tenant>> list() const;

 private:
  uint32_t find(uint64_t hash, std::string_view model, std::string_view target_model, std::string_view fairness_id,
                std::string_view priority) const;
  uint32_t add(uint64_t hash, std::string_view model, std::string_view target_model, std::string_view fairness_id,
               std::string_view priority);

  TenantRoom& room_;
  Histogram<inter_token_seconds>& all_gaps_;
  mutable std::mutex mutex_;  // for changes of places_, and for readers on other threads
  std::array<std::shared_ptr<Tenant>, TenantRoom::places> places_;
  std::array<uint64_t, TenantRoom::places> hashes_{};
  uint32_t places_used_ = 0;           // all used ones are below this
  std::array<uint32_t, 64> recent_{};  // places, by the letters in which names differ
};

}  // namespace penstock::observability
