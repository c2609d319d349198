#include "penstock/observability/flow_stats.h"

#include "penstock/base/text.h"

namespace penstock::observability {

using proxy::HeldLabels;
using proxy::HoldOutcome;

namespace {

// What a client has written, as far as a page of metrics can say it.
std::string_view label_of(std::string_view text) {
  return text.size() <= FlowStats::label_bytes_max && is_label_text(text) ? text : "other";
}

}  // namespace

void FlowStats::offered(const HeldLabels& labels, uint64_t bytes, bool in, Duration cost) {
  const std::lock_guard lock(mutex_);
  Series& series = series_of(labels);
  series.offered[in].record(to_seconds(cost));
  if (in) {
    series.requests.add(1);
    series.bytes.add(static_cast<int64_t>(bytes));
  } else {
    series.waited[static_cast<size_t>(HoldOutcome::rejected_capacity)].record(0);
  }
}

void FlowStats::left(const HeldLabels& labels, uint64_t bytes, HoldOutcome outcome, Duration waited) {
  const std::lock_guard lock(mutex_);
  Series& series = series_of(labels);
  series.requests.add(-1);
  series.bytes.add(-static_cast<int64_t>(bytes));
  series.waited[static_cast<size_t>(outcome)].record(to_seconds(waited));
}

void FlowStats::cycle(Duration cost) {
  const std::lock_guard lock(mutex_);
  cycles_.record(to_seconds(cost));
}

void FlowStats::evicting(std::string_view pool, int priority) {
  const std::lock_guard lock(mutex_);
  ++evictions_[std::string(pool)].begun[priority];
}

void FlowStats::evicted(std::string_view pool, Duration took) {
  const std::lock_guard lock(mutex_);
  Evictions& evictions = evictions_[std::string(pool)];
  ++evictions.ended;
  evictions.took.record(to_seconds(took));
}

FlowStats::Held FlowStats::held_in(std::string_view pool) const {
  const std::lock_guard lock(mutex_);
  Held held;
  for (const auto& [key, series] : series_) {
    if (series.pool != pool) continue;
    held.requests += series.requests.get();
    held.bytes += series.bytes.get();
  }
  return held;
}

// Once a combination has its place it keeps it, so that what came in under it leaves under it.
FlowStats::Series& FlowStats::series_of(const HeldLabels& labels) {
  return series_named(label_of(labels.fairness_id), labels.priority, labels.pool, label_of(labels.model),
                      label_of(labels.target_model));
}

FlowStats::Series& FlowStats::series_named(std::string_view fairness_id, int priority, std::string_view pool,
                                           std::string_view model, std::string_view target_model) {
  key_ = std::to_string(priority);
  for (const std::string_view part : {pool, model, target_model, fairness_id}) key_.append(1, '\0').append(part);
  const auto found = series_.find(key_);
  if (found != series_.end()) return found->second;
  if (series_.size() >= series_max && fairness_id != "other")
    return series_named("other", priority, pool, "other", "other");
  Series& series = series_[key_];
  series.fairness_id = fairness_id;
  series.priority = priority;
  series.pool = pool;
  series.model = model;
  series.target_model = target_model;
  return series;
}

}  // namespace penstock::observability
