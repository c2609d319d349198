// Which endpoint made which stored response of the Responses API. Model servers keep responses in their own memory, so
// a request that names one (GET /v1/responses/{id}, "previous_response_id") must go to the server that made it. One for
// the process, shared by its shards.
//
// Bounded: `entries` at most, 24 bytes each, allocated with the first response. In a full bucket of eight the oldest is
// forgotten. What is older than `ttl` counts as unknown. Ids are known by a 64-bit number (openai::response_key).
// Any thread. There are locks, one for every 64th bucket; only requests and answers of the Responses API come here.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "penstock/base/time.h"

namespace penstock::proxy {

class ResponseOwners {
 public:
  struct Owner {
    uint32_t slot = 0, incarnation = 0;  // of endpoints::EndpointState
  };
  // How a request that names a response was routed.
  enum class Lookup : uint8_t {
    found,    // to the endpoint that made it
    unknown,  // by load: the response was never seen, is forgotten or too old
    gone,     // by load: that endpoint is not in the pool any more
  };
  static constexpr size_t lookup_count = 3;

  // `entries` is rounded up to a multiple of eight and a power of two; 0: nothing is remembered.
  explicit ResponseOwners(size_t entries, Duration ttl);
  void set_ttl(Duration ttl) { ttl_ns_.store(ttl.count(), std::memory_order_relaxed); }

  void remember(uint64_t key, Owner owner, Instant now);
  std::optional<Owner> find(uint64_t key, Instant now) const;
  void count(Lookup lookup) { lookups_[static_cast<size_t>(lookup)].fetch_add(1, std::memory_order_relaxed); }

  size_t capacity() const { return buckets_ * ways; }
  size_t size() const { return used_.load(std::memory_order_relaxed); }              // with those that are too old
  uint64_t displaced() const { return displaced_.load(std::memory_order_relaxed); }  // forgotten before their time
  uint64_t lookups(Lookup lookup) const {
    return lookups_[static_cast<size_t>(lookup)].load(std::memory_order_relaxed);
  }

 private:
  static constexpr size_t ways = 8, lock_count = 64;
  struct Entry {
    uint64_t key = 0;  // 0: free
    Owner owner;
    int64_t made_ns = 0;
  };
  Entry* bucket(uint64_t key) const { return &entries_[(key & (buckets_ - 1)) * ways]; }
  std::mutex& lock_of(uint64_t key) const { return locks_[key & (buckets_ - 1) & (lock_count - 1)]; }
  bool expired(const Entry& entry, Instant now) const;

  const size_t buckets_;
  std::once_flag allocated_;
  std::unique_ptr<Entry[]> entries_;
  std::atomic<bool> ready_{false};  // entries_ is there
  mutable std::array<std::mutex, lock_count> locks_;
  std::atomic<int64_t> ttl_ns_;
  std::atomic<size_t> used_{0};
  std::atomic<uint64_t> displaced_{0};
  std::array<std::atomic<uint64_t>, lookup_count> lookups_{};
};

const char* to_string(ResponseOwners::Lookup lookup);

}  // namespace penstock::proxy
