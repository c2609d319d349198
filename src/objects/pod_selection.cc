#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "endpoints_of.h"
#include "penstock/base/text.h"

namespace penstock::objects {
namespace {

std::string address_of(const Endpoint& endpoint) {
  return endpoint.ip + ' ' + std::to_string(endpoint.port);
}

// Whether the pod's annotation lets this port take traffic. Without the annotation every port does; entries that are
// not numbers mean nothing.
bool active(const Pod& pod, int32_t port) {
  const std::string* list = find_label(pod.meta.annotations, annotation::active_ports);
  if (list == nullptr) list = find_label(pod.meta.annotations, annotation::active_ports_legacy);
  if (list == nullptr) return true;
  for (std::string_view rest = *list; !rest.empty();) {
    const std::string_view entry = trimmed(rest.substr(0, rest.find(',')));
    rest.remove_prefix(
        std::min(rest.size(), rest.find(',') == std::string_view::npos ? rest.size() : rest.find(',') + 1));
    int32_t number = 0;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), number);
    if (error == std::errc() && end == entry.data() + entry.size() && number == port) return true;
  }
  return false;
}

bool same(const Endpoints& a, const Endpoints& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) { return *x == *y; });
}

}  // namespace

bool operator==(const Endpoint& a, const Endpoint& b) {
  const auto plain = [](const Endpoint& e) {
    return std::tie(e.name, e.pod_ns, e.pod_name, e.pod_uid, e.ip, e.port, e.rank, e.readiness, e.last_resort,
                    e.app_protocol, e.zone, e.node);
  };
  return plain(a) == plain(b) && (a.labels == b.labels || *a.labels == *b.labels);
}

bool is_ip_address(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 || inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

bool comes_before(const Endpoint& a, const Endpoint& b) {
  return std::tie(a.name, a.pod_uid, a.ip, a.port) < std::tie(b.name, b.pod_uid, b.ip, b.port);
}

Endpoints PodSelection::endpoints_of(const std::shared_ptr<const Pod>& pod) const {
  Endpoints out;
  // An evicted pod loses its address and stays; a finished one may keep an address that is another's by now.
  if (pod->phase == "Succeeded" || pod->phase == "Failed" || !is_ip_address(pod->ip)) return out;
  const std::string* const zone = find_label(pod->meta.labels, annotation::zone_label);
  for (size_t rank = 0; rank < ports_.size(); ++rank) {
    if (!active(*pod, ports_[rank])) continue;
    auto endpoint = std::make_shared<Endpoint>();
    endpoint->name = pod->meta.name + "-rank-" + std::to_string(rank);
    endpoint->pod_ns = pod->meta.ns;
    endpoint->pod_name = pod->meta.name;
    endpoint->pod_uid = pod->meta.uid;
    endpoint->ip = pod->ip;
    endpoint->port = static_cast<uint16_t>(ports_[rank]);
    endpoint->rank = static_cast<uint32_t>(rank);
    endpoint->readiness = pod->meta.deleting ? Readiness::draining
                          : pod->ready       ? Readiness::ready
                                             : Readiness::not_ready;
    endpoint->last_resort = pod->meta.deleting && pod->ready;
    endpoint->labels = std::shared_ptr<const Labels>(pod, &pod->meta.labels);
    endpoint->app_protocol = app_protocol_;
    if (zone != nullptr) endpoint->zone = *zone;
    endpoint->node = pod->node;
    out.push_back(std::move(endpoint));
  }
  return out;
}

void PodSelection::count(const Endpoints& endpoints, int by) {
  for (const auto& endpoint : endpoints) {
    const auto at = addresses_.try_emplace(address_of(*endpoint), 0).first;
    const int before = at->second;
    at->second += by;
    if (before == 1 && at->second == 2) ++shared_addresses_;
    if (before == 2 && at->second == 1) --shared_addresses_;
    if (at->second == 0) addresses_.erase(at);
  }
}

bool PodSelection::update(const std::string& name, const std::shared_ptr<const Pod>& pod) {
  const auto at = members_.find(name);
  if (pod == nullptr || !has_all(pod->meta.labels, selector_)) {
    if (at == members_.end()) return false;
    const bool had_endpoints = !at->second.endpoints.empty();
    count(at->second.endpoints, -1);
    members_.erase(at);
    return had_endpoints || members_.empty();
  }
  Endpoints now = endpoints_of(pod);
  if (at == members_.end()) {
    count(now, +1);
    members_.emplace(name, Member{pod->meta.created, std::move(now)});
    return true;
  }
  Member& member = at->second;
  if (same(member.endpoints, now) && member.created == pod->meta.created) return false;
  count(member.endpoints, -1);
  count(now, +1);
  member = Member{pod->meta.created, std::move(now)};
  return true;
}

// Of endpoints with one address: the one that is ready, else the younger pod.
Endpoints PodSelection::without_ghosts() const {
  const auto rank = [](const Member& member, const Endpoint& endpoint) {
    return std::tuple(-static_cast<int>(endpoint.readiness), member.created, std::string_view(endpoint.pod_uid),
                      std::string_view(endpoint.name));
  };
  std::map<std::string, std::pair<const Member*, std::shared_ptr<const Endpoint>>> best;
  for (const auto& [name, member] : members_) {
    for (const auto& endpoint : member.endpoints) {
      auto& holder = best[address_of(*endpoint)];
      if (holder.second != nullptr && rank(*holder.first, *holder.second) > rank(member, *endpoint)) continue;
      holder = {&member, endpoint};
    }
  }
  Endpoints out;
  for (auto& [address, holder] : best) out.push_back(std::move(holder.second));
  return out;
}

Endpoints PodSelection::endpoints() const {
  Endpoints out;
  if (ambiguous()) {
    out = without_ghosts();
  } else {
    out.reserve(members_.size() * ports_.size());
    for (const auto& [name, member] : members_) out.insert(out.end(), member.endpoints.begin(), member.endpoints.end());
  }
  const auto order = [](const auto& a, const auto& b) { return comes_before(*a, *b); };
  if (!std::is_sorted(out.begin(), out.end(), order)) std::sort(out.begin(), out.end(), order);
  return out;
}

}  // namespace penstock::objects
