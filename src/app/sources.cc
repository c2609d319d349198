#include "sources.h"

#include "engines.h"
#include "penstock/base/log.h"
#include "penstock/base/text.h"
#include "penstock/config/kubernetes.h"

namespace penstock::app {

namespace {

// Host and port of a URL that config has validated: http://host:port, http://[::1]:port.
std::pair<std::string, uint16_t> host_and_port(std::string_view url) {
  std::string_view authority = url.substr(url.find("://") + 3);
  const size_t colon = authority.rfind(':');
  PENSTOCK_ASSERT(colon != std::string_view::npos);
  std::string_view host = authority.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return {std::string(host), static_cast<uint16_t>(std::stoi(std::string(authority.substr(colon + 1))))};
}

std::vector<discovery::EndpointSpec> specs_of(const config::Options& options) {
  const discovery::PodEngines engines = pod_engines(options);
  std::vector<discovery::EndpointSpec> specs;
  for (const config::EndpointEntry& entry : options.endpoints) {
    const auto [host, port] = host_and_port(entry.url);
    auto labels = std::make_shared<const objects::Labels>(entry.labels.begin(), entry.labels.end());
    specs.push_back({.name = entry.name.empty() ? entry.url.substr(entry.url.find("://") + 3) : entry.name,
                     .url = entry.url,
                     .host = host,
                     .port = port,
                     .kv_events_port = entry.kv_events_port,
                     .kv_replay_port = entry.kv_replay_port,
                     .engine = entry.engine.empty() ? discovery::engine_of(*labels, engines) : entry.engine,
                     .ns = entry.ns,
                     .labels = std::move(labels)});
  }
  return specs;
}

}  // namespace

bool Sources::start(const config::Options& options, objects::Manifests manifests) {
  set_engines(options);
  if (options.kubernetes.enabled) return start_cluster(options);
  if (!options.manifests.empty()) {
    manifests_ = std::make_unique<discovery::ManifestFolder>(config::resolve_options(options, config::pod_identity()));
    take_manifests(std::move(manifests));
    return true;
  }
  set_endpoints(options);
  return true;
}

bool Sources::start_cluster(const config::Options& options) {
  auto client = kube::load_config(config::kube_sources(options));
  if (!client.ok()) {
    log::error("cannot tell where the API server is", {{"error", client.error().text}});
    return false;
  }
  const config::PodIdentity pod = config::pod_identity();
  discovery::ClusterOptions cluster;
  cluster.resolve = config::resolve_options(options, pod, client->ns);
  cluster.gateway_api = options.kubernetes.gateway_api;
  cluster.write = options.kubernetes.write;
  cluster.pod_name = pod.name;
  log::info("cluster", {{"server", client->server}, {"credentials", client->source}});
  cluster.client = std::move(*client);
  cluster_ = std::make_unique<discovery::Cluster>(loop_, std::move(cluster), *this);
  const auto problem = cluster_->start();
  if (problem.has_value()) log::error("cannot watch the cluster", {{"error", problem->text}});
  return !problem.has_value();
}

void Sources::reload(const config::Options& options, objects::Manifests manifests) {
  const bool other_engine = default_engine(options) != default_engine_;
  if (other_engine) set_engines(options);
  if (cluster_ != nullptr) {  // it tells by itself
    if (other_engine && cluster_->synced()) on_desired(cluster_->desired());
    return;
  }
  if (manifests_ != nullptr) return take_manifests(std::move(manifests));
  set_endpoints(options);
}

void Sources::set_engines(const config::Options& options) {
  default_engine_ = default_engine(options);
  pools_ = discovery::DesiredPools(pod_engines(options));
}

void Sources::set_endpoints(const config::Options& options) {
  for (const std::string& problem : directory_.set_endpoints(options.pool_name, specs_of(options))) log::warn(problem);
}

void Sources::take_manifests(objects::Manifests manifests) {
  manifests_->take(std::move(manifests), net::system_clock().wall_time_us() / 1'000'000);
  for (const objects::ManifestProblem& other : manifests_->skipped()) {
    log::info("manifests: not for the gateway: " + objects::to_string(other));
  }
  for (const objects::Notice& notice : manifests_->desired().notices) {
    log::warn("manifests: " + notice.message, {{"object", notice.ns + '/' + notice.name}, {"reason", notice.reason}});
  }
  on_desired(manifests_->desired());
}

void Sources::on_desired(const objects::Desired& desired) {
  had_pool_ = had_pool_ || !desired.pools.empty();
  for (const std::string& problem : directory_.set_pools(pools_.convert(desired))) log::warn(problem);
}

void Sources::stop() {
  if (cluster_ != nullptr) cluster_->stop();
}

void Sources::stop_writing() {
  if (cluster_ != nullptr) cluster_->stop_writing();
}

std::string Sources::not_ready() const {
  if (cluster_ == nullptr) return "";
  if (!cluster_->synced()) return "waiting for the first list of " + cluster_->status().waiting_for;
  return had_pool_ ? "" : "there is no pool yet";
}

std::optional<discovery::ClusterStatus> Sources::cluster() const {
  if (cluster_ == nullptr) return std::nullopt;
  return cluster_->status();
}

std::vector<objects::Notice> Sources::problems() const {
  return manifests_ == nullptr ? std::vector<objects::Notice>() : manifests_->desired().notices;
}

void Sources::unreachable(const std::string& address) {
  if (cluster_ == nullptr) return;
  for (const auto& pool : cluster_->desired().pools) {
    for (const auto& endpoint : pool->endpoints) {
      if (endpoint->pod_name.empty() || authority_of(endpoint->ip, endpoint->port) != address) continue;
      static_cast<void>(cluster_->endpoint_unreachable(endpoint->pod_ns, endpoint->pod_name));
      return;
    }
  }
}

}  // namespace penstock::app
