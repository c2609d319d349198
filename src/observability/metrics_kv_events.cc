// Our own metrics of what model servers publish of their KV caches.
#include "metrics_parts.h"

namespace penstock::observability {
namespace {

using kvevents::RankStatus;

// `get` of each rank, with its labels and those given.
template <typename Get>
void add_ranks(Families::Family family, const KvEventsInput& input, const Labels& labels, const Get& get) {
  for (const RankStatus& rank : input.ranks) {
    Labels all = {{"endpoint", rank.endpoint}, {"rank", std::to_string(rank.rank)}};
    all.insert(all.end(), labels.begin(), labels.end());
    family.add(static_cast<double>(get(rank)), std::move(all));
  }
}

void add_events(Families& families, const KvEventsInput& input) {
  const auto events = families.counter("penstock_kv_events_total", "Events read, by what they say.");
  using Counts = kvevents::BlockMap::Counts;
  const auto add = [&](Families::Family family, const char* label, const char* value, uint64_t Counts::*member) {
    add_ranks(family, input, {{label, value}}, [member](const RankStatus& rank) { return rank.events.*member; });
  };
  const std::pair<const char*, uint64_t Counts::*> types[] = {{"stored", &Counts::stored},
                                                              {"removed", &Counts::removed},
                                                              {"cleared", &Counts::cleared},
                                                              {"other", &Counts::other}};
  for (const auto& [type, member] : types) add(events, "event", type, member);
  const auto unplaced = families.counter("penstock_kv_events_unplaced_blocks_total",
                                         "Blocks told of that are not in the index, by why not.");
  const std::pair<const char*, uint64_t Counts::*> reasons[] = {{"orphaned", &Counts::orphaned},
                                                                {"special", &Counts::special},
                                                                {"no_room", &Counts::no_room},
                                                                {"senseless", &Counts::senseless}};
  for (const auto& [reason, member] : reasons) add(unplaced, "reason", reason, member);
}

void add_streams(Families& families, const KvEventsInput& input) {
  using Counts = kvevents::EventStream::Counts;
  const auto counter = [&](std::string_view name, std::string help, uint64_t Counts::*member) {
    add_ranks(families.counter(name, std::move(help)), input, {},
              [member](const RankStatus& rank) { return rank.stream.*member; });
  };
  counter("penstock_kv_events_batches_total", "Batches of events that were applied.", &Counts::batches);
  counter("penstock_kv_events_replayed_total", "Those of them that came from replays.", &Counts::replayed);
  counter("penstock_kv_events_gaps_total", "Times that batches were missing.", &Counts::gaps);
  counter("penstock_kv_events_restarts_total", "Times that an engine was found to have been restarted.",
          &Counts::restarts);
  counter("penstock_kv_events_duplicates_total", "Batches that had been applied before.", &Counts::duplicates);
  counter("penstock_kv_events_malformed_total", "Batches that could not be read.", &Counts::malformed);
  counter("penstock_kv_events_given_up_total", "Times that all that was known of a cache was given up.",
          &Counts::given_up);
}

void add_connections(Families& families, const KvEventsInput& input) {
  add_ranks(families.counter("penstock_kv_events_connects_total", "Connections made to publishers."), input, {},
            [](const RankStatus& rank) { return rank.connects; });
  add_ranks(families.counter("penstock_kv_events_replays_total", "Replays asked for."), input, {},
            [](const RankStatus& rank) { return rank.replays; });
  add_ranks(families.counter("penstock_kv_events_replay_failures_total", "Those of them that did not come to an end."),
            input, {}, [](const RankStatus& rank) { return rank.replay_failures; });
  add_ranks(families.gauge("penstock_kv_events_connected", "Whether the publisher is connected to."), input, {},
            [](const RankStatus& rank) { return rank.connected; });
  add_ranks(families.gauge("penstock_kv_events_complete", "Whether all that the cache holds is known."), input, {},
            [](const RankStatus& rank) { return rank.complete; });
  add_ranks(families.gauge("penstock_kv_events_blocks", "Blocks that the cache is known to hold."), input, {},
            [](const RankStatus& rank) { return rank.blocks; });
}

// By llm-d's names. That index is another one, but what its users watch is true of this one, too.
void add_index(Families& families, const ExportInput& input) {
  const auto counter = [&](std::string_view name, std::string help, double value) {
    families.counter(name, std::move(help)).add(value);
  };
  counter("kvcache_index_admissions_total", "Blocks that model servers said they came to hold.",
          static_cast<double>(input.kv_events->admitted));
  counter("kvcache_index_evictions_total", "Blocks that model servers ceased to hold, or that are known no more.",
          static_cast<double>(input.kv_events->evicted));
  counter("kvcache_index_lookup_requests_total", "Decisions that asked which blocks of a prompt model servers hold.",
          sum_over_shards(input, [](const ShardStats& stats) { return stats.told_lookups(); }));
  const double hits = sum_over_shards(input, [](const ShardStats& stats) { return stats.told_hits(); });
  counter("kvcache_index_lookup_hits_total", "Blocks of prompts that one model server held, the most for each.", hits);
  counter("kvcache_index_max_pod_hit_count_total", "The same as kvcache_index_lookup_hits_total.", hits);
  families.histogram("kvcache_index_lookup_latency_seconds", "Time of a lookup, of those decisions that are recorded.")
      .add(merge_over_shards(
          input, [](const ShardStats& stats) -> auto& { return stats.told_lookup_time(); }));
}

}  // namespace

void add_kv_events_metrics(Families& families, const ExportInput& input) {
  if (!input.kv_events.has_value()) return;
  add_events(families, *input.kv_events);
  add_streams(families, *input.kv_events);
  add_connections(families, *input.kv_events);
  add_index(families, input);
  families.gauge("penstock_kv_events_index_size", "Entries of the index that KV events fill; approximate.")
      .add(static_cast<double>(input.kv_events->index_size));
  families.counter("penstock_kv_events_seconds_total", "Time that the control thread spent reading events.")
      .add(to_seconds(input.kv_events->time_spent));
}

}  // namespace penstock::observability
