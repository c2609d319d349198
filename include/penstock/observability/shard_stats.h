// What one shard has done, counted as it happens. Written by the shard's thread alone, without locks and, once a
// model's name has been seen, without allocation; the exporter reads it from the control thread at any time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/stats.h"
#include "penstock/observability/buckets.h"
#include "penstock/observability/kind_stats.h"
#include "penstock/observability/name_table.h"
#include "penstock/observability/options.h"
#include "penstock/observability/tenants.h"
#include "penstock/proxy/observer.h"
#include "penstock/routing/router.h"

namespace penstock::observability {

class AccessLogWriter;
class DecisionLog;

// Names seen by any shard: one per process. Names of models that the endpoints serve need no room.
struct Names {
  explicit Names(const PageLimits& page = {});

  PageLimits page;
  KnownModels known;
  NameTable kinds;         // model, target model, "", priority
  NameTable scheduled;     // target model, endpoint, its `place`
  NameTable rewrites;      // InferenceModelRewrite, model, target model
  NameTable splits;        // target model, decision type
  NameTable plugins{200};  // extension point, type, name
  NameTable at_once;       // pool, priority, outcome: of requests that flow control did not let wait
  TenantRoom tenants;      // model, target model, fairness id, priority
  bool by_tenant() const { return page.epp_names != EppNames::v1; }
  size_t bytes_for_flow() const;  // the part of FlowStats
};

// Status codes of answers that metrics tell apart: these, and each class for the others.
inline constexpr uint16_t answer_codes[] = {101, 200, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504};
constexpr size_t answer_code_count = std::size(answer_codes) + 4;
size_t answer_code(uint16_t status);         // its place
const char* answer_code_name(size_t place);  // "404"; "4xx" for others of the class

class ShardStats final : public proxy::ExchangeObserver, private proxy::GapObserver {
 public:
  // `names` is shared by all shards. Both logs are this shard's own and may be null.
  explicit ShardStats(Names& names, AccessLogWriter* access_log = nullptr, DecisionLog* decisions = nullptr);
  ~ShardStats() override;
  ShardStats(const ShardStats&) = delete;

  void exchange_started() override { started_.add(); }
  uint32_t running_began(const proxy::RequestKind& kind) override;
  void running_ended(uint32_t kind) override;
  void decision_made(Duration cost, bool found, const endpoints::EndpointState* endpoint,
                     std::string_view target_model) override;
  void shadow_decided(bool agrees, double gain_seconds) override;
  void told_index_asked(uint32_t blocks) override;
  void split_decided(routing::Split split, std::string_view target_model) override;
  void did_not_wait(std::string_view pool, int priority, proxy::HoldOutcome outcome) override;
  void model_rewritten(std::string_view rewrite, std::string_view model, std::string_view target_model) override;
  void model_not_restored() override { not_restored_.add(); }
  void attempt_failed(proxy::AttemptFailure failure, bool retried) override;
  void stream_broken(proxy::AttemptFailure why) override { breaks_[static_cast<size_t>(why)].add(); }
  void stream_resumed(Duration seam, uint64_t tokens) override;
  void stream_not_resumed(openai::ResumeObstacle why) override { not_resumed_[static_cast<size_t>(why)].add(); }
  void endpoint_ejected(const endpoints::EndpointState& endpoint, proxy::Ejection reason) override;
  void endpoint_answered(const endpoints::EndpointState& endpoint, uint16_t status) override;
  proxy::GapObserver* stream_began(const proxy::RequestKind& kind) override;
  void tunnels_changed(int delta) override { tunnels_.add(delta); }
  void tunnel_bytes(bool from_client, uint64_t bytes) override { tunnel_bytes_[from_client].add(bytes); }
  void finished(const proxy::ExchangeRecord& record) override;
  void client_connections_changed(int delta) override { client_connections_.add(delta); }
  void limit_hit(std::string_view limit_name) override;
  void idle_connection_evicted() override { idle_evicted_.add(); }

  // Before a decision: where the router should explain it, when this one is to be kept for /debug/decisions; else null.
  routing::Explanation* explanation_slot(Instant now, bool asked) override;

  // ---- for the exporter, any thread ----
  struct Limit {
    std::atomic<bool> used{false};
    std::string name;  // never changes once `used` is seen
    Counter hits;
  };
  static constexpr size_t limits_max = 32;  // the last one takes what has no place

  // Read together: started is never less than what ended, so that in_flight() is what is between them.
  struct Totals {
    uint64_t started = 0;
    std::array<uint64_t, proxy::outcome_count> outcomes{};
    uint64_t in_flight() const;
    Totals& operator+=(const Totals& other);
  };
  Totals totals() const;
  uint64_t attempts() const { return attempts_.get(); }
  uint64_t breaks(proxy::AttemptFailure why) const { return breaks_[static_cast<size_t>(why)].get(); }
  // Breaks after which a stream has gone on elsewhere; others, by what was in the way.
  uint64_t resumed() const { return resumed_.get(); }
  uint64_t not_resumed(openai::ResumeObstacle why) const { return not_resumed_[static_cast<size_t>(why)].get(); }
  uint64_t resumed_tokens() const { return resumed_tokens_.get(); }
  const Histogram<stage_seconds>& resume_seam() const { return resume_seam_; }
  uint64_t failures(proxy::AttemptFailure failure) const { return failures_[static_cast<size_t>(failure)].get(); }
  uint64_t ejections(proxy::Ejection reason) const { return ejections_[static_cast<size_t>(reason)].get(); }
  uint64_t retries(proxy::AttemptFailure failure) const { return retries_[static_cast<size_t>(failure)].get(); }
  uint64_t ejections(const endpoints::EndpointState& endpoint) const;
  // Heads of answers that came from the endpoint, by answer_code().
  uint64_t answers(const endpoints::EndpointState& endpoint, size_t code) const;
  uint64_t request_bytes() const { return request_bytes_.get(); }
  uint64_t response_bytes() const { return response_bytes_.get(); }
  uint64_t chunks() const { return chunks_.get(); }
  int64_t client_connections() const { return client_connections_.get(); }
  uint64_t idle_evicted() const { return idle_evicted_.get(); }
  int64_t tunnels() const { return tunnels_.get(); }
  uint64_t tunnel_bytes(bool from_client) const { return tunnel_bytes_[from_client].get(); }
  const std::array<Limit, limits_max>& limits() const { return limits_; }
  // Of inference requests whose answer was one: streams, and answers that came as a whole.
  const Histogram<epp_general_seconds>& time_to_first_token() const { return time_to_first_token_; }
  const Histogram<epp_general_seconds>& time_to_whole_answer() const { return time_to_whole_answer_; }
  const Histogram<inter_token_seconds>& inter_token_gaps() const { return inter_token_; }
  const Histogram<stage_seconds>& stage(proxy::Stage stage) const { return stages_[static_cast<size_t>(stage)]; }
  const Histogram<epp_decision_seconds>& decision_time() const { return decision_time_; }
  const Histogram<epp_processing_seconds>& processing_time() const { return processing_time_; }
  const Histogram<epp_hit_ratio>& hit_ratio() const { return hit_ratio_; }
  const Histogram<epp_hit_bytes>& hit_bytes() const { return hit_bytes_; }
  // Of ToldIndex: times it was asked, blocks found, and how long it took where a decision was explained.
  uint64_t told_lookups() const { return told_lookups_.get(); }
  uint64_t told_hits() const { return told_hits_.get(); }
  const Histogram<kv_lookup_seconds>& told_lookup_time() const { return told_lookup_time_; }
  // The shadow policy's decisions; the seconds by which its choices were predicted to be better, and worse.
  uint64_t shadow_agreed() const { return shadow_agreed_.get(); }
  uint64_t shadow_differed() const { return shadow_differed_.get(); }
  double shadow_gain() const { return shadow_gain_.load(std::memory_order_relaxed); }
  double shadow_loss() const { return shadow_loss_.load(std::memory_order_relaxed); }
  uint64_t decisions_failed() const { return decisions_failed_.get(); }
  const Names& names() const { return names_; }
  int64_t running(uint32_t kind) const { return running_[kind].get(); }
  uint64_t scheduled(uint32_t name) const { return scheduled_[name].get(); }
  uint64_t not_restored() const { return not_restored_.get(); }
  uint64_t rewritten(uint32_t name) const { return rewritten_[name].get(); }
  uint64_t split(uint32_t name) const { return splits_[name].get(); }
  uint64_t did_not_wait(uint32_t name) const { return at_once_[name].get(); }
  // Null: none of this plugin's were measured. Only decisions that are explained are.
  const Histogram<epp_decision_seconds>* plugin_time(uint32_t name) const {
    return plugin_times_[name].load(std::memory_order_acquire);
  }
  // By the numbers of Names::kinds; null: there were none of this kind.
  const KindStats* kind(uint32_t kind) const { return kinds_[kind].load(std::memory_order_acquire); }
  // Of fairness ids without series of their own, by the same numbers; null: there were none.
  const Tenant* crowd(uint32_t kind) const { return crowds_[kind].load(std::memory_order_acquire); }
  // Requests by fairness id; none unless Names::by_tenant().
  std::vector<std::shared_ptr<const Tenant>> tenants() const { return tenants_.list(); }
  // Times something was counted as "other" because the page of metrics has no room for its name.
  uint64_t folded() const { return folded_.get(); }

  // ---- the shard's thread ----
  // To be called regularly: series by fairness id that were not used between so many calls go.
  void forget_unused_tenants(uint32_t sweeps_max) { tenants_.sweep(sweeps_max); }

 private:
  // Of the endpoint that holds a slot; counted anew when another endpoint takes the slot.
  struct EndpointSlot {
    std::atomic<uint32_t> incarnation{0};
    std::atomic<uint64_t> ejections{0};
    std::array<std::atomic<uint64_t>, answer_code_count> answers{};
  };
  static constexpr size_t block_size = 64, block_count = 64;  // slots: PrefixIndex::endpoint_slots_max
  using EndpointBlock = std::array<EndpointSlot, block_size>;

  EndpointSlot* slot_of(const endpoints::EndpointState& endpoint);
  const EndpointSlot* find_slot(const endpoints::EndpointState& endpoint) const;
  Limit& limit_named(std::string_view limit_name);
  void gap(Duration time) override { inter_token_.record(to_seconds(time)); }  // of streams without a model
  // What an exchange is counted under: a number of Names::kinds, and the place of its tenant (0: the crowd).
  struct Kind {
    uint32_t number, tenant;
  };
  Kind kind_of(const proxy::RequestKind& kind, bool may_be_new);
  static uint32_t packed(Kind kind) { return kind.number | kind.tenant << tenant_shift; }
  static Kind unpacked(uint32_t kind) { return {kind & ((1u << tenant_shift) - 1), kind >> tenant_shift}; }
  static constexpr uint32_t tenant_shift = 16;
  KindStats& stats_of(uint32_t kind);
  Tenant& tenant_of(Kind kind);
  uint32_t folding(uint32_t number);
  void count_stages(const proxy::ExchangeRecord& record);
  void count_inference(const proxy::ExchangeRecord& record);
  void count_kind(const proxy::ExchangeRecord& record, KindStats& stats);
  void count_times(const proxy::ExchangeRecord& record, KindStats& stats);
  void count_first_bytes(const proxy::ExchangeRecord& record);
  void count_plugins(const routing::Explanation& explained);

  Names& names_;
  AccessLogWriter* const access_log_;
  DecisionLog* const decisions_;
  const routing::Explanation* explained_ = nullptr;  // of the decision being made

  Counter started_, attempts_, request_bytes_, response_bytes_, chunks_, decisions_failed_, not_restored_,
      idle_evicted_;
  std::array<Counter, proxy::outcome_count> outcomes_;
  std::array<Counter, proxy::attempt_failure_count> failures_, retries_, breaks_;
  std::array<Counter, proxy::ejection_count> ejections_;
  std::array<Counter, openai::resume_obstacles> not_resumed_;
  Counter resumed_, resumed_tokens_;
  Histogram<stage_seconds> resume_seam_;
  Gauge client_connections_, tunnels_;
  std::array<Counter, 2> tunnel_bytes_;  // to clients, from them
  std::array<Limit, limits_max> limits_;
  Histogram<epp_general_seconds> time_to_first_token_, time_to_whole_answer_;
  Histogram<inter_token_seconds> inter_token_;
  std::array<Histogram<stage_seconds>, proxy::stage_count> stages_;
  Histogram<epp_decision_seconds> decision_time_;
  Histogram<epp_processing_seconds> processing_time_;
  Counter told_lookups_, told_hits_;
  Histogram<kv_lookup_seconds> told_lookup_time_;
  Counter shadow_agreed_, shadow_differed_;
  std::atomic<double> shadow_gain_{0}, shadow_loss_{0};
  Histogram<epp_hit_ratio> hit_ratio_;
  Histogram<epp_hit_bytes> hit_bytes_;

  // Arrays over the numbers of a NameTable; [0] is "other".
  std::unique_ptr<Gauge[]> running_;
  std::unique_ptr<Counter[]> scheduled_, rewritten_, splits_, at_once_;
  using PluginTime = Histogram<epp_decision_seconds>;
  // Each made when first needed.
  std::unique_ptr<std::atomic<KindStats*>[]> kinds_;
  std::unique_ptr<std::atomic<Tenant*>[]> crowds_;  // of fairness ids without a place, by kind
  std::unique_ptr<std::atomic<PluginTime*>[]> plugin_times_;
  std::vector<std::unique_ptr<KindStats>> owned_kinds_;
  std::vector<std::unique_ptr<Tenant>> owned_crowds_;
  Tenants tenants_;
  Counter folded_;
  std::vector<std::unique_ptr<PluginTime>> owned_plugin_times_;
  // The shard's own. Those of `scheduled` by slot of the endpoint: a model's requests go to all of them in turn. Those
  // of `kinds` by the end of the model's name.
  NameTable::Recent recent_rewrite_, recent_at_once_;
  std::array<NameTable::Recent, 16> recent_kinds_;
  std::array<NameTable::Recent, 64> recent_scheduled_;
  std::array<NameTable::Recent, routing::split_count> recent_splits_;
  std::array<std::atomic<EndpointBlock*>, block_count> endpoints_{};
  std::vector<std::unique_ptr<EndpointBlock>> owned_endpoints_;
};

}  // namespace penstock::observability
