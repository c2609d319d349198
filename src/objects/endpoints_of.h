// The endpoints of a pool: from pods that a selector chooses, kept up to date pod by pod; or from the EndpointSlices of
// a Service, joined whenever one of them changes.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "penstock/objects/desired.h"
#include "penstock/objects/resolve.h"
#include "penstock/objects/store.h"

namespace penstock::objects {

using Endpoints = std::vector<std::shared_ptr<const Endpoint>>;

bool is_ip_address(const std::string& text);
// Sorted by name, then uid and address.
bool comes_before(const Endpoint& a, const Endpoint& b);

class PodSelection {
 public:
  PodSelection(Labels selector, std::vector<int32_t> ports, std::string app_protocol)
      : selector_(std::move(selector)), ports_(std::move(ports)), app_protocol_(std::move(app_protocol)) {}

  // The pod as it is now; null when it is gone. True when the pool's endpoints differ by it.
  bool update(const std::string& name, const std::shared_ptr<const Pod>& pod);
  Endpoints endpoints() const;
  size_t selected() const { return members_.size(); }  // pods with the labels, usable or not
  // Two pods say that they have the same address: one of them is a ghost, and left out.
  bool ambiguous() const { return shared_addresses_ > 0; }

 private:
  struct Member {
    Timestamp created = 0;
    Endpoints endpoints;
  };
  Endpoints endpoints_of(const std::shared_ptr<const Pod>& pod) const;
  void count(const Endpoints& endpoints, int by);
  Endpoints without_ghosts() const;

  Labels selector_;
  std::vector<int32_t> ports_;
  std::string app_protocol_;
  std::map<std::string, Member> members_;           // by pod name
  std::unordered_map<std::string, int> addresses_;  // "ip port" -> endpoints that have it
  size_t shared_addresses_ = 0;
};

// `slices` are all those of the Service. `before` is used again where nothing changed.
Endpoints endpoints_of_service(const Store& store, const ServicePool& service,
                               const std::vector<std::shared_ptr<const EndpointSlice>>& slices, bool prefer_ipv6,
                               const Endpoints& before);

}  // namespace penstock::objects
