#include "sources.h"

#include "penstock/base/log.h"
#include "penstock/base/text.h"
#include "penstock/config/kubernetes.h"
#include "penstock/epp/engines.h"
#include "penstock/net/ip.h"

namespace penstock::app {

discovery::EndpointSpec host_of(const config::EndpointEntry& entry) {
  const Authority parts = split_authority(std::string_view(entry.url).substr(entry.url.find("://") + 3));
  PENSTOCK_ASSERT(!parts.port.empty());  // validated by config: http://host:port, http://[::1]:port
  const std::string_view host = without_brackets(parts.host);
  discovery::EndpointSpec spec;
  spec.host = host;
  if (entry.url.starts_with("https://")) {
    const bool address = net::IpAddress::parse(host).has_value();
    spec.tls_name = !entry.tls_server_name.empty() ? entry.tls_server_name : address ? "" : std::string(host);
  }
  spec.port = static_cast<uint16_t>(std::stoi(std::string(parts.port)));
  return spec;
}

Sources::Sources(net::EventLoop& loop, discovery::Directory& directory, ApiKeys& keys, Before before)
    : loop_(loop),
      directory_(directory),
      resolver_(loop, {}),
      names_(loop, resolver_, [this] { on_names(); }),
      keys_(keys),
      before_(std::move(before)) {}

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
  const bool other_engine =
      epp::default_engine(options.endpoint_picker.get(), options.metrics.engine) != default_engine_;
  if (other_engine) set_engines(options);
  if (cluster_ != nullptr) {  // it tells by itself
    if (other_engine && cluster_->synced()) on_desired(cluster_->desired());
    return;
  }
  if (manifests_ != nullptr) return take_manifests(std::move(manifests));
  set_endpoints(options);
}

void Sources::set_engines(const config::Options& options) {
  default_engine_ = epp::default_engine(options.endpoint_picker.get(), options.metrics.engine);
  pools_ = discovery::DesiredPools(epp::pod_engines(options.endpoint_picker.get(), options.metrics.engine));
}

std::vector<discovery::NamedEndpoint> Sources::named_endpoints(const config::Options& options) {
  const discovery::PodEngines engines = epp::pod_engines(options.endpoint_picker.get(), options.metrics.engine);
  std::vector<discovery::NamedEndpoint> out;
  for (const config::EndpointEntry& entry : options.endpoints) {
    auto labels = std::make_shared<const objects::Labels>(entry.labels.begin(), entry.labels.end());
    discovery::NamedEndpoint& named = out.emplace_back();
    named.all = entry.all_addresses.value_or(options.all_addresses);
    discovery::EndpointSpec& spec = named.spec = host_of(entry);
    spec.name = entry.name.empty() ? entry.url.substr(entry.url.find("://") + 3) : entry.name;
    spec.url = entry.url;
    spec.kv_events_port = entry.kv_events_port;
    spec.kv_replay_port = entry.kv_replay_port;
    spec.engine = entry.engine.empty() ? discovery::engine_of(*labels, engines) : entry.engine;
    spec.api_key = keys_.of(entry.api_key_file);
    spec.ns = entry.ns;
    spec.labels = std::move(labels);
  }
  return out;
}

void Sources::set_endpoints(const config::Options& options) {
  pool_name_ = options.pool_name;
  resolver_.set_options(options.dns);
  names_.set(named_endpoints(options), options.names);
  on_names();
}

void Sources::on_names() {
  for (const std::string& problem : directory_.set_endpoints(pool_name_, names_.endpoints())) log::warn(problem);
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
  before_(desired);
  for (const std::string& problem : directory_.set_pools(pools_.convert(desired))) log::warn(problem);
}

void Sources::stop() {
  names_.stop();
  if (cluster_ != nullptr) cluster_->stop();
}

void Sources::stop_writing() {
  if (cluster_ != nullptr) cluster_->stop_writing();
}

std::string Sources::not_ready() const {
  if (!names_.settled()) return "host names of endpoints are being looked up";
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

void Sources::not_alive(const std::string& address) {
  const auto at = net::Address::parse(address);
  if (at.ok()) names_.unreachable(at->ip_string());
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
