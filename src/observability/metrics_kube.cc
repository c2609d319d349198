// Metrics about the Kubernetes API server: what is watched, how old what we know is, what is written back.
#include <algorithm>
#include <array>
#include <map>

#include "metrics_parts.h"

namespace penstock::observability {
namespace {

using discovery::ClusterStatus;
using discovery::WatchStatus;
using kube::ReflectorState;
using kube::ReflectorStatus;

constexpr ReflectorState states[] = {ReflectorState::stopped,  ReflectorState::listing, ReflectorState::streaming,
                                     ReflectorState::watching, ReflectorState::waiting, ReflectorState::forbidden,
                                     ReflectorState::absent};

template <typename Value>
void each_watch(Families::Family family, const ClusterStatus& cluster, const Value& value) {
  for (const WatchStatus& watch : cluster.watches) {
    family.add(static_cast<double>(value(watch)), {{"resource", watch.name}});
  }
}

void add_states(Families& families, const ClusterStatus& cluster) {
  auto family = families.gauge("penstock_kube_watch_state", "1 for the state that the watch is in.");
  for (const WatchStatus& watch : cluster.watches) {
    for (const ReflectorState state : states) {
      family.add(watch.watch.state == state ? 1 : 0, {{"resource", watch.name}, {"state", kube::name(state)}});
    }
  }
}

// One series for each reason, from the start: the first time must count in a rate.
template <typename Reason, size_t Count>
void add_reasons(Families::Family family, const ClusterStatus& cluster,
                 std::array<uint64_t, Count> ReflectorStatus::*counts) {
  for (const WatchStatus& watch : cluster.watches) {
    for (size_t i = 0; i < Count; ++i) {
      family.add(static_cast<double>((watch.watch.*counts)[i]),
                 {{"resource", watch.name}, {"reason", kube::name(static_cast<Reason>(i))}});
    }
  }
}

void add_watches(Families& families, const ClusterStatus& cluster) {
  each_watch(families.gauge("penstock_kube_watch_synced", "1 once all objects were listed."), cluster,
             [](const WatchStatus& w) { return w.watch.synced ? 1 : 0; });
  add_states(families, cluster);
  each_watch(families.gauge("penstock_kube_watch_seconds_since_byte",
                            "Time since the API server sent anything; up to about 70 s without any trouble."),
             cluster, [](const WatchStatus& w) { return w.watch.seconds_since_byte; });
  each_watch(families.gauge("penstock_kube_watch_seconds_since_sync",
                            "Time since what is known was last known to be current."),
             cluster, [](const WatchStatus& w) { return w.watch.seconds_since_sync; });
  add_reasons<kube::Restart>(
      families.counter("penstock_kube_watch_restarts_total", "Watches and lists that ended and began again."), cluster,
      &ReflectorStatus::restarts);
  add_reasons<kube::Relist>(families.counter("penstock_kube_watch_relists_total", "Full lists that were asked for."),
                            cluster, &ReflectorStatus::relists);
  each_watch(families.counter("penstock_kube_watch_events_total", "Changes that the API server told."), cluster,
             [](const WatchStatus& w) { return w.watch.events; });
  each_watch(families.gauge("penstock_kube_watch_objects", "Objects that are there."), cluster,
             [](const WatchStatus& w) { return w.watch.objects; });
  each_watch(families.counter("penstock_kube_watch_undecodable_total",
                              "Objects that could not be read; the last good version of each is kept."),
             cluster, [](const WatchStatus& w) { return w.watch.undecodable + w.undecodable; });
}

void add_writes(Families& families, const kube::WriterStatus& writer) {
  auto writes = families.counter("penstock_kube_writes_total", "Statuses and Events, by what became of them.");
  const auto add = [&](const char* kind, const char* result, uint64_t count) {
    writes.add(static_cast<double>(count), {{"kind", kind}, {"result", result}});
  };
  add("status", "written", writer.patches_written);
  add("status", "unchanged", writer.patches_unchanged);
  add("status", "coalesced", writer.patches_coalesced);
  add("status", "dropped", writer.patches_dropped);
  add("event", "written", writer.events_written);
  add("event", "repeated", writer.events_repeated);
  add("event", "dropped", writer.events_dropped);
  const auto by_kind = [](Families::Family family, double status, double event) {
    family.add(status, {{"kind", "status"}});
    family.add(event, {{"kind", "event"}});
  };
  by_kind(families.gauge("penstock_kube_writes_waiting", "Statuses and Events that wait to be written."),
          static_cast<double>(writer.patches_waiting), static_cast<double>(writer.events_waiting));
  by_kind(families.gauge("penstock_kube_writes_forbidden", "1 while the API server does not let us write them."),
          writer.patches_forbidden ? 1 : 0, writer.events_forbidden ? 1 : 0);
  families.counter("penstock_kube_write_failures_total", "Writes that failed, tried again or not.")
      .add(static_cast<double>(writer.failures));
}

}  // namespace

double last_known_age(const ClusterStatus& cluster) {
  double age = 0;
  for (const WatchStatus& watch : cluster.watches) {
    if (watch.watch.synced) age = std::max(age, watch.watch.seconds_since_sync);
  }
  return age;
}

namespace {

// Objects beyond the first hundred are counted together: they must not become as many series.
void add_problems(Families& families, const ExportInput& input) {
  constexpr size_t objects_max = 100;
  using Key = std::array<std::string, 4>;  // kind, namespace, name, reason
  std::map<Key, size_t> counts;
  for (const objects::Notice& problem : input.problems) {
    const std::string kind(objects::api_of(problem.kind).name);
    Key key{kind, problem.ns, problem.name, problem.reason};
    if (counts.size() >= objects_max && !counts.contains(key)) key = {kind, "other", "other", problem.reason};
    ++counts[key];
  }
  auto family =
      families.gauge("penstock_object_problems", "What stands against Kubernetes objects; /status says more.");
  for (const auto& [key, count] : counts) {
    family.add(static_cast<double>(count),
               {{"kind", key[0]}, {"namespace", key[1]}, {"name", key[2]}, {"reason", key[3]}});
  }
}

}  // namespace

void add_kube_metrics(Families& families, const ExportInput& input) {
  add_problems(families, input);
  if (!input.cluster.has_value()) return;
  const ClusterStatus& cluster = *input.cluster;
  families.gauge("penstock_kube_synced", "1 once everything that endpoints depend on was listed.")
      .add(cluster.synced ? 1 : 0);
  families
      .gauge("penstock_kube_last_known_age_seconds",
             "How old what is known of the cluster may be; up to about 70 s without any trouble.")
      .add(last_known_age(cluster));
  add_watches(families, cluster);
  if (cluster.writes) add_writes(families, cluster.writer);
}

}  // namespace penstock::observability
