// How many connections (or requests that a trusted proxy brings) each client has at this moment, exact over all shards.
// For limits.connections_per_client. A client is an IPv4 address or an IPv6 /64 (net::IpAddress::client()).
//
// Any thread. Locks, spread over `stripes` of them: taken once when a connection comes and once when it goes, and only
// while the limit is on. Its memory is bounded by the number of connections.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace penstock::downstream {

class ClientTable {
 public:
  // Counts one more of this client. False: it has `most` already, and nothing is counted.
  bool try_enter(uint64_t client, uint32_t most);
  void leave(uint64_t client);
  size_t clients() const;  // that have any

 private:
  static constexpr size_t stripes = 64;
  struct alignas(64) Stripe {
    mutable std::mutex mutex;
    std::unordered_map<uint64_t, uint32_t> counts;
  };
  Stripe& stripe_of(uint64_t client);
  std::array<Stripe, stripes> stripes_;
};

// One that was counted; leaves the table when it is released or destroyed.
class ClientTicket {
 public:
  ClientTicket() = default;
  ~ClientTicket() { release(); }
  ClientTicket(ClientTicket&& from) noexcept : table_(std::exchange(from.table_, nullptr)), client_(from.client_) {}
  // False: the client has as many as it may have.
  bool take(ClientTable& table, uint64_t client, uint32_t most) {
    release();
    if (!table.try_enter(client, most)) return false;
    table_ = &table;
    client_ = client;
    return true;
  }
  void release() {
    if (table_ != nullptr) table_->leave(client_);
    table_ = nullptr;
  }

 private:
  ClientTable* table_ = nullptr;
  uint64_t client_ = 0;
};

}  // namespace penstock::downstream
