#include <cmath>
#include <numeric>

#include "metrics_parts.h"
#include "status_parts.h"

namespace penstock::observability {
namespace {

// With milliseconds.
double rounded(double seconds) {
  return std::round(seconds * 1e3) / 1e3;
}

template <typename Counts>
uint64_t sum(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

void write_watch(Json& json, const discovery::WatchStatus& status) {
  const kube::ReflectorStatus& watch = status.watch;
  json.element();
  json.open('{');
  json.key("resource").text(status.name);
  json.key("state").text(kube::name(watch.state));
  json.key("synced").boolean(watch.synced);
  json.key("essential").boolean(status.essential);
  json.key("objects").count(watch.objects);
  json.key("since_byte_s").number(rounded(watch.seconds_since_byte));
  json.key("since_sync_s").number(rounded(watch.seconds_since_sync));
  json.key("events").count(watch.events);
  json.key("restarts").count(sum(watch.restarts));
  json.key("relists").count(sum(watch.relists));
  json.key("undecodable").count(watch.undecodable + status.undecodable);
  json.key("last_error").text(watch.last_error);
  json.close('}');
}

void write_writer(Json& json, const kube::WriterStatus& writer) {
  json.open('{');
  json.key("statuses_written").count(writer.patches_written);
  json.key("events_written").count(writer.events_written);
  json.key("waiting").count(writer.patches_waiting + writer.events_waiting);
  json.key("dropped").count(writer.patches_dropped + writer.events_dropped);
  json.key("failures").count(writer.failures);
  json.key("statuses_forbidden").boolean(writer.patches_forbidden);
  json.key("events_forbidden").boolean(writer.events_forbidden);
  json.key("last_error").text(writer.last_error);
  json.close('}');
}

}  // namespace

void write_problems(Json& json, const std::vector<objects::Notice>& problems) {
  json.key("problems").open('[');
  for (const objects::Notice& problem : problems) {
    json.element();
    json.open('{');
    json.key("kind").text(objects::api_of(problem.kind).name);
    json.key("namespace").text(problem.ns);
    json.key("name").text(problem.name);
    json.key("reason").text(problem.reason);
    json.key("message").text(problem.message);
    json.close('}');
  }
  json.close(']');
}

void write_cluster(Json& json, const discovery::ClusterStatus& cluster) {
  json.key("kubernetes").open('{');
  json.key("server").text(cluster.server);
  json.key("synced").boolean(cluster.synced);
  json.key("waiting_for").text(cluster.waiting_for);
  json.key("last_known_age_s").number(rounded(last_known_age(cluster)));
  json.key("watches").open('[');
  for (const discovery::WatchStatus& watch : cluster.watches) write_watch(json, watch);
  json.close(']');
  json.key("writes");
  if (cluster.writes) write_writer(json, cluster.writer);
  else json.null();
  json.close('}');
}

}  // namespace penstock::observability
