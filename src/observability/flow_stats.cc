#include "penstock/observability/flow_stats.h"

#include <utility>

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
  Series& series = series_of(labels, true);
  series.offered[in].record(to_seconds(cost));
  if (in) {
    series.requests.add(1);
    series.bytes.add(static_cast<int64_t>(bytes));
  } else {
    ended(series, HoldOutcome::rejected_capacity, {});
  }
}

void FlowStats::left(const HeldLabels& labels, uint64_t bytes, HoldOutcome outcome, Duration waited) {
  const std::lock_guard lock(mutex_);
  Series& series = series_of(labels, false);
  series.requests.add(-1);
  series.bytes.add(-static_cast<int64_t>(bytes));
  ended(series, outcome, waited);
}

void FlowStats::ended(Series& series, HoldOutcome outcome, Duration waited) {
  const auto place = static_cast<size_t>(outcome);
  series.waited[place].record(to_seconds(waited));
  ++outcomes_[{series.pool, series.priority}][place];
}

void FlowStats::forget_unused(uint32_t sweeps_max) {
  const std::lock_guard lock(mutex_);
  for (auto next = series_.begin(); next != series_.end();) {
    const auto at = next++;
    Series& series = at->second;
    series.idle_sweeps = series.used || series.requests.get() > 0 ? 0 : series.idle_sweeps + 1;
    series.used = false;
    if (series.idle_sweeps < sweeps_max) continue;
    bytes_left_ += series.page_bytes;
    series_.erase(at);
  }
}

FlowStats::Outcomes FlowStats::outcomes() const {
  const std::lock_guard lock(mutex_);
  return outcomes_;
}

uint64_t FlowStats::folded() const {
  const std::lock_guard lock(mutex_);
  return folded_;
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

// What came in under a combination leaves under it: a series stays while something of it waits, and what was folded
// into the crowd is not given a series of its own before the crowd is gone.
FlowStats::Series& FlowStats::series_of(const HeldLabels& labels, bool may_be_new) {
  const std::string_view fairness_id = label_of(labels.fairness_id), model = label_of(labels.model),
                         target_model = label_of(labels.target_model);
  make_key(fairness_id, labels.priority, labels.pool, model, target_model);
  if (const auto found = series_.find(key_); found != series_.end()) return use(found->second);
  const size_t bytes = lines * (line_bytes + key_.size());
  std::string own = std::exchange(key_, {});
  make_key("other", labels.priority, labels.pool, "other", "other");
  const auto crowd = series_.find(key_);
  const bool crowded = crowd != series_.end() && crowd->second.requests.get() > 0;
  if (may_be_new && !crowded && bytes <= bytes_left_) {
    bytes_left_ -= bytes;
    return add(own, {.fairness_id = std::string(fairness_id),
                     .pool = std::string(labels.pool),
                     .model = std::string(model),
                     .target_model = std::string(target_model),
                     .priority = labels.priority,
                     .page_bytes = bytes});
  }
  folded_ += may_be_new ? 1 : 0;
  if (crowd != series_.end()) return use(crowd->second);
  return add(key_, {.fairness_id = "other",
                    .pool = std::string(labels.pool),
                    .model = "other",
                    .target_model = "other",
                    .priority = labels.priority});
}

void FlowStats::make_key(std::string_view fairness_id, int priority, std::string_view pool, std::string_view model,
                         std::string_view target_model) {
  key_ = std::to_string(priority);
  for (const std::string_view part : {pool, model, target_model, fairness_id}) key_.append(1, '\0').append(part);
}

FlowStats::Series& FlowStats::use(Series& series) {
  series.used = true;
  return series;
}

FlowStats::Series& FlowStats::add(const std::string& key, Labels labels) {
  Series& series = series_[key];
  static_cast<Labels&>(series) = std::move(labels);
  return use(series);
}

}  // namespace penstock::observability
