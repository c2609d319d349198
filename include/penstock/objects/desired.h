// What the objects ask the gateway to do: pools with their endpoints, rewrites and objectives, the route table, the
// statuses to write and what an operator should hear. Everything behind a shared_ptr is immutable and may be read by
// any thread; an unchanged part keeps its pointer from one Desired to the next.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/objects/route_table.h"
#include "penstock/objects/types.h"

namespace penstock::objects {

// One address of one pod. Another uid, ip or port is another endpoint, whatever its name.
struct Endpoint {
  std::string name;  // "<pod>-rank-<i>"; of a Service: the pod's name, or "ip:port" where there is no pod
  std::string pod_ns, pod_name, pod_uid;
  std::string ip;  // numeric, IPv6 without brackets
  uint16_t port = 0;
  uint32_t rank = 0;  // index of the port in the pool's list
  Readiness readiness = Readiness::not_ready;
  bool last_resort = false;  // draining but still serving: may be used while no endpoint of the pool is ready
  std::shared_ptr<const Labels> labels;  // of the pod; never null
  std::string app_protocol;              // "http", "kubernetes.io/h2c" or what the Service says
  std::string zone, node;                // "" when not known
};
bool operator==(const Endpoint& a, const Endpoint& b);

// How model names are rewritten in one pool.
class Rewrites {
 public:
  struct Target {
    std::string model;
    uint32_t weight = 1;
    bool operator==(const Target&) const = default;
  };
  struct Rule {
    std::string object;  // name of the InferenceModelRewrite, for metrics
    std::vector<Target> targets;
    uint64_t total_weight = 0;
    // What the model becomes, or null: no rewrite. `random` is uniform over 64 bits (or a hash of a session).
    const Target* pick(uint64_t random) const;
    bool operator==(const Rule&) const = default;
  };
  struct Alias {
    std::string model;
    uint32_t rule;  // index
    bool operator==(const Alias&) const = default;
  };

  // The rule for this model: an exact one, else the oldest generic one, else null. Allocates nothing.
  const Rule* find(std::string_view model) const;
  // What clients may ask for by name, sorted: for /v1/models.
  const std::vector<Alias>& aliases() const { return aliases_; }
  const Rule& rule(uint32_t index) const { return rules_[index]; }
  const Rule* generic() const { return generic_ < 0 ? nullptr : &rules_[static_cast<size_t>(generic_)]; }
  bool empty() const { return rules_.empty(); }
  bool operator==(const Rewrites&) const = default;

 private:
  friend class RewritesBuilder;
  std::vector<Rule> rules_;
  std::vector<Alias> aliases_;
  int32_t generic_ = -1;
};

// Priority by the name of the InferenceObjective, sorted by name.
class Objectives {
 public:
  explicit Objectives(std::vector<std::pair<std::string, int32_t>> sorted) : list_(std::move(sorted)) {}
  const int32_t* find(std::string_view name) const;  // null when there is none: priority 0
  const std::vector<std::pair<std::string, int32_t>>& all() const { return list_; }
  bool operator==(const Objectives&) const = default;

 private:
  std::vector<std::pair<std::string, int32_t>> list_;
};

// How the endpoints of a pool are spoken to in TLS, as a BackendTLSPolicy says.
struct BackendTls {
  std::string policy;              // "namespace/name"
  std::string hostname;            // SNI, and what the certificate must have
  std::vector<std::string> names;  // it must have one of these instead (DNS names and URIs); none: the hostname
  std::string authorities;         // PEM; "": the system's
  bool usable = true;              // false: the policy is invalid, and no endpoint may be spoken to
  bool operator==(const BackendTls&) const = default;
};

struct Pool {
  PoolId id;
  std::string uid;  // of the InferencePool; "" for others
  std::string app_protocol;
  Labels selector;  // what its pods have, for watches that ask for no others; empty for Services
  std::vector<std::shared_ptr<const Endpoint>> endpoints;  // sorted by name, then uid and address
  size_t ready = 0;                                        // endpoints that are ready
  std::shared_ptr<const Rewrites> rewrites;                // never null
  std::shared_ptr<const Objectives> objectives;            // never null
  std::shared_ptr<const BackendTls> tls;                   // null: plain
};

// One status, as the body of a server-side apply (PATCH, application/apply-patch+yaml, JSON is YAML).
struct StatusWrite {
  Kind kind;
  std::string ns, name;
  std::string path;     // "/apis/GROUP/VERSION/namespaces/NS/RESOURCE/NAME/status", with "?fieldManager=..." for some
  std::string body;     // the same bytes as long as nothing changes
  std::string ours;     // what of it we have to say: without the entries of others, and without a version
  std::string version;  // of the object whose stored status was looked at
  bool needed;          // false: what is stored says the same already
};

// Something an operator should hear (a Kubernetes Event, a log line). It holds as long as it is listed.
struct Notice {
  Kind kind;
  std::string ns, name, uid;  // the object that it is about
  bool warning = true;
  std::string reason;  // "NoMatchingPods"
  std::string message;
  auto operator<=>(const Notice&) const = default;
};

// What clients are shown that ask one of our listeners for this name (SNI).
struct GatewayCertificate {
  std::string host;                      // "", "a.example.com" or "*.example.com" (which covers any depth)
  std::string origin;                    // "Secret namespace/name", for people
  std::shared_ptr<const Secret> secret;  // null: what it holds now cannot be used
  bool operator==(const GatewayCertificate& other) const;
};
using Certificates = std::vector<std::vector<GatewayCertificate>>;  // by the number of our listener (ResolveOptions)

struct Desired {
  // Each rises when its part changes; 0: nothing was resolved yet.
  uint64_t pools_revision = 0, routes_revision = 0, statuses_revision = 0, notices_revision = 0,
           certificates_revision = 0;
  std::vector<std::shared_ptr<const Pool>> pools;  // sorted by id
  std::shared_ptr<const RouteTable> routes;        // never null once resolved
  std::vector<StatusWrite> statuses;               // sorted by kind, namespace, name
  std::vector<Notice> notices;                     // sorted
  Certificates certificates;

  const Pool* find(const PoolId& id) const;
  std::string describe() const;  // all of it as text, for people and tests
};

}  // namespace penstock::objects
