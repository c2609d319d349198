#include "penstock/kvevents/listener.h"

#include <set>

#include "subscriber.h"

namespace penstock::kvevents {

Listener::Listener(net::EventLoop& loop, net::BlockPool& pool, routing::ToldIndex& index,
                   const ListenerOptions& options, uint64_t seed, std::function<void(uint32_t slot)> emptied)
    : loop_(loop), pool_(pool), index_(index), options_(options), random_(seed), emptied_(std::move(emptied)) {}

Listener::~Listener() = default;

void Listener::set_sources(const std::vector<Source>& sources) {
  std::set<Key> listed;
  for (const Source& source : sources) {
    if (source.port == 0) continue;
    for (uint32_t rank = 0; rank < index_.ranks(); ++rank) {
      const Key key{source.slot, rank};
      if (!listed.insert(key).second) continue;
      auto& place = subscribers_[key];
      if (place != nullptr && place->source() == source) continue;
      place.reset();  // what the other one told is forgotten first: it has the same slot
      place = std::make_unique<Subscriber>(*this, source, rank);
    }
  }
  std::erase_if(subscribers_, [&](const auto& entry) { return !listed.contains(entry.first); });
}

void Listener::check(uint32_t slot) {
  for (auto at = subscribers_.lower_bound({slot, 0}); at != subscribers_.end() && at->first.first == slot; ++at) {
    at->second->check();
  }
}

std::vector<RankStatus> Listener::status() const {
  std::vector<RankStatus> all;
  for (const auto& [key, subscriber] : subscribers_) all.push_back(subscriber->status());
  return all;
}

}  // namespace penstock::kvevents
