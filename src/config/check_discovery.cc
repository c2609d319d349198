// Where endpoints come from is said once: by a list, by a cluster or by manifests; and what belongs to one of these is
// not given without it.
#include <algorithm>
#include <string_view>

#include "check.h"

namespace penstock::config {
namespace {

constexpr std::string_view section = "kubernetes.";
// Keys that say how to reach the cluster and what to write there; the others also select among manifests.
constexpr std::string_view cluster_keys[] = {"kubernetes.kubeconfig",      "kubernetes.context",
                                             "kubernetes.write",           "kubernetes.gateway_api",
                                             "kubernetes.gateway_address", "kubernetes.own_service"};

class Check {
 public:
  Check(LoadResult& result, const Places& places, const std::string& file)
      : result_(result),
        places_(places),
        file_(file),
        options_(result.options),
        kubernetes_(result.options.kubernetes) {}

  void run() {
    if (!kubernetes_.enabled) unused();
    one_source();
    if (!kubernetes_.enabled && options_.manifests.empty()) return;
    selector();
    access();
    if (!kubernetes_.namespaces.empty()) namespaces();
  }

 private:
  bool given(const std::string& key) const { return places_.given.contains(key); }
  void complain(const std::string& key, std::string message) {
    result_.problems.push_back(problem_of(places_, file_, key, std::move(message)));
  }
  // As the user wrote it: the flag or the key.
  std::string written(const std::string& key) const {
    const auto found = places_.given.find(key);
    return found == places_.given.end() ? key : found->second.name;
  }

  // `enabled: false` turns a section off that may be full; without it, the rest would be ignored in silence.
  void unused() {
    if (given("kubernetes.enabled") || has_problem("kubernetes.api")) return;
    for (const auto& [key, place] : places_.given) {
      if (!key.starts_with(section)) continue;
      if (std::find(std::begin(cluster_keys), std::end(cluster_keys), key) != std::end(cluster_keys)) {
        complain(key, "has no effect without a cluster; add --kubernetes (kubernetes.enabled: true)");
      } else if (options_.manifests.empty()) {
        complain(key,
                 "has no effect without a cluster or manifests; add --kubernetes (kubernetes.enabled: true) or "
                 "--manifests DIR");
      }
    }
  }

  void one_source() {
    const bool manifests = !options_.manifests.empty();
    if (kubernetes_.enabled && manifests) {
      complain("manifests",
               "cannot be used together with a cluster: objects come from files or from the API server; drop " +
                   written("manifests") + " or " + cluster());
    }
    if (options_.endpoints.empty() || (!kubernetes_.enabled && !manifests)) return;
    const EndpointPlace& first = places_.endpoints.front();
    const std::string drop = first.key.starts_with("--") ? first.key : "endpoints:";
    const std::string other = kubernetes_.enabled ? "the cluster; drop " + drop + " or " + cluster()
                                                  : "the manifests; drop " + drop + " or " + written("manifests");
    result_.problems.push_back({places_.file, first.line, first.key.starts_with("--") ? first.key : "endpoints",
                                "endpoints already come from " + other});
  }
  std::string cluster() const { return written(given("kubernetes.enabled") ? "kubernetes.enabled" : "kubernetes.api"); }

  void selector() {
    const bool selector = !kubernetes_.endpoint_selector.empty(), ports = !kubernetes_.endpoint_ports.empty();
    if (selector && !ports && !has_problem("kubernetes.endpoint_ports")) {
      complain("kubernetes.endpoint_selector",
               "needs the ports of the model servers; add --endpoint-ports N,... (kubernetes.endpoint_ports)");
    }
    if (ports && !selector && !has_problem("kubernetes.endpoint_selector")) {
      complain("kubernetes.endpoint_ports",
               "has no effect without labels that select pods; add --endpoint-selector "
               "KEY=VALUE,... (kubernetes.endpoint_selector)");
    }
    if (selector && kubernetes_.pools.size() > 1) {
      complain("kubernetes.pools",
               "names several pools, and " + written("kubernetes.endpoint_selector") + " makes one; give one name");
    }
  }

  void access() {
    if (kubernetes_.api.empty()) return;
    for (const char* const key : {"kubernetes.kubeconfig", "kubernetes.context"}) {
      if (!given(key)) continue;
      complain(key,
               "has no effect with " + written("kubernetes.api") + ", which uses no credentials; drop one of the two");
    }
  }

  void namespaces() {
    const auto& list = kubernetes_.namespaces;
    if (std::find(list.begin(), list.end(), "*") == list.end()) return;
    if (list.size() > 1) return complain("kubernetes.namespaces", "lists * and names; give one of them");
    for (const auto& [key, names] :
         {std::pair("kubernetes.pools", &kubernetes_.pools), {"kubernetes.services", &kubernetes_.services}}) {
      for (const std::string& name : *names) {
        if (name.find('/') != std::string::npos) continue;
        complain(key, '"' + name + "\" could be in any namespace; write NAMESPACE/" + name);
      }
    }
    if (!kubernetes_.endpoint_selector.empty() && kubernetes_.pools.empty()) {
      complain("kubernetes.endpoint_selector", "selects in one namespace, not in all; name it with --namespace NAME");
    }
  }

  // A value that was refused is not one that is missing: what depends on it is not reported as well.
  bool has_problem(const std::string& key) const {
    const auto found = places_.given.find(key);
    if (found == places_.given.end()) return false;
    return std::any_of(result_.problems.begin(), result_.problems.end(), [&](const Problem& problem) {
      return problem.file == found->second.file && problem.key.starts_with(found->second.name);
    });
  }

  LoadResult& result_;
  const Places& places_;
  const std::string& file_;
  const Options& options_;
  const Kubernetes& kubernetes_;
};

}  // namespace

void check_discovery(LoadResult& result, const Places& places, const std::string& file) {
  Kubernetes& kubernetes = result.options.kubernetes;
  if (!kubernetes.api.empty() && !places.given.contains("kubernetes.enabled")) kubernetes.enabled = true;
  Check(result, places, file).run();
}

}  // namespace penstock::config
