// What a RouteTable is made of.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "listener_map.h"
#include "pattern.h"
#include "penstock/objects/route_table.h"

namespace penstock::objects {

// A condition on a header or a query parameter.
struct CompiledValue {
  std::string name;  // of a header: in lower case
  std::string value;
  std::optional<Pattern> pattern;  // instead of the value
  bool holds(std::string_view text) const { return pattern ? pattern->matches(text) : text == value; }
};
struct CompiledMatch {
  MatchType path_type = MatchType::prefix;
  std::string path;  // of a prefix: without its last slash, "" matches everything
  std::optional<Pattern> path_pattern;
  std::string method;
  std::vector<CompiledValue> headers, queries;
  bool holds(const RouteQuery& query) const;
};
// An error when a regular expression is beyond what Pattern knows.
Result<CompiledMatch> compile_match(const RouteMatch& match);

// One match of one rule on one hostname. Hostnames are in lower case: "", "*.example.com" or "a.example.com".
struct RouteEntry {
  size_t table = 0;           // of a ListenerMap
  std::string listener_host;  // of the listener that let it in
  std::string host;
  std::shared_ptr<const CompiledMatch> match;
  uint32_t route = 0;  // index into the table's routes
  Timestamp created = 0;
  std::string ns, name;  // of the HTTPRoute
  size_t rule = 0, index = 0;
};

// Values by hostname, where "" and wildcards match many.
template <typename T>
class HostMap {
 public:
  // The value of exactly this pattern; made when there is none. Call seal() when all are added.
  T& of(const std::string& pattern) {
    if (pattern.empty()) return any_ ? *any_ : any_.emplace();
    const bool wildcard = pattern.starts_with("*.");
    auto& list = wildcard ? wildcards_ : exact_;
    const std::string key = wildcard ? pattern.substr(1) : pattern;
    for (auto& [known, value] : list) {
      if (known == key) return value;
    }
    return list.emplace_back(key, T()).second;
  }
  void seal() {
    const auto by_host = [](const auto& a, const auto& b) { return a.first < b.first; };
    std::sort(exact_.begin(), exact_.end(), by_host);
    std::sort(wildcards_.begin(), wildcards_.end(), by_host);
  }
  // Calls visit(value) for what matches `host`, the most specific first, until it returns true.
  template <typename Visit>
  bool visit_matching(std::string_view host, Visit&& visit) const {
    if (const T* const found = find(exact_, host); found != nullptr && visit(*found)) return true;
    for (size_t dot = host.find('.', 1); dot != std::string_view::npos; dot = host.find('.', dot + 1)) {
      if (const T* const found = find(wildcards_, host.substr(dot)); found != nullptr && visit(*found)) return true;
    }
    return any_ && visit(*any_);
  }
  // visit(pattern, value), in order of patterns.
  template <typename Visit>
  void each(Visit&& visit) const {
    for (const auto& [host, value] : exact_) visit(host, value);
    for (const auto& [host, value] : wildcards_) visit("*" + host, value);
    if (any_) visit(std::string("*"), *any_);
  }
  template <typename Visit>
  void each_value(Visit&& visit) {
    for (auto& [host, value] : exact_) visit(value);
    for (auto& [host, value] : wildcards_) visit(value);
    if (any_) visit(*any_);
  }

 private:
  using List = std::vector<std::pair<std::string, T>>;
  static const T* find(const List& list, std::string_view host) {
    const auto at = std::lower_bound(list.begin(), list.end(), host,
                                     [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
    return at != list.end() && at->first == host ? &at->second : nullptr;
  }
  List exact_, wildcards_;
  std::optional<T> any_;
};

// Listeners are apart from each other: of those that take the requests of one of our listeners, a request belongs to
// those with the most specific hostname that fits, and only routes attached to them are looked at. Among these a more
// specific hostname of the route comes first.
struct RouteTable::Compiled {
  using Bucket = std::vector<RouteEntry>;  // in order of precedence
  std::vector<Route> routes;
  ListenerMap map;
  std::vector<HostMap<HostMap<Bucket>>> tables = std::vector<HostMap<HostMap<Bucket>>>(map.tables());
  std::vector<std::pair<std::string, int32_t>> models;  // sorted by name, each once
};

std::shared_ptr<const RouteTable::Compiled> compile_routes(std::vector<Route> routes, std::vector<RouteEntry> entries,
                                                           const ListenerMap& map);

}  // namespace penstock::objects
