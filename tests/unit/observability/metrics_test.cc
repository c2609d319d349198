#include "penstock/observability/metrics.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>

#include "fixture.h"

using namespace penstock;
using namespace penstock::observability;

namespace {

std::string page_of(const Gateway& gateway) {
  std::string page;
  export_metrics(page, gateway.input);
  return page;
}

// What a page says of one family.
struct Seen {
  std::string type, help;
  std::set<std::set<std::string>> labels;  // names, without le
  std::vector<std::string> bounds;         // of the first series
};

std::map<std::string, Seen> parse(const std::string& page) {
  std::map<std::string, Seen> families;
  std::istringstream lines(page);
  std::string current, first_series;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, kind, name;
    if (line.starts_with("# ")) {
      words >> hash >> kind >> name;
      std::string rest;
      std::getline(words >> std::ws, rest);
      current = name;
      first_series.clear();
      (kind == "TYPE" ? families[name].type : families[name].help) = rest;
      continue;
    }
    Seen& seen = families[current];
    const size_t brace = line.find('{'), end = line.rfind('}');
    std::set<std::string> labels;
    std::string bound, series;
    for (size_t at = brace == std::string::npos ? end : brace + 1; brace != std::string::npos && at < end;) {
      const size_t equals = line.find('=', at), close = line.find('"', equals + 2);
      const std::string label = line.substr(at, equals - at), value = line.substr(equals + 2, close - equals - 2);
      if (label == "le") {
        bound = value;
      } else {
        labels.insert(label);
        series += value + ";";
      }
      at = close + 2;
    }
    seen.labels.insert(labels);
    if (bound.empty()) continue;
    if (seen.bounds.empty()) first_series = series;
    if (series == first_series) seen.bounds.push_back(bound);
  }
  return families;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) {
    const size_t from = part.find_first_not_of(' '), to = part.find_last_not_of(' ');
    out.push_back(from == std::string::npos ? "" : part.substr(from, to - from + 1));
  }
  return out;
}

// Of a column of a golden list: the labels that each series has, and the bounds of its buckets.
std::set<std::set<std::string>> labels_in(const std::string& column) {
  const std::vector<std::string> labels = split(column, ' ');
  return {{labels.begin(), labels.end()}};
}

std::vector<std::string> bounds_in(const std::string& column) {
  std::vector<std::string> bounds = split(column, ' ');
  if (!bounds.empty()) bounds.push_back("+Inf");
  return bounds;
}

std::string line_of(const std::string& page, const std::string& start) {
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(start)) return line;
  }
  return "";
}

}  // namespace

TEST_CASE("the page of a gateway with known numbers is this one") {
  Gateway gateway;
  gateway.live();
  check_golden("tests/golden/metrics/page.txt", page_of(gateway));
}

TEST_CASE("each metric of the Endpoint Picker has its name, type, labels and buckets, and its help says alpha") {
  Gateway gateway;
  gateway.live();
  const auto families = parse(page_of(gateway));
  std::istringstream list(read_whole(source_file("tests/golden/metrics/epp_metrics.txt")));
  std::set<std::string> listed;
  for (std::string line; std::getline(list, line);) {
    if (line.starts_with('#')) continue;
    std::vector<std::string> columns = split(line, '|');
    columns.resize(4);
    INFO(columns[0]);
    listed.insert(columns[0]);
    const auto found = families.find(columns[0]);
    REQUIRE(found != families.end());
    const Seen& seen = found->second;
    CHECK(seen.type == columns[1]);
    CHECK(seen.help.starts_with("[ALPHA] "));
    CHECK(seen.labels == labels_in(columns[2]));
    CHECK(seen.bounds == bounds_in(columns[3]));
  }
  CHECK(listed.size() >= 23);
  for (const auto& family : families) {
    const std::string& name = family.first;
    const Seen& seen = family.second;
    if (name.starts_with("llm_d_epp_")) continue;  // see below
    INFO(name);
    CHECK((listed.contains(name) || name.starts_with("penstock_") || name.starts_with("process_")));
    CHECK(seen.help.starts_with("[ALPHA] ") == listed.contains(name));
  }
}

TEST_CASE("each metric of the Endpoint Picker is there under its newer name, too") {
  Gateway gateway;
  gateway.live();
  auto families = parse(page_of(gateway));
  std::istringstream list(read_whole(source_file("tests/golden/metrics/epp_newer_names.txt")));
  size_t renamed = 0;
  for (std::string line; std::getline(list, line);) {
    if (line.starts_with('#')) continue;
    std::vector<std::string> columns = split(line, '|');
    columns.resize(4);
    INFO(columns[1]);
    REQUIRE(families.contains(columns[0]));
    REQUIRE(families.contains(columns[1]));
    const Seen &older = families.at(columns[0]), &newer = families.at(columns[1]);
    CHECK(newer.type == older.type);
    CHECK(newer.help == older.help);
    CHECK(newer.bounds == (columns[3].empty() ? older.bounds : bounds_in(columns[3])));
    CHECK(newer.labels == labels_in(columns[2]));
    families.erase(columns[1]);
    ++renamed;
  }
  CHECK(renamed == 34);
  const std::string page = page_of(gateway);
  CHECK(line_of(page, "llm_d_epp_per_endpoint_queue_size{").contains(R"(model_server_endpoint="pod-)"));
  CHECK(line_of(page, "llm_d_epp_flow_control_pool_saturation{").contains(R"(stage="effective")"));
  CHECK(line_of(page, "llm_d_epp_prefix_indexer_size{") ==
        R"(llm_d_epp_prefix_indexer_size{plugin_type="approx-prefix-cache-producer",)"
        R"(plugin_name="approx-prefix-cache-producer"} 1234)");
  CHECK(line_of(page, "llm_d_epp_request_ttft_seconds_count{") ==
        R"(llm_d_epp_request_ttft_seconds_count{model_name="llama",target_model_name="llama-8b",)"
        R"(fairness_id="tenant-a",priority="0",streaming="true"} 1)");
}

TEST_CASE("each metric that llm-d has under its newer names alone has its name, type, labels and buckets") {
  Gateway gateway;
  gateway.live();
  gateway.input.flow_options.requests_max = 10;
  gateway.input.flow_options.bytes_max = 16'000;
  gateway.input.flow_options.band.requests_max = 4;
  gateway.input.flow_options.detector.detector = admission::Detector::utilization;
  const std::string page = page_of(gateway);
  auto families = parse(page);
  std::istringstream list(read_whole(source_file("tests/golden/metrics/epp_newer_only.txt")));
  for (std::string line; std::getline(list, line);) {
    if (line.starts_with('#')) continue;
    std::vector<std::string> columns = split(line, '|');
    columns.resize(4);
    INFO(columns[0]);
    REQUIRE(families.contains(columns[0]));
    const Seen& seen = families.at(columns[0]);
    CHECK(seen.type == columns[1]);
    CHECK(seen.help.starts_with("[ALPHA] "));
    CHECK(seen.labels == labels_in(columns[2]));
    CHECK(seen.bounds == bounds_in(columns[3]));
    families.erase(columns[0]);
  }
  std::istringstream renamed(read_whole(source_file("tests/golden/metrics/epp_newer_names.txt")));
  for (std::string line; std::getline(renamed, line);) {
    if (!line.starts_with('#')) families.erase(split(line, '|')[1]);
  }
  for (const auto& family : families) {
    INFO(family.first);
    CHECK_FALSE(family.first.starts_with("llm_d_epp_"));
  }
  const auto value = [&](const std::string& series) {
    const std::string line = line_of(page, "llm_d_epp_" + series);
    return line.empty() ? "none" : line.substr(line.rfind(' ') + 1);
  };
  const std::string pool = "inference_pool=\"default\"}", band = "{priority=\"10\"," + pool, all = '{' + pool;
  // One of 4,000 bytes waits, one of 1,000 was let go, one of 9,000 found it full.
  CHECK(value("flow_control_capacity_utilization_requests" + band) == "0.25");
  CHECK(value("flow_control_capacity_utilization_bytes" + band) == "4e-06");
  CHECK(value("flow_control_global_capacity_utilization_requests" + all) == "0.1");
  CHECK(value("flow_control_global_capacity_utilization_bytes" + all) == "0.25");
  CHECK(value("flow_control_requests_total{outcome=\"Dispatched\",priority=\"10\"," + pool) == "1");
  CHECK(value("flow_control_requests_total{outcome=\"RejectedCapacity\",priority=\"10\"," + pool) == "1");
  CHECK(value("flow_control_stale_endpoints{detector=\"utilization-detector\"}") == "0");
  // Two endpoints, of which 3 and 0 requests wait: the sample's deviation.
  CHECK(std::abs(std::stod(value("std_dev_queue_size{")) - std::sqrt(4.5)) < 1e-9);
  CHECK(value("inflight_requests{endpoint_name=\"pod-a\"") == "2");
}

TEST_CASE("what flow control lets go at once counts with what had to wait, and stale metrics are told") {
  Gateway gateway;
  gateway.live();
  gateway.input.flow_options.detector.detector = admission::Detector::utilization;
  gateway.snapshot.pools[0].endpoints[0].metrics.known = false;
  gateway.snapshot.pools.push_back(gateway.snapshot.pools[0]);  // of the same endpoints
  using enum proxy::HoldOutcome;
  for (int i = 0; i < 3; ++i) gateway.shards[i % 2].did_not_wait("default", 10, dispatched);
  gateway.shards[0].did_not_wait("default", -1, dispatched);
  for (auto& shard : gateway.shards) shard.did_not_wait("default", -1, rejected_capacity);
  const std::string page = page_of(gateway);
  const std::string total = "llm_d_epp_flow_control_requests_total{outcome=\"";
  CHECK(line_of(page, total + "Dispatched\",priority=\"10\",").ends_with("} 4"));
  CHECK(line_of(page, total + "Dispatched\",priority=\"-1\",").ends_with("} 1"));
  CHECK(line_of(page, total + "RejectedCapacity\",priority=\"-1\",").ends_with("} 2"));
  CHECK(line_of(page, "llm_d_epp_flow_control_stale_endpoints{").ends_with("} 1"));
}

TEST_CASE("programs are there with the fairness policy that goes by them: how long they waited, and what they had") {
  Gateway gateway;
  gateway.live();
  CHECK_FALSE(page_of(gateway).contains("program_aware"));
  admission::Programs programs({});
  gateway.input.programs = &programs;
  const auto wait = [&](std::string_view id, int ms, proxy::HoldOutcome outcome) {
    const proxy::HeldLabels labels{.fairness_id = id, .pool = "default", .model = "m", .target_model = "m"};
    gateway.flow.offered(labels, 1, true, {});
    gateway.flow.left(labels, 1, outcome, milliseconds(ms));
  };
  wait("b", 200, proxy::HoldOutcome::dispatched);
  wait("b", 400, proxy::HoldOutcome::dispatched);
  wait("b", 90'000, proxy::HoldOutcome::evicted_ttl);
  wait("c", 90'000, proxy::HoldOutcome::evicted_ttl);
  const Instant now = gateway.input.now;
  programs.finished(programs.started(admission::Programs::key_of("b"), now), 1000, now);
  const std::string page = page_of(gateway);
  const auto value = [&](const std::string& series) {
    const std::string line = line_of(page, "llm_d_epp_program_aware_" + series);
    return line.empty() ? "none" : line.substr(line.rfind(' ') + 1);
  };
  CHECK(std::abs(std::stod(value("avg_wait_time_milliseconds{program_id=\"b\"}")) - 300) < 1e-6);
  CHECK(value("avg_wait_time_milliseconds{program_id=\"c\"}") == "none");
  CHECK(value("attained_service_tokens{program_id=\"b\"}") == "1000");
  CHECK(value("attained_service_tokens{program_id=\"c\"}") == "0");
  // Who waited at first did so for 700 ms: (300 + 700)^2 / (2 * (300^2 + 700^2)).
  CHECK(std::abs(std::stod(value("jains_fairness_index ")) - 1e6 / 1.16e6) < 1e-6);
}

TEST_CASE("ready pods follow the snapshot at once, and averages leave out what is not ready, unknown or stale") {
  Gateway gateway;
  gateway.live();
  CHECK(line_of(page_of(gateway), "inference_pool_ready_pods{") == "inference_pool_ready_pods{name=\"default\"} 2");
  CHECK(line_of(page_of(gateway), "inference_pool_average_queue_size{") ==
        "inference_pool_average_queue_size{name=\"default\"} 1.5");
  auto& views = gateway.snapshot.pools[0].endpoints;
  views[0].readiness = endpoints::Readiness::draining;
  CHECK(line_of(page_of(gateway), "inference_pool_ready_pods{") == "inference_pool_ready_pods{name=\"default\"} 1");
  CHECK(line_of(page_of(gateway), "inference_pool_average_kv_cache_utilization{") ==
        "inference_pool_average_kv_cache_utilization{name=\"default\"} 0.25");
  views[1].metrics.scraped_at = Instant(seconds(50));
  CHECK(line_of(page_of(gateway), "inference_pool_average_kv_cache_utilization{") ==
        "inference_pool_average_kv_cache_utilization{name=\"default\"} 0");
  CHECK(line_of(page_of(gateway), "inference_pool_per_pod_queue_size{name=\"default\",model_server_pod=\"pod-c\"}")
            .empty());
}

TEST_CASE("each pool has its series, and what two pools have in common is in both") {
  Gateway gateway;
  gateway.live();
  gateway.second_pool();
  gateway.input.polls.push_back({.endpoint = "pod-a",  // of the same name elsewhere
                                 .engine = "vllm",
                                 .last_success = Instant(seconds(90)),
                                 .ever = true,
                                 .scrapes = 5,
                                 .scrape_errors = 2,
                                 .probe_errors = 1});
  const std::string page = page_of(gateway);
  const auto value = [&](const std::string& series) {
    const std::string line = line_of(page, series);
    return line.empty() ? "none" : line.substr(series.size() + 1);
  };
  CHECK(value(R"(inference_pool_ready_pods{name="default"})") == "2");
  CHECK(value(R"(inference_pool_ready_pods{name="team-b/llama"})") == "1");
  CHECK(value(R"(inference_pool_average_queue_size{name="team-b/llama"})") == "3");
  CHECK(value(R"(inference_pool_per_pod_queue_size{name="default",model_server_pod="pod-a"})") == "3");
  CHECK(value(R"(inference_pool_per_pod_queue_size{name="team-b/llama",model_server_pod="pod-a"})") == "3");
  CHECK(value(R"(penstock_endpoint_ready{pool="default",endpoint="pod-b"})") == "1");
  CHECK(value(R"(penstock_endpoint_ready{pool="team-b/llama",endpoint="pod-b"})") == "0");
  CHECK(value(R"(penstock_endpoint_draining{pool="team-b/llama",endpoint="pod-b"})") == "1");
  CHECK(value(R"(penstock_scrapes_total{endpoint="pod-a"})") == "105");
  CHECK(value(R"(penstock_scrape_age_seconds{endpoint="pod-a"})") == "10");
  std::set<std::string> series;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    INFO(line);
    CHECK(series.insert(line.substr(0, line.rfind(' '))).second);
  }
}

TEST_CASE("what is known is as old as the oldest of what was ever listed") {
  Gateway gateway;
  gateway.on_a_cluster();
  CHECK(line_of(page_of(gateway), "penstock_kube_last_known_age_seconds ") ==
        "penstock_kube_last_known_age_seconds 210.25");
  gateway.input.cluster->watches[1].watch.seconds_since_sync = 0.5;
  CHECK(line_of(page_of(gateway), "penstock_kube_last_known_age_seconds ") ==
        "penstock_kube_last_known_age_seconds 1.5");
  gateway.input.cluster->writes = false;
  CHECK(line_of(page_of(gateway), "penstock_kube_writes_total").empty());
  gateway.input.cluster.reset();
  CHECK(line_of(page_of(gateway), "penstock_kube").empty());
}

TEST_CASE("the Endpoint Picker's metrics have the names that are wanted, each metric once") {
  const auto prefixes = [](EppNames wanted) {
    Gateway gateway(PageLimits{.epp_names = wanted});
    gateway.live();
    std::set<std::string> names;
    for (const auto& [name, seen] : parse(page_of(gateway))) names.insert(name);
    return names;
  };
  const auto any = [](const std::set<std::string>& names, std::string_view prefix) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(prefix); });
  };
  const std::set<std::string> v1 = prefixes(EppNames::v1), llm_d = prefixes(EppNames::llm_d),
                              both = prefixes(EppNames::both);
  CHECK(v1.contains("inference_objective_request_total"));
  CHECK_FALSE(any(v1, "llm_d_epp_request_t"));
  CHECK(v1.contains("llm_d_epp_flow_control_requests_total"));  // it has no older name
  CHECK_FALSE(any(llm_d, "inference_"));
  CHECK(llm_d.contains("llm_d_epp_request_total"));
  CHECK(llm_d.contains("llm_d_epp_ready_endpoints"));
  for (const std::set<std::string>* one : {&v1, &llm_d}) {
    for (const std::string& name : *one) CHECK(both.contains(name));
  }
  std::istringstream list(read_whole(source_file("tests/golden/metrics/epp_newer_names.txt")));
  for (std::string line; std::getline(list, line);) {
    if (line.starts_with('#')) continue;
    const std::vector<std::string> columns = split(line, '|');
    INFO(columns[1]);
    CHECK(v1.contains(columns[0]));
    CHECK_FALSE(v1.contains(columns[1]));
    CHECK(llm_d.contains(columns[1]));
  }
}

TEST_CASE("whatever clients invent, the page stays below two megabytes") {
  for (const EppNames names : {EppNames::v1, EppNames::llm_d, EppNames::both}) {
    Gateway gateway(PageLimits{.epp_names = names, .bytes = 1536 * 1024});
    gateway.live();
    for (int i = 0; i < 100'000; ++i) {
      const std::string id = "invented-" + std::to_string(i), model = "model-" + std::to_string(i % 5000);
      proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
      record.streaming = i % 3 != 0;
      record.kind = {.model = model, .target_model = model, .fairness_id = id, .priority = i % 7};
      ShardStats& shard = gateway.shards[i % 2];
      shard.exchange_started();
      if (proxy::GapObserver* const gaps = shard.stream_began(record.kind)) gaps->gap(milliseconds(3));
      shard.decision_made(microseconds(20), true, &gateway.states[i % 3], model);
      shard.model_rewritten("any", id, model);
      shard.split_decided(routing::Split::decode_only, model);
      shard.finished(record);
      const proxy::HeldLabels held = {
          .fairness_id = id, .pool = "default", .model = model, .target_model = model, .priority = i % 7};
      gateway.flow.offered(held, 100, i % 5 != 0, microseconds(3));
      if (i % 5 == 0) continue;
      gateway.flow.left(held, 100, i % 2 ? proxy::HoldOutcome::dispatched : proxy::HoldOutcome::evicted_cancelled,
                        milliseconds(5));
    }
    const std::string page = page_of(gateway);
    INFO(static_cast<int>(names) << ": " << page.size());
    CHECK(page.size() < 2'000'000);
    CHECK(page.find("penstock_metrics_folded_total 0\n") == std::string::npos);
    CHECK(page.find("model_name=\"other\"") != std::string::npos);
  }
}

TEST_CASE("a model that an endpoint lists has its series also when clients have used up the room for names") {
  Gateway gateway(PageLimits{.epp_names = EppNames::v1, .bytes = 256 * 1024});
  gateway.names.known.set({"served"});
  const auto finish = [&](const std::string& model) {
    proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
    record.kind.model = record.kind.target_model = model;
    gateway.shards[0].finished(record);
  };
  for (int i = 0; i < 100; ++i) finish("invented-" + std::to_string(i));
  finish("served");
  const std::string page = page_of(gateway);
  CHECK(page.find("request_total{model_name=\"served\"") != std::string::npos);
  CHECK(page.find("invented-99") == std::string::npos);
}

TEST_CASE("what waits leaves under the labels under which it came, also when series come and go") {
  Gateway gateway(PageLimits{.bytes = 400'000});
  FlowStats& flow = gateway.flow;
  const auto held = [](const std::string& id) {
    return proxy::HeldLabels{.fairness_id = id, .pool = "default", .model = "m", .target_model = "m", .priority = 0};
  };
  std::vector<std::string> ids;
  for (int i = 0; i < 100; ++i) ids.push_back("id-" + std::to_string(i));
  for (const std::string& id : ids) flow.offered(held(id), 10, true, microseconds(1));
  CHECK(flow.folded() > 0);
  for (int i = 0; i < 50; ++i)
    flow.left(held(ids[static_cast<size_t>(i)]), 10, proxy::HoldOutcome::dispatched, seconds(1));
  flow.forget_unused(1);  // all were used
  flow.forget_unused(1);  // those of which nothing waits go
  for (const std::string& id : ids)
    flow.offered(held(id), 10, true, microseconds(1));  // the crowd still waits: no new series
  for (const std::string& id : ids) flow.left(held(id), 10, proxy::HoldOutcome::dispatched, seconds(1));
  for (size_t i = 50; i < 100; ++i) flow.left(held(ids[i]), 10, proxy::HoldOutcome::dispatched, seconds(1));
  flow.each([](const FlowStats::Series& series) {
    INFO(series.fairness_id);
    CHECK(series.requests.get() == 0);
    CHECK(series.bytes.get() == 0);
  });
  for (int i = 0; i < 2; ++i) flow.forget_unused(1);
  CHECK(flow.held_in("default").requests == 0);
  size_t left = 0;
  flow.each([&](const FlowStats::Series&) { ++left; });
  CHECK(left == 0);
  CHECK(flow.outcomes().at({"default", 0})[static_cast<size_t>(proxy::HoldOutcome::dispatched)] == 200);
  flow.offered(held("id-99"), 10, false, microseconds(1));  // there is room again
  flow.each([](const FlowStats::Series& series) { CHECK(series.fairness_id == "id-99"); });
}

TEST_CASE("what the kernel says about this process is plausible") {
  const ProcessUsage usage = process_usage();
  CHECK(usage.cpu_seconds > 0);
  CHECK(usage.resident_bytes > 1e6);
  CHECK(usage.virtual_bytes >= usage.resident_bytes);
  CHECK(usage.open_files >= 3);
  CHECK(usage.open_files_max >= usage.open_files);
  // A sanitizer has a thread of its own.
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  CHECK(usage.threads == static_cast<double>(std::distance(begin(tasks), end(tasks))));
}

TEST_CASE("a page without snapshot, polls or traffic has no series that would mislead") {
  Gateway gateway;
  gateway.input.snapshot = nullptr;
  gateway.input.memory = nullptr;
  const auto families = parse(page_of(gateway));
  CHECK_FALSE(families.contains("inference_pool_ready_pods"));
  CHECK_FALSE(families.contains("inference_objective_request_total"));
  CHECK_FALSE(families.contains("penstock_memory_used_bytes"));
  CHECK(families.contains("inference_extension_info"));
  CHECK(families.contains("penstock_requests_total"));
}

TEST_CASE("a label's value cannot break the page, not even by looking like a bucket") {
  Gateway gateway;
  proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
  record.kind.model = "a\",le=\"1048576\\";
  gateway.shards[0].exchange_started();
  gateway.shards[0].finished(record);
  const std::string page = page_of(gateway);
  CHECK(
      page.find(
          R"(inference_objective_request_total{model_name="a\",le=\"1048576\\",target_model_name="llama-8b",priority="0"} 1)") !=
      std::string::npos);
  CHECK(page.find(R"(le="1.048576e+06")") != std::string::npos);
}
