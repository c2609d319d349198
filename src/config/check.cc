#include "check.h"

#include <algorithm>
#include <utility>

#include "penstock/base/text.h"
#include "values.h"

namespace penstock::config {
namespace {

void check_together(LoadResult& result, const Places& places, const std::string& file) {
  const Options& o = result.options;
  const auto complain = [&](const std::string& key, std::string message) {
    result.problems.push_back(problem_of(places, file, key, std::move(message)));
  };
  // Said of the one that was given, which may be the longer or the shorter one.
  const auto in_order = [&](const std::string& a, Duration a_value, const std::string& b, Duration b_value) {
    if (a_value <= b_value) return;
    if (places.given.contains(a) || !places.given.contains(b)) {
      complain(a, "is longer than " + b + " (" + format_duration(b_value) + ")");
    } else {
      complain(b, "is shorter than " + a + " (" + format_duration(a_value) + ")");
    }
  };
  in_order("metrics.interval", o.poll.interval, "metrics.idle_interval", o.poll.idle_interval);
  in_order("dns.min_ttl", o.names.min_ttl, "dns.max_ttl", o.names.max_ttl);
  in_order("ejection.base_penalty", o.proxy.ejection.base_penalty, "ejection.max_penalty",
           o.proxy.ejection.max_penalty);
  if (o.limits.memory_bytes != 0 && o.limits.memory_bytes < o.proxy.body_bytes_max) {
    complain("limits.memory", "is smaller than limits.body_bytes (" + format_size(o.proxy.body_bytes_max) +
                                  "): the largest request could never be held");
  }
  for (const auto& [key, port] :
       {std::pair("kv_events.port", o.kv_events.port), std::pair("kv_events.replay_port", o.kv_events.replay_port)}) {
    if (port + o.kv_events.ranks - 1 > 65535) complain(key, "leaves no ports for all of kv_events.ranks");
  }
  if (const std::string_view path = proxy::opened_control_path(o.proxy.paths); !path.empty()) {
    result.notes.push_back(
        problem_of(places, file, "paths.allow",
                   "lets clients control or inspect the model servers, for example by " + std::string(path)));
  }
  if (overlap(o.listen, o.admin)) {
    if (places.given.contains("admin")) complain("admin", "takes the same port as listen (" + o.listen + ")");
    else complain("listen", "takes the same port as admin (" + o.admin + ")");
  }
}

void check_endpoint_names(LoadResult& result, const Places& places) {
  std::map<std::string, size_t> names, urls;
  for (size_t i = 0; i < result.options.endpoints.size(); ++i) {
    const EndpointEntry& entry = result.options.endpoints[i];
    const auto complain = [&](const std::string& what, size_t other) {
      const EndpointPlace& first = places.endpoints[other];
      const std::string where = first.line == 0 ? "" : " (also in line " + std::to_string(first.line) + ")";
      result.problems.push_back({places.file, places.endpoints[i].line, places.endpoints[i].key, what + where});
    };
    if (const auto [at, added] = urls.emplace(entry.url, i); !added) {
      complain(in_quotes(entry.url) + " is listed twice", at->second);
    } else if (const auto [named, fresh] = names.emplace(entry.name, i); !fresh) {
      complain("the name " + in_quotes(entry.name) + " is used twice", named->second);
    }
  }
}

}  // namespace

bool overlap(std::string_view a, std::string_view b) {
  const auto all = [](std::string_view host) { return host == "[::]"; };  // IPv4 as well
  const auto all_v4 = [](std::string_view host) { return host.empty() || host == "0.0.0.0"; };
  const auto v4 = [](std::string_view host) { return !host.starts_with('['); };
  const auto [host_a, port_a] = split_authority(a);
  const auto [host_b, port_b] = split_authority(b);
  if (port_a != port_b || port_a == "0") return false;
  return host_a == host_b || all(host_a) || all(host_b) || (all_v4(host_a) && v4(host_b)) ||
         (all_v4(host_b) && v4(host_a));
}

Problem problem_of(const Places& places, const std::string& file, const std::string& key, std::string message) {
  const auto found = places.given.find(key);
  if (found == places.given.end()) return {file.empty() ? "command line" : file, 0, key, std::move(message)};
  return {found->second.file, found->second.line, found->second.name, std::move(message)};
}

void check_all(LoadResult& result, const Places& places, const std::string& file) {
  check_endpoint_names(result, places);
  check_together(result, places, file);
  check_listeners(result, places, file);
  check_discovery(result, places, file);
  check_api_keys(result, places, file);
  const auto order = [&](const Problem& p) { return std::pair(p.file != file, p.line); };
  std::stable_sort(result.problems.begin(), result.problems.end(),
                   [&](const Problem& a, const Problem& b) { return order(a) < order(b); });
}

}  // namespace penstock::config
