#include "penstock/observability/decision_log.h"

#include <algorithm>

#include "penstock/base/log.h"
#include "text.h"

namespace penstock::observability {

DecisionLog::DecisionLog(net::Clock& clock, size_t capacity, Duration least_gap)
    : clock_(clock), least_gap_(least_gap), entries_(capacity) {}

routing::Explanation* DecisionLog::slot(Instant now, bool asked) {
  if (!asked && kept_any_ && now - last_kept_ < least_gap_) return nullptr;
  kept_any_ = true;
  last_kept_ = now;
  keep_next_ = true;
  scratch_.clear();
  return &scratch_;
}

void DecisionLog::record(Duration cost, const endpoints::EndpointState* endpoint, std::string_view target_model) {
  if (!keep_next_) return;
  keep_next_ = false;
  if (log::enabled(log::Level::debug)) log_event(cost, endpoint, target_model);
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  Entry& entry = entries_[count_ % entries_.size()];
  entry.wall_us = clock_.wall_time_us();
  entry.cost = cost;
  entry.endpoint = endpoint == nullptr ? std::string_view() : std::string_view(endpoint->name);
  entry.model = target_model.substr(0, 256);
  scratch_.keep_best();
  entry.explained = !scratch_.rows.empty() || !scratch_.excluded.empty();
  std::swap(entry.explanation, scratch_);
  ++count_;
}

void DecisionLog::log_event(Duration cost, const endpoints::EndpointState* endpoint, std::string_view target_model) {
  scratch_.keep_best();
  std::string why;
  scratch_.append_json(why);
  log::debug("decision", {{"model", target_model},
                          {"endpoint", endpoint == nullptr ? std::string_view() : std::string_view(endpoint->name)},
                          {"cost_us", to_seconds(cost) * 1e6},
                          {"shadow", scratch_.shadow},
                          {"why", std::move(why)}});
}

void DecisionLog::append_json(std::string& out, size_t shard) const {
  const std::lock_guard lock(mutex_);
  const uint64_t kept = std::min<uint64_t>(count_, entries_.size());
  for (uint64_t i = 0; i < kept; ++i) {
    if (i > 0) out += ",\n";
    append_entry(out, entries_[(count_ - 1 - i) % entries_.size()], shard);
  }
}

void DecisionLog::append_entry(std::string& out, const Entry& entry, size_t shard) const {
  char time[timestamp_size];
  write_timestamp(time, entry.wall_us);
  out.append("{\"time\":\"").append(time, timestamp_size).append("\",\"shard\":").append(std::to_string(shard));
  out += ",\"model\":";
  append_json_string(out, entry.model);
  out += ",\"endpoint\":";
  if (entry.endpoint.empty()) out += "null";
  else append_json_string(out, entry.endpoint);
  out += ",\"cost_us\":";
  append_number(out, to_seconds(entry.cost) * 1e6);
  out.append(",\"attempt\":").append(std::to_string(entry.explanation.attempt));
  out.append(",\"resumes\":").append(entry.explanation.resumes ? "true" : "false");
  out += ",\"why\":";
  if (entry.explained) entry.explanation.append_json(out);
  else out += "null";
  out += ",\"shadow\":";
  if (entry.explanation.shadow.empty()) {
    out += "null";
  } else {
    out += "{\"endpoint\":";
    append_json_string(out, entry.explanation.shadow);
    out += ",\"gain_s\":";
    append_number(out, entry.explanation.shadow_gain_seconds);
    out += '}';
  }
  out += ",\"inputs\":";
  entry.explanation.inputs.append_json(out);
  out += '}';
}

}  // namespace penstock::observability
