#include "control.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <set>

#include "penstock/base/log.h"
#include "penstock/config/detect.h"
#include "penstock/config/reference.h"
#include "penstock/epp/config.h"
#include "penstock/epp/engines.h"
#include "readiness.h"
#include "signals.h"
#include "version.h"

namespace penstock::app {

namespace {

constexpr Duration kDrainCheck = milliseconds(20);  // between two checks whether a drain is complete
// Entries of the prefix index for each block that the caches hold. A table that is exactly full loses a quarter of its
// entries, one that is two thirds full almost none.
constexpr double kIndexRoom = 1.5;
// How often the size of the prefix index is checked, and how often a warning about it may be repeated.
constexpr Duration kIndexCheck = seconds(1), kIndexWarning = seconds(3600);
constexpr Duration kWhyCheck = seconds(1);     // how old the reason may be that /readyz gives
constexpr uint32_t kForgettingSweeps = 10;     // looks at a series during metrics.series_idle before it is forgotten
constexpr Duration kModelsCheck = seconds(1);  // how often the models that endpoints serve are collected
constexpr Duration kFileCheck = seconds(1);    // how often a watched file is looked at
constexpr Duration kFirstProbes = seconds(1);  // how long the client listeners wait for the first probes

discovery::PollOptions poll_options(const config::Options& options, ApiKeys& keys) {
  discovery::PollOptions out = options.poll;
  out.engines = epp::engines_of(options.endpoint_picker.get());
  out.api_key = keys.of(options.metrics.api_key_file);
  if (options.endpoint_picker == nullptr || options.endpoint_picker->scheduling.custom_metrics.empty()) return out;
  auto gauges = std::make_shared<std::vector<discovery::CustomGauge>>();
  for (const epp::CustomMetric& metric : options.endpoint_picker->scheduling.custom_metrics) {
    gauges->push_back({metric.family, metric.labels});
  }
  out.custom = std::move(gauges);
  return out;
}

// An EndpointPickerConfig with precise-prefix-cache-scorer turns KV events on, and may set their ports and topic.
void apply_kv_events(config::Options& options) {
  if (options.endpoint_picker == nullptr || !options.endpoint_picker->scheduling.kv_events) return;
  const epp::KvEventsSpec& spec = *options.endpoint_picker->scheduling.kv_events;
  options.kv_events.enabled = true;
  if (spec.port) options.kv_events.port = *spec.port;
  if (spec.replay_port) options.kv_events.replay_port = *spec.replay_port;
  if (spec.topic) options.kv_events.topic = *spec.topic;
}

routing::PrefixIndex::Room index_room(const config::Options& options) {
  return {options.prefix_index_entries, options.prefix_index_max};
}

std::unique_ptr<routing::ToldIndex> told_index(const config::Options& options) {
  if (!options.kv_events.enabled) return nullptr;
  return std::make_unique<routing::ToldIndex>(index_room(options), options.kv_events.ranks);
}

config::Options with_defaults(config::Options options) {
  const std::vector<std::string> remarks = config::resolve_defaults(options, config::detect_machine());
  for (const std::string& remark : remarks) log::warn("configuration: " + remark);
  apply_kv_events(options);
  return options;
}

observability::AccessLogOptions access_log_options(const config::Options& options) {
  observability::AccessLogOptions out = options.access_log;
  out.shards = options.shards;
  return out;
}

observability::PageLimits page_limits(const config::Options& options) {
  return {.epp_names = options.metrics.epp_names, .bytes = options.limits.metrics_page};
}

std::unique_ptr<routing::Profile> profile_of(const std::string& policy_name) {
  if (policy_name == "none") return nullptr;  // only for the shadow policy
  routing::Policy policy{};
  PENSTOCK_ASSERT(routing::parse_policy(policy_name, &policy));  // validated by config
  return routing::make_profile(policy);
}

}  // namespace

Control::Control(const config::Command& command)
    : source_(command.source),
      loaded_(command.options),
      options_(with_defaults(command.options)),
      manifests_(command.manifests),
      probe_(net::probe_rings()),
      budget_(options_.limits.memory_bytes),
      snapshots_(options_.shards),
      index_(index_room(options_), routing::PrefixIndex::long_prompts),
      told_(told_index(options_)),
      profile_(options_.endpoint_picker ? epp::make_profile(options_.endpoint_picker->scheduling)
                                        : profile_of(options_.policy)),
      shadow_(options_.shadow_picker ? epp::make_profile(options_.shadow_picker->scheduling)
                                     : profile_of(options_.shadow_policy)),
      names_(page_limits(options_)),
      flow_stats_(names_.bytes_for_flow()),
      hold_(flow_options(options_), net::system_clock(), &flow_stats_, &index_),
      responses_(options_.responses.remembered, options_.responses.ttl),
      shared_{options_,
              probe_,
              budget_,
              snapshots_,
              index_,
              tokens_,
              *profile_,
              shadow_.get(),
              told_.get(),
              hold_,
              responses_,
              shards_,
              options_.limits.connections,
              clients_by_address_,
              config::descriptors_for_traffic(config::raise_open_file_limit(), options_.shards),
              [this](const std::string& address) { loop_->post([this, address] { sources_->unreachable(address); }); }},
      pool_(budget_),
      trusts_([this](const std::string& trust, const auto& context) { publish_trust(trust, context); }),
      endpoints_watch_(net::Timer::of<&Control::look_at_endpoints_file>(this)),
      drain_notice_(net::Timer::of<&Control::announce_drain>(this)),
      drain_delay_(net::Timer::of<&Control::stop_accepting>(this)),
      drain_watch_(net::Timer::of<&Control::watch_drain>(this)),
      sampling_(net::Timer::of<&Control::sample_times>(this)),
      forgetting_(net::Timer::of<&Control::forget_unused_series>(this)) {
  for (const Problem& note : command.notes) log::warn("configuration: " + to_string(note));
}

Control::~Control() = default;

int Control::run() {
  if (!start()) {
    stop_shards();
    return 1;
  }
  {
    Signals signals([this](int signal) { loop_->post([this, signal] { on_signal(signal); }); });
    loop_->run();
  }
  sources_->stop();
  directory_->stop();
  listener_.reset();
  stop_shards();
  if (access_log_) access_log_->stop();
  log::info("stopped");
  return exit_code_;
}

// ---- start ----

bool Control::start() {
  auto ring = net::make_ring(options_.ring, probe_);
  if (!ring.ok()) {
    log::error("cannot make an event loop", {{"error", ring.error().text}});
    return false;
  }
  ring_ = std::move(*ring);
  log::info("ring", {{"engine", ring_->name()}, {"probe", ring_->reason()}, {"kernel", probe_.kernel}});
  loop_ = std::make_unique<net::EventLoop>(*ring_, net::system_clock());
  started_at_ = loop_->now();
  started_wall_us_ = net::system_clock().wall_time_us();
  recent_ = std::make_unique<observability::RecentTimes>(started_at_);
  loop_->arm(sampling_, observability::RecentTimes::period);
  loop_->arm(forgetting_, options_.metrics.series_idle / kForgettingSweeps);
  client_tls_.emplace(*loop_, pool_);
  admin_tls_.emplace(*loop_, admin_pool_);
  client_ = std::make_unique<upstream::Client>(*loop_, options_.client);

  auto access_log = observability::AccessLog::open(access_log_options(options_));
  if (!access_log.ok()) {
    log::error("cannot open the access log", {{"error", access_log.error().text},
                                              {"hint", "give another access_log.path, or - for standard output"}});
    return false;
  }
  access_log_ = std::move(*access_log);

  if (told_ != nullptr) {
    listener_ = std::make_unique<kvevents::Listener>(
        *loop_, pool_, *told_, kvevents::ListenerOptions{.topic = options_.kv_events.topic},
        static_cast<uint64_t>(started_wall_us_), [this](uint32_t slot) { index_.forget_endpoint(slot); });
  }
  keys_ = std::make_unique<ApiKeys>(*loop_);
  directory_ = std::make_unique<discovery::Directory>(*loop_, *client_, snapshots_, registry_, *this,
                                                      poll_options(options_, *keys_));
  sources_ = std::make_unique<Sources>(*loop_, *directory_, *keys_, [this](const auto& desired) { take_tls(desired); });
  if (options_.endpoint_picker != nullptr && options_.endpoint_picker->endpoints.watch) {
    endpoints_file_ = WatchedFile(options_.endpoint_picker->endpoints.path);
  }
  make_shards();
  if (!load_certificates()) return false;
  if (!sources_->start(options_, std::exchange(manifests_, {}))) return false;

  if (!find_addresses()) return false;
  if (!start_admin()) return false;
  // Probe the endpoints before clients are accepted, unless they take too long to answer.
  const Instant deadline = net::system_clock().now() + kFirstProbes;
  while (!(sources_->names_settled() && directory_->synced()) && net::system_clock().now() < deadline)
    loop_->run_turn(milliseconds(10));
  if (!start_shards()) return false;
  phase_ = Phase::serving;
  if (!endpoints_file_.path().empty()) look_at_endpoints_file();
  log::info("serving", {{"listen", listening_.front().to_string()},
                        {"shards", options_.shards},
                        {"endpoints", registry_.living()},
                        {"policy", options_.endpoint_picker ? options_.endpoint_picker->source : options_.policy},
                        {"memory_budget", options_.limits.memory_bytes},
                        {"prefix_index_bytes", index_.bytes()},
                        {"prefix_index_bytes_most", index_.bytes_most()}});
  return true;
}

void Control::make_shards() {
  const std::vector<int> cpus = config::detect_cpus();
  for (size_t i = 0; i < options_.shards; ++i) {
    decisions_.push_back(std::make_unique<observability::DecisionLog>(net::system_clock()));
    stats_.push_back(std::make_unique<observability::ShardStats>(names_, &access_log_->shard(i), decisions_[i].get()));
    const bool pin = options_.pin && options_.shards <= cpus.size();
    shards_.push_back(std::make_unique<Shard>(shared_, i, pin ? cpus[i] : -1, *stats_[i]));
  }
}

// ---- what the directory learns ----

void Control::on_caches_lost(const endpoints::EndpointState& endpoint) {
  index_.forget_endpoint(endpoint.slot);
  for (const routing::Scorer* const scorer : profile_->listeners) scorer->caches_lost(endpoint);
  if (listener_ != nullptr) listener_->check(endpoint.slot);
}

void Control::on_listed(const std::vector<Listed>& endpoints) {
  if (listener_ == nullptr) return;
  const config::KvEvents& options = options_.kv_events;
  std::vector<kvevents::Source> sources;
  for (const auto& [state, spec] : endpoints) {
    const auto address = net::Address::parse(state.address);
    PENSTOCK_ASSERT(address.ok());
    const uint32_t offset = spec.rank * options.ranks;
    // The endpoint's own port, else the usual one for its rank. 0: it publishes (or replays) nothing.
    const auto port = [&, &state = state](uint16_t own, uint32_t usual) -> uint16_t {
      if (own == 0 && usual == 0) return 0;
      const uint32_t first = own != 0 ? own : usual + offset;
      if (first + options.ranks - 1 <= UINT16_MAX) return static_cast<uint16_t>(first);
      log::warn("KV events: no ports left for all ranks", {{"endpoint", state.name}, {"first", first}});
      return 0;
    };
    sources.push_back({.slot = state.slot,
                       .incarnation = state.incarnation,
                       .name = state.name,
                       .ip = address->ip_string(),
                       .port = port(spec.kv_events_port, options.port),
                       .replay_port = port(spec.kv_replay_port, options.replay_port)});
  }
  listener_->set_sources(sources);
}

void Control::on_draining(const endpoints::EndpointState& endpoint) {
  for (const auto& shard : shards_) shard->drop_idle(endpoint.slot);
}

void Control::on_silent(const endpoints::EndpointState& endpoint, std::optional<Instant> unanswered_since) {
  for (const auto& shard : shards_) shard->leave_silent(endpoint.slot, endpoint.incarnation, unanswered_since);
}

void Control::on_unreachable(const endpoints::EndpointState& endpoint) {
  sources_->not_alive(endpoint.address);
}

// A new snapshot may have more room: new endpoints, or shorter queues.
void Control::on_published(const endpoints::Snapshot& snapshot) {
  const bool usable = any_usable(snapshot);
  if (usable_ && !usable) unusable_since_ = loop_->now();
  usable_ = usable;
  hold_.room_made(snapshot, loop_->now());
  check_index_size(snapshot);
  note_known_models(snapshot);
}

// Their names have room on the page of metrics in any case.
void Control::note_known_models(const endpoints::Snapshot& snapshot) {
  if (loop_->now() < next_models_check_) return;
  next_models_check_ = loop_->now() + kModelsCheck;
  std::set<std::string, std::less<>> models;
  for (const endpoints::Pool& pool : snapshot.pools) {
    const std::vector<std::string>* last = nullptr;  // replicas mostly serve the same
    for (const endpoints::EndpointView& endpoint : pool.endpoints) {
      if (last == nullptr || *last != endpoint.models) models.insert(endpoint.models.begin(), endpoint.models.end());
      last = &endpoint.models;
    }
  }
  names_.known.set(std::move(models));
}

// Lets the prefix index grow with the endpoints' caches. Warns if it must not grow far enough, because it then forgets
// blocks that are still cached.
void Control::check_index_size(const endpoints::Snapshot& snapshot) {
  const Instant now = loop_->now();
  if (now < next_index_check_) return;
  next_index_check_ = now + kIndexCheck;
  const double wanted = observability::prefix_blocks_cached(snapshot);
  const size_t before = index_.entries(), roomy = static_cast<size_t>(wanted * kIndexRoom);
  index_.reserve(roomy);
  if (told_ != nullptr) told_->reserve(roomy);
  if (index_.entries() > before) {
    log::info("the prefix index has grown with the endpoints' caches",
              {{"entries", index_.entries()}, {"bytes", index_.bytes()}});
  }
  if (wanted <= static_cast<double>(index_.entries()) || now < next_index_warning_) return;
  next_index_warning_ = now + kIndexWarning;
  log::warn(
      "the prefix index is smaller than the endpoints' caches and will forget before they do: "
      "give the gateway more memory or raise routing.prefix_index_entries",
      {{"entries", index_.entries()}, {"wanted_entries", static_cast<uint64_t>(wanted)}});
}

// ---- signals ----

void Control::on_signal(int signal) {
  if (signal == SIGHUP) return reload();
  if (phase_ != Phase::serving) return end();  // a second signal ends the process at once
  log::info("draining", {{"signal", strsignal(signal)}, {"in_flight", in_flight()}});
  begin_drain(/*at_once=*/signal == SIGINT);
}

// The new configuration is applied as a whole or not at all.
void Control::reload() {
  config::LoadResult loaded = config::load(source_);
  for (const Problem& problem : loaded.problems) log::error("reload: " + to_string(problem));
  if (!loaded.ok()) return refuse_reload();
  for (const Problem& note : loaded.notes) log::warn("configuration: " + to_string(note));
  const std::vector<std::string> restart = config::changes_needing_restart(loaded_, loaded.options);
  for (const std::string& change : restart) log::error("reload: needs a restart", {{"change", change}});
  if (!restart.empty()) return refuse_reload();
  const config::Options next = with_defaults(loaded.options);
  if (const auto reopened = access_log_->configure(access_log_options(next)); !reopened.ok()) {
    log::error("reload: cannot open the access log", {{"error", reopened.error().text}});
    return refuse_reload();
  }
  if (const std::string problem = tls_files_->set(next); !problem.empty()) {
    log::error("reload: TLS", {{"error", problem}});
    return refuse_reload();
  }
  sources_->reload(next, std::move(loaded.manifests));
  for (const std::string& change : config::diff(loaded_, loaded.options)) log::info("reload", {{"change", change}});
  directory_->set_options(poll_options(next, *keys_));
  budget_.set_limit(next.limits.memory_bytes);
  shared_.connections_max.store(next.limits.connections, std::memory_order_relaxed);
  log::configure(next.log_level, next.log_format);
  options_ = next;
  loop_->arm(forgetting_, options_.metrics.series_idle / kForgettingSweeps);
  loaded_ = loaded.options;
  client_->set_options(next.client);
  // The reload is complete when every shard has applied it.
  const auto left = std::make_shared<size_t>(shards_.size());
  const auto applied = [this, left] {
    if (--*left > 0) return;
    ++reloads_;
    hold_.set_options(flow_options(options_));
    responses_.set_ttl(options_.responses.ttl);
    hold_.room_made(*snapshots_.current(), loop_->now());
    log::info("reloaded");
  };
  for (const auto& shard : shards_) shard->reload(next, [this, applied] { loop_->post(applied); });
}

// What file-discovery lists, once it has changed; as a whole or not at all.
void Control::look_at_endpoints_file() {
  loop_->arm(endpoints_watch_, kFileCheck);
  if (!endpoints_file_.changed()) return;
  config::EndpointsFile read = config::read_endpoints_file(endpoints_file_.path());
  for (const Problem& problem : read.problems) log::error("endpoints file: " + to_string(problem));
  if (!read.problems.empty()) return log::error("endpoints file refused: the endpoints stay");
  config::Options next = loaded_;
  next.endpoints = std::move(read.endpoints);
  for (const std::string& change : config::diff(loaded_, next)) log::info("endpoints file", {{"change", change}});
  loaded_.endpoints = options_.endpoints = next.endpoints;
  sources_->reload(options_, {});
}

void Control::refuse_reload() {
  ++reloads_failed_;
  log::error("reload refused: the running configuration stays");
}

// ---- drain ----

// Readiness turns false at once, so that load balancers choose other replicas. Connections are still accepted for
// drain_delay. In the second half of it, answers tell clients to close theirs.
void Control::begin_drain(bool at_once) {
  phase_ = Phase::draining;
  sources_->stop_writing();
  drain_deadline_ = loop_->now() + options_.drain_delay + options_.drain_limit;
  if (at_once) return stop_accepting();
  loop_->arm(drain_notice_, options_.drain_delay / 2);
  loop_->arm(drain_delay_, options_.drain_delay);
}

void Control::announce_drain() {
  for (const auto& shard : shards_) shard->announce_drain();
}

void Control::stop_accepting() {
  for (const auto& shard : shards_) shard->stop_accepting();
  loop_->arm(drain_watch_, kDrainCheck);
}

void Control::watch_drain() {
  if (in_flight() == 0 && shared_.clients.load(std::memory_order_relaxed) == 0) return end();
  if (loop_->now() >= drain_deadline_) {
    log::warn("drain limit reached: cutting what is left", {{"in_flight", in_flight()}});
    return end();
  }
  loop_->arm(drain_watch_, kDrainCheck);
}

void Control::end() {
  phase_ = Phase::ending;
  loop_->stop();
}

void Control::stop_shards() {
  hold_.close();
  for (const auto& shard : shards_) shard->stop();
  for (const auto& shard : shards_) shard->join();
}

int64_t Control::in_flight() const {
  int64_t sum = 0;
  for (const auto& shard : shards_) sum += shard->in_flight();
  return sum;
}

// ---- admin pages ----

std::string Control::not_ready() const {
  if (phase_ == Phase::starting) return "starting";
  if (phase_ != Phase::serving) return "draining";
  const bool accepting =
      std::any_of(shards_.begin(), shards_.end(), [](const auto& shard) { return shard->accepting(); });
  if (!accepting) return "no shard accepts connections";
  if (std::string waiting = sources_->not_ready(); !waiting.empty()) return waiting;
  return directory_->synced() ? no_endpoint() : "endpoints not probed yet";
}

// What the setting says is missing while no endpoint can be used; "": nothing. Not while requests wait for the last one
// to come back.
std::string Control::no_endpoint() const {
  if (usable_ || options_.no_endpoint == config::NoEndpoint::ready) return "";
  const admission::FlowOptions flow = flow_options(options_);
  const Instant now = loop_->now();
  if (flow.enabled && unusable_since_ && now < *unusable_since_ + flow.no_endpoint_ttl) return "";
  if (why_unusable_.empty() || now - why_unusable_at_ > kWhyCheck) {
    why_unusable_ = why_none_usable(directory_->status(), sources_->names());
    why_unusable_at_ = now;
  }
  return why_unusable_;
}

// Each shard forgets its own; FlowStats are everybody's.
void Control::forget_unused_series() {
  flow_stats_.forget_unused(kForgettingSweeps);
  for (const auto& shard : shards_) shard->forget_unused_series(kForgettingSweeps);
  loop_->arm(forgetting_, options_.metrics.series_idle / kForgettingSweeps);
}

void Control::sample_times() {
  std::vector<const observability::ShardStats*> shards;
  for (const auto& stats : stats_) shards.push_back(stats.get());
  recent_->sample(loop_->now(), shards);
  loop_->arm(sampling_, observability::RecentTimes::period);
}

observability::ExportInput Control::gather() const {
  observability::ExportInput input;
  input.now = loop_->now();
  input.wall_us = net::system_clock().wall_time_us();
  input.started_at = started_at_;
  input.started_wall_us = started_wall_us_;
  input.build = {.version = PENSTOCK_VERSION, .commit = PENSTOCK_COMMIT, .compiler = __VERSION__};
  input.kernel = probe_.kernel;
  for (size_t i = 0; i < shards_.size(); ++i) {
    input.shards.push_back({.stats = stats_[i].get(),
                            .ring = shards_[i]->ring_stats(),
                            .upstream = shards_[i]->upstream_stats(),
                            .ring_name = shards_[i]->ring_name(),
                            .ring_reason = shards_[i]->ring_reason(),
                            .tls = shards_[i]->tls()});
  }
  input.names = &names_;
  input.recent = recent_.get();
  input.snapshot = snapshots_.current();
  input.snapshot_at = directory_->published_at();
  input.polls = directory_->status();
  input.names_of_hosts = sources_->names();
  input.cluster = sources_->cluster();
  input.problems = input.cluster.has_value() ? std::move(input.cluster->problems) : sources_->problems();
  input.metrics_stale_after = metrics_stale_after(options_);
  input.flow = &flow_stats_;
  input.programs = hold_.programs();
  input.flow_options = flow_options(options_);
  input.responses = &responses_;
  input.memory = &budget_;
  input.prefix_index_size = index_.size();
  input.prefix_index_entries = index_.entries();
  input.prefix_index_bytes = index_.bytes() + (told_ != nullptr ? told_->bytes() : 0);
  input.prefix_index_bytes_most = index_.bytes_most() * (told_ != nullptr ? 2 : 1);
  if (listener_ != nullptr) {
    input.kv_events.emplace();
    input.kv_events->ranks = listener_->status();
    input.kv_events->time_spent = listener_->time_spent();
    input.kv_events->index_size = told_->size();
    input.kv_events->admitted = told_->admitted();
    input.kv_events->evicted = told_->evicted();
  }
  if (shadow_ != nullptr) input.shadow_policy = shadow_->name;
  input.reloads = reloads_;
  input.reloads_failed = reloads_failed_;
  input.control_tls = &*client_tls_;
  input.admin_tls = &*admin_tls_;
  if (tls_files_->any()) input.tls_files = tls_files_->status();
  input.access_log = access_log_.get();
  input.admin_connections_refused = admin_connections_refused_;
  input.admin_connections_evicted = admin_connections_evicted_;
  input.admin_pages_refused = admin_->pages_refused();
  input.process = observability::process_usage();
  input.log_lines_lost = log::lines_lost();
  return input;
}

}  // namespace penstock::app
