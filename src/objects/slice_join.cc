// The endpoints of a Service: all its EndpointSlices joined. An endpoint may stand in two slices while the controller
// repacks them, and two pods may have one address when the ghost of a dead node's pod is still listed.
#include <algorithm>
#include <charconv>
#include <tuple>

#include "endpoints_of.h"
#include "penstock/base/text.h"

namespace penstock::objects {
namespace {

struct Candidate {
  const EndpointSlice* slice;
  const SliceEndpoint* endpoint;
  const SlicePort* port;
  std::shared_ptr<const Pod> pod;  // null when not watched
  Timestamp slice_changed = 0;
  Readiness readiness = Readiness::ready;
  bool serving = true;
};

// How much better than others with the same address; the last parts only make it unique.
auto worth(const Candidate& c) {
  return std::tuple(-static_cast<int>(c.readiness), c.pod == nullptr ? 0 : c.pod->meta.created, c.slice_changed,
                    std::string_view(c.endpoint->target_uid), std::string_view(c.slice->meta.name));
}
// How much newer than the same endpoint in another slice.
auto recency(const Candidate& c) {
  return std::tuple(c.slice_changed, -static_cast<int>(c.readiness), std::string_view(c.slice->meta.name));
}
auto address(const Candidate& c) {
  return std::tuple(std::string_view(c.endpoint->address), c.port->port);
}
std::string_view identity(const Candidate& c) {
  return c.endpoint->target_uid.empty() ? c.endpoint->target_name : c.endpoint->target_uid;
}

// What the slices call the port that is asked for: its name when the Service tells it.
class PortChoice {
 public:
  PortChoice(const Store& store, const ServicePool& wanted) : wanted_(wanted.port) {
    const auto [end, error] = std::from_chars(wanted_.data(), wanted_.data() + wanted_.size(), number_);
    if (wanted_.empty() || error != std::errc() || end != wanted_.data() + wanted_.size()) number_ = 0;
    const auto service = store.get<Service>(Kind::service, wanted.ns, wanted.name);
    if (service == nullptr || number_ == 0) return;
    for (const ServicePort& port : service->ports) {
      if (port.port == number_) name_ = port.name;
    }
  }
  const SlicePort* of(const EndpointSlice& slice) const {
    if (wanted_.empty()) return only(slice);
    for (const SlicePort& port : slice.ports) {
      if (port.port == 0) continue;
      if (number_ == 0 ? port.name == wanted_ : name_ ? port.name == *name_ : port.port == number_) return &port;
    }
    return nullptr;
  }

 private:
  // The one called http, else the first by name.
  static const SlicePort* only(const EndpointSlice& slice) {
    const SlicePort* found = nullptr;
    for (const SlicePort& port : slice.ports) {
      if (port.port == 0) continue;
      if (port.name == "http") return &port;
      if (found == nullptr || port.name < found->name) found = &port;
    }
    return found;
  }
  std::string wanted_;
  int32_t number_ = 0;  // 0: asked for by name
  std::optional<std::string> name_;
};

void judge(Candidate& c) {
  const SliceEndpoint& e = *c.endpoint;
  // Do not trust ready alone: with publishNotReadyAddresses it stays true while the pod terminates.
  const bool terminating = e.terminating.value_or(false) || (c.pod != nullptr && c.pod->meta.deleting);
  c.serving = e.serving.value_or(e.ready.value_or(true));
  c.readiness = terminating ? Readiness::draining : e.ready.value_or(true) ? Readiness::ready : Readiness::not_ready;
}

std::shared_ptr<const Pod> pod_of(const Store& store, const EndpointSlice& slice, const SliceEndpoint& endpoint) {
  if (endpoint.target_kind != "Pod") return nullptr;
  const std::string& ns = endpoint.target_ns.empty() ? slice.meta.ns : endpoint.target_ns;
  auto pod = store.get<Pod>(Kind::pod, ns, endpoint.target_name);
  return pod != nullptr && pod->meta.uid == endpoint.target_uid ? pod : nullptr;
}

std::vector<Candidate> candidates_of(const Store& store, const ServicePool& service,
                                     const std::vector<std::shared_ptr<const EndpointSlice>>& slices,
                                     EndpointSlice::Family family) {
  std::vector<Candidate> out;
  const PortChoice choice(store, service);
  for (const auto& slice : slices) {
    const SlicePort* const port = slice->family == family ? choice.of(*slice) : nullptr;
    if (port == nullptr) continue;
    const std::string* const changed = find_label(slice->meta.annotations, annotation::slice_changed);
    const Timestamp when = changed == nullptr ? 0 : parse_timestamp(*changed).value_or(0);
    for (const SliceEndpoint& endpoint : slice->endpoints) {
      if (!is_ip_address(endpoint.address)) continue;
      Candidate candidate{slice.get(), &endpoint, port, pod_of(store, *slice, endpoint), when};
      if (candidate.pod != nullptr && (candidate.pod->phase == "Succeeded" || candidate.pod->phase == "Failed"))
        continue;
      judge(candidate);
      out.push_back(std::move(candidate));
    }
  }
  return out;
}

// One for each address: of one pod's the newest word, of several pods' the best.
void remove_duplicates(std::vector<Candidate>& list) {
  std::sort(list.begin(), list.end(), [](const Candidate& a, const Candidate& b) {
    if (address(a) != address(b)) return address(a) < address(b);
    if (identity(a) != identity(b)) return identity(a) < identity(b);
    return recency(b) < recency(a);
  });
  const auto same_endpoint = [](const Candidate& a, const Candidate& b) {
    return address(a) == address(b) && identity(a) == identity(b);
  };
  list.erase(std::unique(list.begin(), list.end(), same_endpoint), list.end());
  std::stable_sort(list.begin(), list.end(), [](const Candidate& a, const Candidate& b) {
    return address(a) != address(b) ? address(a) < address(b) : worth(b) < worth(a);
  });
  const auto same_address = [](const Candidate& a, const Candidate& b) { return address(a) == address(b); };
  list.erase(std::unique(list.begin(), list.end(), same_address), list.end());
}

std::shared_ptr<Endpoint> endpoint_of(const Candidate& c) {
  static const std::shared_ptr<const Labels> no_labels = std::make_shared<const Labels>();
  auto out = std::make_shared<Endpoint>();
  const SliceEndpoint& e = *c.endpoint;
  const bool is_pod = e.target_kind == "Pod";
  out->name = is_pod ? e.target_name : authority_of(e.address, static_cast<uint16_t>(c.port->port));
  if (is_pod) {
    out->pod_ns = e.target_ns.empty() ? c.slice->meta.ns : e.target_ns;
    out->pod_name = e.target_name;
    out->pod_uid = e.target_uid;
  }
  out->ip = e.address;
  out->port = static_cast<uint16_t>(c.port->port);
  out->readiness = c.readiness;
  out->last_resort = c.readiness == Readiness::draining && c.serving;
  out->labels = c.pod == nullptr ? no_labels : std::shared_ptr<const Labels>(c.pod, &c.pod->meta.labels);
  out->app_protocol = c.port->app_protocol.empty() ? "http" : c.port->app_protocol;
  out->zone = e.zone;
  out->node = e.node;
  return out;
}

}  // namespace

Endpoints endpoints_of_service(const Store& store, const ServicePool& service,
                               const std::vector<std::shared_ptr<const EndpointSlice>>& slices, bool prefer_ipv6,
                               const Endpoints& before) {
  using Family = EndpointSlice::Family;
  // Of a Service with both families each pod is listed twice: the preferred family is used if it has anything. Host
  // names (FQDN) are never looked up: whoever may write a slice could point the gateway anywhere.
  std::vector<Candidate> candidates = candidates_of(store, service, slices, prefer_ipv6 ? Family::ipv6 : Family::ipv4);
  if (candidates.empty()) candidates = candidates_of(store, service, slices, prefer_ipv6 ? Family::ipv4 : Family::ipv6);
  remove_duplicates(candidates);
  Endpoints out;
  out.reserve(candidates.size());
  const auto order = [](const auto& a, const auto& b) { return comes_before(*a, *b); };
  for (const Candidate& candidate : candidates) out.push_back(endpoint_of(candidate));
  std::sort(out.begin(), out.end(), order);
  for (auto& endpoint : out) {
    const auto old = std::lower_bound(before.begin(), before.end(), endpoint, order);
    if (old != before.end() && **old == *endpoint) endpoint = *old;
  }
  return out;
}

}  // namespace penstock::objects
