// The control thread. It owns what the shards share, finds endpoints, serves the admin port, handles signals, and takes
// the process through its phases: starting, serving, draining, ending. Thread: that of run(); only what the members of
// Shared allow is used by shards.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin.h"
#include "api_keys.h"
#include "backend_trusts.h"
#include "penstock/config/command_line.h"
#include "penstock/discovery/directory.h"
#include "penstock/kvevents/listener.h"
#include "penstock/observability/access_log.h"
#include "shard.h"
#include "sources.h"
#include "tls_files.h"
#include "watched_file.h"

namespace penstock::app {

class Control final : public discovery::DirectoryEvents {
 public:
  explicit Control(const config::Command& command);
  ~Control();

  // Runs the gateway; returns the exit code.
  int run();

 private:
  enum class Phase : uint8_t { starting, serving, draining, ending };
  static constexpr size_t kAdminMemory = 64 * 1024 * 1024;

  bool start();
  void make_shards();
  bool find_addresses();
  bool load_certificates();
  bool start_shards();
  void publish_tls(size_t listener, std::vector<TlsFiles::Context> contexts);
  void publish_admin_tls(TlsFiles::Context context);
  void publish_trust(const std::string& trust, const TlsFiles::ClientContext& context);
  void take_tls(const objects::Desired& desired);
  void take_certificates(const objects::Certificates& of_gateways);
  bool start_admin();
  bool place_admin(int fd);
  void on_signal(int signal);
  void reload();
  void refuse_reload();
  void look_at_endpoints_file();
  void begin_drain(bool at_once);
  void announce_drain();
  void stop_accepting();
  void watch_drain();
  void end();
  std::string not_ready() const;  // why /readyz answers 503; "": ready
  std::string no_endpoint() const;
  int64_t in_flight() const;
  observability::ExportInput gather() const;
  void sample_times();
  void forget_unused_series();
  void note_known_models(const endpoints::Snapshot& snapshot);
  void on_caches_lost(const endpoints::EndpointState& endpoint) override;
  void on_draining(const endpoints::EndpointState& endpoint) override;
  void on_silent(const endpoints::EndpointState& endpoint, std::optional<Instant> unanswered_since) override;
  void on_unreachable(const endpoints::EndpointState& endpoint) override;
  void on_listed(const std::vector<Listed>& endpoints) override;
  void on_published(const endpoints::Snapshot& snapshot) override;
  void check_index_size(const endpoints::Snapshot& snapshot);
  void stop_shards();

  config::Source source_;
  config::Options loaded_;        // as given by file and flags
  config::Options options_;       // the same, with defaults that depend on the machine filled in
  objects::Manifests manifests_;  // until start() has taken them
  net::RingProbe probe_;
  Phase phase_ = Phase::starting;
  int exit_code_ = 0;
  uint64_t reloads_ = 0, reloads_failed_ = 0;
  uint64_t admin_connections_max_ = 0, admin_connections_refused_ = 0, admin_connections_evicted_ = 0;

  MemoryBudget budget_;
  endpoints::SnapshotPublisher snapshots_;
  endpoints::EndpointRegistry registry_;
  routing::PrefixIndex index_;
  std::unique_ptr<routing::ToldIndex> told_;  // null: KV events are off
  routing::TokenEstimator tokens_;
  std::unique_ptr<routing::Profile> profile_, shadow_;  // shadow_ is null without a shadow policy
  observability::Names names_;
  observability::FlowStats flow_stats_;
  proxy::HoldQueue hold_;
  proxy::ResponseOwners responses_;
  std::unique_ptr<observability::AccessLog> access_log_;
  std::unique_ptr<observability::RecentTimes> recent_;
  std::vector<std::unique_ptr<observability::DecisionLog>> decisions_;
  std::vector<std::unique_ptr<observability::ShardStats>> stats_;
  std::vector<std::unique_ptr<Shard>> shards_;
  downstream::ClientTable clients_by_address_;
  Shared shared_;

  std::vector<net::Address> listening_;  // `listen`, unless it is none, then `listeners`
  std::unique_ptr<net::Ring> ring_;
  net::BlockPool pool_;
  std::unique_ptr<net::EventLoop> loop_;
  std::optional<net::TlsRuntime> client_tls_;
  std::unique_ptr<upstream::Client> client_;
  std::unique_ptr<kvevents::Listener> listener_;  // null without told_
  std::unique_ptr<ApiKeys> keys_;
  std::unique_ptr<discovery::Directory> directory_;
  std::unique_ptr<Sources> sources_;
  std::unique_ptr<TlsFiles> tls_files_;
  uint64_t certificates_taken_ = 0;  // their revision
  BackendTrusts trusts_;
  MemoryBudget admin_budget_{kAdminMemory};  // of its own: probes are answered also when clients use up theirs
  net::BlockPool admin_pool_{admin_budget_};
  std::optional<net::TlsRuntime> admin_tls_;
  TlsFiles::Context admin_context_;  // null: plain HTTP
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<downstream::Server> admin_server_;
  WatchedFile endpoints_file_;  // of file-discovery with watchFile
  net::Timer endpoints_watch_;
  net::Timer drain_notice_, drain_delay_, drain_watch_;
  net::Timer sampling_, forgetting_;
  Instant drain_deadline_{}, started_at_{};
  Instant next_index_check_{}, next_index_warning_{}, next_models_check_{};
  int64_t started_wall_us_ = 0;
  bool usable_ = false;                    // some endpoint of the current snapshot
  std::optional<Instant> unusable_since_;  // since the last time that this was so
  mutable std::string why_unusable_;       // as of why_unusable_at_
  mutable Instant why_unusable_at_{};
};

}  // namespace penstock::app
