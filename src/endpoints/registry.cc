#include <algorithm>
#include <unordered_set>

#include "penstock/base/assert.h"
#include "penstock/base/text.h"
#include "penstock/endpoints/snapshot.h"

namespace penstock::endpoints {
namespace {

// A name never begins with a line feed, so a uid cannot be taken for one.
std::string key_of(const std::string& name, const std::string& uid, const std::string& address,
                   const std::optional<std::string>& tls_name, const std::string& tls_trust) {
  const std::string tls = tls_name ? '\n' + *tls_name + '\n' + tls_trust : "";
  return (uid.empty() ? name + '\n' + address : '\n' + uid + '\n' + address) + tls;
}

// Nobody refers to the state. Asked only when no shard can pick it any more, so the counters only fall, but for a
// connection that an exchange opens while it holds its request count: requests are therefore read first.
bool unused(const EndpointState& state) {
  return state.load.requests.load(std::memory_order_acquire) == 0 &&
         state.connections.load(std::memory_order_acquire) == 0;
}

}  // namespace

EndpointState& EndpointRegistry::find_or_add(const std::string& name, const std::string& url,
                                             const std::string& address, const std::string& host_header,
                                             const std::string& uid, const std::string& ns,
                                             const std::optional<std::string>& tls_name, const std::string& tls_trust) {
  const auto [place, added] = living_.try_emplace(key_of(name, uid, address, tls_name, tls_trust), nullptr);
  if (!added) return *place->second;

  auto state = std::make_unique<EndpointState>();
  if (free_slots_.empty()) {
    state->slot = next_slot_++;
  } else {
    // The smallest free one: tables indexed by slot stay short.
    const auto smallest = std::min_element(free_slots_.begin(), free_slots_.end());
    state->slot = *smallest;
    *smallest = free_slots_.back();
    free_slots_.pop_back();
  }
  state->incarnation = next_incarnation_++;
  state->name = name;
  state->uid = uid;
  state->url = url;
  state->address = address;
  state->host_header = host_header;
  state->tls_name = tls_name;
  state->tls_trust = tls_trust;
  state->place = std::string(ns).append("/").append(split_authority(address).port);
  place->second = state.get();
  entries_.push_back({std::move(state), 0});
  return *place->second;
}

void EndpointRegistry::collect(const Snapshot& snapshot, uint64_t oldest_version_in_use) {
  PENSTOCK_ASSERT(snapshot.version != 0);
  std::unordered_set<const EndpointState*> listed;
  for (const Pool& pool : snapshot.pools) {
    for (const EndpointView& view : pool.endpoints) listed.insert(view.state);
  }
  for (Entry& entry : entries_) {
    if (entry.gone_since_version != 0 || listed.contains(entry.state.get())) continue;
    entry.gone_since_version = snapshot.version;
    living_.erase(key_of(entry.state->name, entry.state->uid, entry.state->address, entry.state->tls_name,
                         entry.state->tls_trust));
  }
  std::erase_if(entries_, [&](const Entry& entry) {
    const bool free =
        entry.gone_since_version != 0 && entry.gone_since_version <= oldest_version_in_use && unused(*entry.state);
    if (free) free_slots_.push_back(entry.state->slot);
    return free;
  });
}

}  // namespace penstock::endpoints
