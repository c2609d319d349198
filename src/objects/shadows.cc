#include "shadows.h"

#include <algorithm>
#include <string>
#include <tuple>

namespace penstock::objects {
namespace {

using Key = std::vector<std::string>;  // equal for entries that take the same requests of the same host

void append_values(Key& key, const std::vector<CompiledValue>& values) {
  std::vector<std::tuple<std::string, std::string, bool>> sorted;
  for (const CompiledValue& value : values) sorted.emplace_back(value.name, value.value, value.pattern.has_value());
  std::sort(sorted.begin(), sorted.end());
  key.push_back(std::to_string(sorted.size()));
  for (const auto& [name, value, pattern] : sorted) key.insert(key.end(), {name, value, pattern ? "~" : "="});
}

Key key_of(const RouteEntry& entry) {
  const CompiledMatch& match = *entry.match;
  const std::string type = std::to_string(static_cast<int>(match.path_type));
  Key key{std::to_string(entry.table), entry.listener_host, entry.host, type, match.path, match.method};
  append_values(key, match.headers);
  append_values(key, match.queries);
  return key;
}

auto order(const RouteEntry& entry) {  // of entries with equal keys
  return std::tie(entry.created, entry.ns, entry.name, entry.rule, entry.index);
}

// Whoever takes a request, the same becomes of it.
bool same_effect(const Route& a, const Route& b) {
  const auto effect = [](const Route& route) {
    return std::tie(route.backends, route.filters, route.timeout, route.backend_timeout, route.retries);
  };
  return effect(a) == effect(b);
}

struct Shadow {  // the first one of an HTTPRoute
  const RouteEntry *lost, *winner;
  const ListenerState* listener;
  size_t more = 0;
};

std::string text_of(const Shadow& shadow) {
  const RouteEntry &lost = *shadow.lost, &winner = *shadow.winner;
  const Meta& gateway = shadow.listener->gateway->meta;
  const std::string out =
      "rule " + std::to_string(lost.rule) + ", match " + std::to_string(lost.index) + " gets no requests of Gateway " +
      gateway.ns + '/' + gateway.name + ", listener " + shadow.listener->spec->name + ": HTTPRoute " + winner.ns + '/' +
      winner.name + " (rule " + std::to_string(winner.rule) + "), which is not attached there, matches the same and " +
      (winner.created < lost.created ? "is older" : "comes first by name") + ", and both listeners are one port here";
  return shadow.more == 0 ? out : out + "; " + std::to_string(shadow.more) + " more like this";
}

}  // namespace

void report_shadows(const View& view, const std::vector<Route>& routes, const std::vector<RouteEntry>& entries,
                    const std::vector<CameBy>& came_by, Policy& policy) {
  std::map<Key, std::vector<size_t>> equal;
  for (size_t i = 0; i < entries.size(); ++i) equal[key_of(entries[i])].push_back(i);
  std::map<std::pair<std::string, std::string>, Shadow> shadows;  // by HTTPRoute
  for (auto& [key, list] : equal) {
    std::sort(list.begin(), list.end(), [&](size_t a, size_t b) { return order(entries[a]) < order(entries[b]); });
    const RouteEntry& winner = entries[list.front()];
    std::set<const ListenerState*> known;  // listeners whose rightful entry has been seen
    for (const size_t i : list) {
      const RouteEntry& entry = entries[i];
      for (const ListenerState* const listener : came_by[i]) {
        if (!known.insert(listener).second || (entry.ns == winner.ns && entry.name == winner.name)) continue;
        if (same_effect(routes[entry.route], routes[winner.route])) continue;
        const auto [at, added] = shadows.try_emplace({entry.ns, entry.name}, Shadow{&entry, &winner, listener});
        if (!added) ++at->second.more;
      }
    }
  }
  for (const auto& [name, shadow] : shadows) {
    const auto route = view.store().get<HttpRoute>(Kind::http_route, name.first, name.second);
    const std::string uid = route == nullptr ? "" : route->meta.uid;
    policy.notices.push_back({Kind::http_route, name.first, name.second, uid, true, "RouteShadowed", text_of(shadow)});
  }
}

}  // namespace penstock::objects
