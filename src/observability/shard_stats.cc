#include "penstock/observability/shard_stats.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "penstock/observability/access_log.h"
#include "penstock/observability/decision_log.h"
#include "penstock/proxy/hold_queue.h"

namespace penstock::observability {

using proxy::ExchangeRecord;
using proxy::Outcome;
using proxy::Stage;

namespace {

// A priority as a label says it.
class PriorityText {
 public:
  explicit PriorityText(int priority) : end_(std::to_chars(digits_, digits_ + sizeof digits_, priority).ptr) {}
  std::string_view view() const { return {digits_, static_cast<size_t>(end_ - digits_)}; }

 private:
  char digits_[12];
  const char* end_;
};

// Models often differ in the last letter.
size_t last_letter(std::string_view name) {
  return name.empty() ? 0 : static_cast<unsigned char>(name.back());
}

// This thread alone writes it.
void add_one(std::atomic<uint64_t>& count) {
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

constexpr const char* answer_code_names[] = {"101", "200", "400", "401", "403", "404", "408", "413", "422",
                                             "429", "500", "502", "503", "504", "2xx", "3xx", "4xx", "5xx"};
static_assert(std::size(answer_code_names) == answer_code_count);

}  // namespace

// A server's status may be any number of three digits. Those beyond 599 are failures, as 5xx are.
size_t answer_code(uint16_t status) {
  const auto* const found = std::find(std::begin(answer_codes), std::end(answer_codes), status);
  if (found != std::end(answer_codes)) return static_cast<size_t>(found - std::begin(answer_codes));
  const int class_of = std::clamp(status / 100, 2, 5);
  return std::size(answer_codes) + static_cast<size_t>(class_of - 2);
}

const char* answer_code_name(size_t place) {
  return answer_code_names[place];
}

const char* to_string(EppError error) {
  switch (error) {
    case EppError::none:
      return "";
    case EppError::bad_request:
      return "BadRequest";
    case EppError::resource_exhausted:
      return "ResourceExhausted";
    case EppError::service_unavailable:
      return "ServiceUnavailable";
    case EppError::internal:
      return "Internal";
    case EppError::model_server:
      return "ModelServerError";
  }
  return "Internal";
}

EppError epp_error_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok:
    case Outcome::endpoint_4xx:  // the Endpoint Picker counts none of these
    case Outcome::client_gone:
      return EppError::none;
    case Outcome::client_error:
    case Outcome::timed_out_client:
      return EppError::bad_request;
    case Outcome::overloaded:
    case Outcome::evicted:
      return EppError::resource_exhausted;
    case Outcome::no_endpoint:
    case Outcome::draining:
      return EppError::service_unavailable;
    case Outcome::endpoint_error:
    case Outcome::upstream_failed:
    case Outcome::stream_broken:
      return EppError::model_server;
    case Outcome::internal_error:
      return EppError::internal;
  }
  return EppError::internal;
}

ShardStats::ShardStats(Names& names, AccessLogWriter* access_log, DecisionLog* decisions)
    : names_(names),
      access_log_(access_log),
      decisions_(decisions),
      running_(std::make_unique<Gauge[]>(names.kinds.names_max() + 1)),
      scheduled_(std::make_unique<Counter[]>(names.scheduled.names_max() + 1)),
      rewritten_(std::make_unique<Counter[]>(names.rewrites.names_max() + 1)),
      splits_(std::make_unique<Counter[]>(names.splits.names_max() + 1)),
      at_once_(std::make_unique<Counter[]>(names.at_once.names_max() + 1)),
      kinds_(std::make_unique<std::atomic<KindStats*>[]>(names.kinds.names_max() + 1)),
      crowds_(std::make_unique<std::atomic<Tenant*>[]>(names.kinds.names_max() + 1)),
      plugin_times_(std::make_unique<std::atomic<PluginTime*>[]>(names.plugins.names_max() + 1)),
      tenants_(names.tenants, inter_token_) {
  // A limit that was never reached says so: its series is there from the start.
  for (const char* name : {"header_bytes", "body_bytes", "field_bytes", "connections", "requests_per_shard", "memory",
                           "descriptors", "saturation", "flow_control", "flow_control_ttl", "client_min_rate",
                           "incomplete_heads", "connections_per_client", "http2_streams", "http2_resets",
                           "http2_idle_frames", "tunnels_per_shard", "tunnel_idle"}) {
    static_cast<void>(limit_named(name));
  }
}

ShardStats::~ShardStats() = default;

void KindStats::gap(Duration time) {
  const double took = to_seconds(time);
  inter_token.record(took);
  all_gaps_.record(took);
}

uint32_t ShardStats::running_began(const proxy::RequestKind& request) {
  if (request.model.empty()) return proxy::no_kind;
  const Kind kind = kind_of(request, true);
  running_[kind.number].add(+1);
  if (names_.by_tenant()) tenant_of(kind).running.add(+1);
  return packed(kind);
}

void ShardStats::running_ended(uint32_t number) {
  if (number == proxy::no_kind) return;
  const Kind kind = unpacked(number);
  running_[kind.number].add(-1);
  if (names_.by_tenant()) tenant_of(kind).running.add(-1);
}

// Only the newer names tell times between tokens apart.
proxy::GapObserver* ShardStats::stream_began(const proxy::RequestKind& request) {
  if (request.model.empty() || !names_.by_tenant()) return this;
  return &tenant_of(kind_of(request, true)).stats;
}

routing::Explanation* ShardStats::explanation_slot(Instant now, bool asked) {
  routing::Explanation* const slot = decisions_ == nullptr ? nullptr : decisions_->slot(now, asked);
  explained_ = slot;
  return slot;
}

void ShardStats::decision_made(Duration cost, bool found, const endpoints::EndpointState* endpoint,
                               std::string_view target_model) {
  decision_time_.record(to_seconds(cost));
  if (found && endpoint != nullptr) {
    NameTable::Recent& recent = recent_scheduled_[endpoint->slot % recent_scheduled_.size()];
    scheduled_[folding(names_.scheduled.index_of(recent, target_model, endpoint->name, endpoint->place))].add();
  } else {
    decisions_failed_.add();
  }
  if (explained_ != nullptr) count_plugins(*std::exchange(explained_, nullptr));
  if (decisions_ != nullptr) decisions_->record(cost, endpoint, target_model);
}

void ShardStats::count_plugins(const routing::Explanation& explained) {
  for (const routing::Explanation::PluginTime& time : explained.times) {
    if (time.type == "precise-prefix-cache-producer") told_lookup_time_.record(to_seconds(time.took));
    std::atomic<PluginTime*>& place = plugin_times_[names_.plugins.index_of(time.point, time.type, time.name)];
    PluginTime* histogram = place.load(std::memory_order_relaxed);
    if (histogram == nullptr) {
      owned_plugin_times_.push_back(std::make_unique<PluginTime>());
      histogram = owned_plugin_times_.back().get();
      place.store(histogram, std::memory_order_release);
    }
    histogram->record(to_seconds(time.took));
  }
}

void ShardStats::shadow_decided(bool agrees, double gain_seconds) {
  if (agrees) return shadow_agreed_.add();
  shadow_differed_.add();
  std::atomic<double>& sum = gain_seconds < 0 ? shadow_loss_ : shadow_gain_;
  sum.store(sum.load(std::memory_order_relaxed) + std::abs(gain_seconds), std::memory_order_relaxed);
}

void ShardStats::told_index_asked(uint32_t blocks) {
  told_lookups_.add();
  told_hits_.add(blocks);
}

void ShardStats::split_decided(routing::Split split, std::string_view target_model) {
  NameTable::Recent& recent = recent_splits_[static_cast<size_t>(split)];
  const std::string_view model = target_model.empty() ? "unknown" : target_model;
  splits_[folding(names_.splits.index_of(recent, model, to_string(split)))].add();
}

void ShardStats::did_not_wait(std::string_view pool, int priority, proxy::HoldOutcome outcome) {
  const PriorityText text(priority);
  at_once_[folding(names_.at_once.index_of(recent_at_once_, pool, text.view(), to_string(outcome)))].add();
}

void ShardStats::model_rewritten(std::string_view rewrite, std::string_view model, std::string_view target_model) {
  rewritten_[folding(names_.rewrites.index_of(recent_rewrite_, rewrite, model, target_model))].add();
}

void ShardStats::attempt_failed(proxy::AttemptFailure failure, bool retried) {
  failures_[static_cast<size_t>(failure)].add();
  if (retried) retries_[static_cast<size_t>(failure)].add();
}

// Null: the slot is beyond what is counted.
ShardStats::EndpointSlot* ShardStats::slot_of(const endpoints::EndpointState& endpoint) {
  const size_t block = endpoint.slot / block_size;
  if (block >= block_count) return nullptr;
  EndpointBlock* slots = endpoints_[block].load(std::memory_order_relaxed);
  if (slots == nullptr) {
    owned_endpoints_.push_back(std::make_unique<EndpointBlock>());
    slots = owned_endpoints_.back().get();
    endpoints_[block].store(slots, std::memory_order_release);
  }
  EndpointSlot& slot = (*slots)[endpoint.slot % block_size];
  if (slot.incarnation.load(std::memory_order_relaxed) != endpoint.incarnation) {
    slot.ejections.store(0, std::memory_order_relaxed);
    for (std::atomic<uint64_t>& count : slot.answers) count.store(0, std::memory_order_relaxed);
    slot.incarnation.store(endpoint.incarnation, std::memory_order_release);
  }
  return &slot;
}

const ShardStats::EndpointSlot* ShardStats::find_slot(const endpoints::EndpointState& endpoint) const {
  const size_t block = endpoint.slot / block_size;
  const EndpointBlock* const slots = block < block_count ? endpoints_[block].load(std::memory_order_acquire) : nullptr;
  if (slots == nullptr) return nullptr;
  const EndpointSlot& slot = (*slots)[endpoint.slot % block_size];
  return slot.incarnation.load(std::memory_order_acquire) == endpoint.incarnation ? &slot : nullptr;
}

void ShardStats::stream_resumed(Duration seam, uint64_t tokens) {
  resumed_.add();
  resumed_tokens_.add(tokens);
  resume_seam_.record(to_seconds(seam));
}

void ShardStats::endpoint_ejected(const endpoints::EndpointState& endpoint, proxy::Ejection reason) {
  ejections_[static_cast<size_t>(reason)].add();
  if (EndpointSlot* const slot = slot_of(endpoint)) add_one(slot->ejections);
}

void ShardStats::endpoint_answered(const endpoints::EndpointState& endpoint, uint16_t status) {
  if (EndpointSlot* const slot = slot_of(endpoint)) add_one(slot->answers[answer_code(status)]);
}

uint64_t ShardStats::ejections(const endpoints::EndpointState& endpoint) const {
  const EndpointSlot* const slot = find_slot(endpoint);
  return slot == nullptr ? 0 : slot->ejections.load(std::memory_order_relaxed);
}

uint64_t ShardStats::answers(const endpoints::EndpointState& endpoint, size_t code) const {
  const EndpointSlot* const slot = find_slot(endpoint);
  return slot == nullptr ? 0 : slot->answers[code].load(std::memory_order_relaxed);
}

void ShardStats::limit_hit(std::string_view limit_name) {
  limit_named(limit_name).hits.add();
}

ShardStats::Limit& ShardStats::limit_named(std::string_view limit_name) {
  for (size_t i = 0; i < limits_max; ++i) {
    Limit& limit = limits_[i];
    if (!limit.used.load(std::memory_order_relaxed)) {
      limit.name = i + 1 == limits_max ? "other" : limit_name;
      limit.used.store(true, std::memory_order_release);
    }
    if (limit.name == limit_name) return limit;
  }
  return limits_.back();
}

ShardStats::Totals ShardStats::totals() const {
  Totals out;
  for (size_t i = 0; i < out.outcomes.size(); ++i) out.outcomes[i] = outcomes_[i].get();
  // An exchange is counted as started before it is counted as ended; reading in the other order keeps that true here.
  std::atomic_thread_fence(std::memory_order_acquire);
  out.started = started_.get();
  return out;
}

uint64_t ShardStats::Totals::in_flight() const {
  uint64_t ended = 0;
  for (const uint64_t count : outcomes) ended += count;
  return started > ended ? started - ended : 0;
}

ShardStats::Totals& ShardStats::Totals::operator+=(const Totals& other) {
  started += other.started;
  for (size_t i = 0; i < outcomes.size(); ++i) outcomes[i] += other.outcomes[i];
  return *this;
}

ShardStats::Kind ShardStats::kind_of(const proxy::RequestKind& kind, bool may_be_new) {
  const PriorityText priority(kind.priority);
  NameTable& kinds = names_.kinds;
  NameTable::Recent& recent = recent_kinds_[last_letter(kind.model) % recent_kinds_.size()];
  Kind out{kinds.index_within(recent, may_be_new ? kinds.names_max() : 0, kind.model, kind.target_model, {},
                              priority.view()),
           0};
  // A model without a number has no tenants of its own either.
  if (names_.by_tenant() && out.number != NameTable::other) {
    out.tenant = tenants_.place_of(kind.model, kind.target_model, kind.fairness_id, priority.view(), may_be_new);
  }
  return out;
}

uint32_t ShardStats::folding(uint32_t number) {
  if (number == NameTable::other) folded_.add();
  return number;
}

// The tenant's own, or those of all that have no place and are of the same kind.
Tenant& ShardStats::tenant_of(Kind kind) {
  if (kind.tenant != 0) return tenants_.at(kind.tenant);
  std::atomic<Tenant*>& place = crowds_[kind.number];
  Tenant* crowd = place.load(std::memory_order_relaxed);
  if (crowd == nullptr) {
    const auto& parts = names_.kinds.name(kind.number).parts;
    owned_crowds_.push_back(std::make_unique<Tenant>(parts[0], parts[1], "other", parts[3], inter_token_));
    crowd = owned_crowds_.back().get();
    place.store(crowd, std::memory_order_release);
  }
  return *crowd;
}

KindStats& ShardStats::stats_of(uint32_t kind) {
  std::atomic<KindStats*>& place = kinds_[kind];
  KindStats* stats = place.load(std::memory_order_relaxed);
  if (stats == nullptr) {
    owned_kinds_.push_back(std::make_unique<KindStats>(inter_token_));
    stats = owned_kinds_.back().get();
    place.store(stats, std::memory_order_release);
  }
  return *stats;
}

void ShardStats::finished(const ExchangeRecord& record) {
  attempts_.add(record.attempts);
  request_bytes_.add(record.request_bytes);
  response_bytes_.add(record.response_bytes);
  chunks_.add(record.chunks);
  count_stages(record);
  // A body that could not be parsed is an inference request too, of a model that nobody knows.
  if (record.inference || record.reason == "invalid_body") count_inference(record);
  std::atomic_thread_fence(std::memory_order_release);  // pairs with totals()
  outcomes_[static_cast<size_t>(record.outcome)].add();
  if (access_log_ != nullptr) access_log_->write(record);
}

// A stage that the exchange did not reach is not counted: zeros would hide what the others took.
void ShardStats::count_stages(const ExchangeRecord& record) {
  const auto count = [&](Stage stage) {
    const auto i = static_cast<size_t>(stage);
    stages_[i].record(to_seconds(record.stage[i]));
  };
  count(Stage::read);
  if (record.stage[static_cast<size_t>(Stage::hold)] > Duration{0}) count(Stage::hold);
  if (record.endpoint == nullptr) return;
  const auto of = [&](Stage stage) { return record.stage[static_cast<size_t>(stage)]; };
  processing_time_.record(to_seconds(of(Stage::read) + of(Stage::hold) + of(Stage::route)));
  count(Stage::route);
  count(Stage::connect);
  if (!record.time_to_first_token.has_value()) return;
  if (record.resumes == 0) count(Stage::first_byte);
  count(Stage::relay);
}

void ShardStats::count_inference(const ExchangeRecord& record) {
  // A name that a model server does not know (404) takes no place: otherwise anybody could fill the table, and the
  // metrics page, with invented models.
  const bool counted = record.kind_number != proxy::no_kind, known = record.status != 404;
  const Kind kind = counted ? unpacked(record.kind_number) : kind_of(record.kind, known);
  const bool crowd = names_.by_tenant() && kind.tenant == 0;
  if (known && (kind.number == NameTable::other || crowd)) folded_.add();
  count_kind(record, stats_of(kind.number));
  if (names_.by_tenant()) count_kind(record, tenant_of(kind).stats);
  if (record.endpoint == nullptr) return;  // was never scheduled
  if (record.prompt_blocks > 0) {
    hit_ratio_.record(static_cast<double>(record.matched_blocks) / record.prompt_blocks);
    hit_bytes_.record(static_cast<double>(uint64_t{record.matched_blocks} * record.block_bytes));
  }
  if (record.time_to_first_token.has_value()) count_first_bytes(record);
}

void ShardStats::count_kind(const ExchangeRecord& record, KindStats& stats) {
  if (const EppError error = epp_error_of(record.outcome); error != EppError::none) {
    stats.errors[static_cast<size_t>(error)].add();
  }
  if (record.endpoint == nullptr) return;  // was never scheduled

  stats.requests.add();
  stats.request_bytes.record(static_cast<double>(record.request_bytes));
  if (!record.time_to_first_token.has_value()) return;  // no answer

  count_times(record, stats);
  stats.response_bytes.record(static_cast<double>(record.response_bytes));
  if (record.cached_tokens.has_value()) stats.cached_tokens.record(*record.cached_tokens);
  if (!record.has_usage) return;
  if (record.prompt_tokens > 0) stats.input_tokens.record(record.prompt_tokens);
  if (record.completion_tokens == 0) return;
  stats.output_tokens.record(record.completion_tokens);
  stats.normalized_time_per_output_token.record(to_seconds(record.total) / record.completion_tokens);
}

// Of answers that were one. A stream that its client left had its first token all the same.
void ShardStats::count_first_bytes(const ExchangeRecord& record) {
  const double first = to_seconds(*record.time_to_first_token);
  if (record.streaming && (record.outcome == Outcome::ok || record.outcome == Outcome::client_gone)) {
    time_to_first_token_.record(first);
  } else if (record.outcome == Outcome::ok) {
    time_to_whole_answer_.record(first);
  }
}

// Of an answer that came, against what its client asked for. A first token, and a pace, are seen of streams only.
void ShardStats::count_times(const ExchangeRecord& record, KindStats& stats) {
  const double total = to_seconds(record.total), first = to_seconds(*record.time_to_first_token);
  const int64_t ended_us = record.started_wall_us + duration_cast<microseconds>(record.total).count();
  const auto note = [&](LastValue which, double value) {
    KindStats::Last& last = stats.last[static_cast<size_t>(which)];
    last.value.store(value, std::memory_order_relaxed);
    last.at_us.store(ended_us, std::memory_order_release);
  };
  const auto judge = [&](double took, double asked_ms, LastValue threshold, LastValue violation, Counter& violations) {
    if (!record.streaming || asked_ms <= 0) return;
    const bool late = took > asked_ms / 1000;
    if (late) violations.add();
    note(threshold, asked_ms / 1000);
    note(violation, late ? 1 : 0);
  };
  stats.duration.record(total);
  stats.time_to_first_token[record.streaming].record(first);
  note(LastValue::ttft, first);
  if (record.streaming && record.predicted_first_token.has_value()) {
    const double predicted = to_seconds(*record.predicted_first_token);
    stats.predicted_ttft.record(predicted);
    stats.predicted_ttft_error.record(std::abs(first - predicted));
    note(LastValue::predicted_ttft, predicted);
  }
  judge(first, record.slo_ttft_ms, LastValue::ttft_slo_threshold, LastValue::ttft_slo_violation, stats.ttft_violations);
  if (!record.streaming || record.completion_tokens < 2) return;
  const double pace = (total - first) / (record.completion_tokens - 1);
  stats.time_per_output_token.record(pace);
  note(LastValue::tpot, pace);
  if (record.predicted_per_token > 0) {
    stats.predicted_tpot.record(record.predicted_per_token);
    stats.predicted_tpot_error.record(std::abs(pace - record.predicted_per_token));
    note(LastValue::predicted_tpot, record.predicted_per_token);
  }
  judge(pace, record.slo_tpot_ms, LastValue::tpot_slo_threshold, LastValue::tpot_slo_violation, stats.tpot_violations);
}

const char* to_string(LastValue value) {
  switch (value) {
    case LastValue::ttft:
      return "ttft";
    case LastValue::ttft_slo_threshold:
      return "ttft_slo_threshold";
    case LastValue::ttft_slo_violation:
      return "ttft_slo_violation";
    case LastValue::tpot:
      return "tpot";
    case LastValue::tpot_slo_threshold:
      return "tpot_slo_threshold";
    case LastValue::tpot_slo_violation:
      return "tpot_slo_violation";
    case LastValue::predicted_ttft:
      return "predicted_ttft";
    case LastValue::predicted_tpot:
      return "predicted_tpot";
  }
  return "";
}

}  // namespace penstock::observability
