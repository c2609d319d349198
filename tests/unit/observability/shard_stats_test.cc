#include "penstock/observability/shard_stats.h"

#include <map>

#include "fixture.h"

using namespace penstock;
using namespace penstock::observability;

namespace {

// Of the requests that the fixture makes, on the first shard.
const KindStats* stats_of(Gateway& gateway) {
  return gateway.shards[0].kind(gateway.names.kinds.index_of("llama", "llama-8b", "", "0"));
}

}  // namespace

TEST_CASE("started is in flight plus the outcomes") {
  Gateway gateway;
  gateway.live();
  const ShardStats::Totals totals = gateway.shards[0].totals();
  CHECK(totals.started == 5);
  CHECK(totals.in_flight() == 2);
  CHECK(totals.outcomes[static_cast<size_t>(proxy::Outcome::ok)] == 1);
  CHECK(totals.outcomes[static_cast<size_t>(proxy::Outcome::client_error)] == 1);
}

TEST_CASE("each outcome has the error code that the Endpoint Picker would have used, or none") {
  using enum proxy::Outcome;
  CHECK(epp_error_of(ok) == EppError::none);
  CHECK(epp_error_of(client_gone) == EppError::none);
  CHECK(epp_error_of(endpoint_4xx) == EppError::none);
  CHECK(std::string(to_string(epp_error_of(client_error))) == "BadRequest");
  CHECK(std::string(to_string(epp_error_of(overloaded))) == "ResourceExhausted");
  CHECK(std::string(to_string(epp_error_of(no_endpoint))) == "ServiceUnavailable");
  CHECK(std::string(to_string(epp_error_of(endpoint_error))) == "ModelServerError");
  CHECK(std::string(to_string(epp_error_of(stream_broken))) == "ModelServerError");
  CHECK(std::string(to_string(epp_error_of(internal_error))) == "Internal");
}

TEST_CASE("a streamed answer is counted in each of its model's histograms once") {
  Gateway gateway;
  gateway.shards[0].finished(streamed_answer(gateway.states[0]));
  const KindStats* const stats = stats_of(gateway);
  REQUIRE(stats != nullptr);
  CHECK(stats->duration.sum() == doctest::Approx(1.3));
  CHECK(stats->time_to_first_token[1].sum() == doctest::Approx(0.3));
  CHECK(stats->time_per_output_token.sum() == doctest::Approx(0.01));
  CHECK(stats->normalized_time_per_output_token.sum() == doctest::Approx(1.3 / 101));
  CHECK(stats->request_bytes.sum() == 1000);
  CHECK(stats->response_bytes.sum() == 20000);
  CHECK(stats->input_tokens.sum() == 250);
  CHECK(stats->output_tokens.sum() == 101);
  CHECK(stats->cached_tokens.sum() == 128);
  CHECK(gateway.shards[0].hit_ratio().sum() == 0.5);
  CHECK(gateway.shards[0].hit_bytes().sum() == 512);
}

TEST_CASE("what was predicted of a stream is counted with it, and by how much it was off") {
  Gateway gateway;
  proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
  record.predicted_first_token = milliseconds(250);
  record.predicted_per_token = 0.012;
  gateway.shards[0].finished(record);
  const KindStats* const stats = stats_of(gateway);
  REQUIRE(stats != nullptr);
  CHECK(stats->predicted_ttft.sum() == doctest::Approx(0.25));
  CHECK(stats->predicted_ttft_error.sum() == doctest::Approx(0.05));
  CHECK(stats->predicted_tpot.sum() == doctest::Approx(0.012));
  CHECK(stats->predicted_tpot_error.sum() == doctest::Approx(0.002));
  // What does not stream shows no first token.
  record.streaming = false;
  gateway.shards[0].finished(record);
  CHECK(stats->predicted_ttft.sum() == doctest::Approx(0.25));
  std::string page;
  export_metrics(page, gateway.input);
  CHECK(page.find("\ninference_objective_request_predicted_ttft_seconds_count{model_name=\"llama\","
                  "target_model_name=\"llama-8b\"} 1\n") != std::string::npos);
  CHECK(page.find("type=\"predicted_tpot\"} 0.012\n") != std::string::npos);
}

TEST_CASE("lookups of what model servers tell are counted by llm-d's names") {
  Gateway gateway;
  gateway.shards[0].told_index_asked(4);
  gateway.shards[1].told_index_asked(0);
  gateway.input.kv_events.emplace();
  gateway.input.kv_events->admitted = 9;
  gateway.input.kv_events->evicted = 2;
  std::string page;
  export_metrics(page, gateway.input);
  for (const char* const line :
       {"admissions_total 9", "evictions_total 2", "lookup_requests_total 2", "lookup_hits_total 4",
        "max_pod_hit_count_total 4", "lookup_latency_seconds_bucket{le=\"0.005\"} 0"}) {
    CAPTURE(line);
    CHECK(page.find(std::string("\nkvcache_index_") + line + "\n") != std::string::npos);
  }
}

TEST_CASE("a request that was never scheduled counts as an error but not as a request") {
  Gateway gateway;
  proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
  record.endpoint = nullptr;
  record.outcome = proxy::Outcome::no_endpoint;
  record.time_to_first_token.reset();
  gateway.shards[0].finished(record);
  const KindStats* const stats = stats_of(gateway);
  REQUIRE(stats != nullptr);
  CHECK(stats->errors[static_cast<size_t>(EppError::service_unavailable)].get() == 1);
  CHECK(stats->requests.get() == 0);
  CHECK(stats->duration.sum() == 0);
}

TEST_CASE("models that no model server knows are counted as other, unless they were known before") {
  Gateway gateway;
  proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
  record.status = 404;
  for (const char* invented : {"x1", "x2", "x3"}) {
    record.kind.model = record.kind.target_model = invented;
    gateway.shards[0].finished(record);
  }
  CHECK(gateway.names.kinds.size() == 0);
  REQUIRE(gateway.shards[0].kind(NameTable::other) != nullptr);
  CHECK(gateway.shards[0].kind(NameTable::other)->requests.get() == 3);
  gateway.shards[0].finished(streamed_answer(gateway.states[0]));
  record.kind.model = "llama";
  record.kind.target_model = "llama-8b";
  gateway.shards[0].finished(record);
  REQUIRE(gateway.names.kinds.size() == 1);
  CHECK(gateway.shards[0].kind(1)->requests.get() == 2);
}

TEST_CASE("stages that were not reached are not counted") {
  Gateway gateway;
  proxy::ExchangeRecord refused;
  refused.outcome = proxy::Outcome::client_error;
  gateway.shards[0].finished(refused);
  const auto count = [&](proxy::Stage stage) {
    uint64_t sum = 0;
    for (size_t i = 0; i <= std::size(stage_seconds); ++i) sum += gateway.shards[0].stage(stage).bucket(i);
    return sum;
  };
  CHECK(count(proxy::Stage::read) == 1);
  CHECK(count(proxy::Stage::route) == 0);
  CHECK(count(proxy::Stage::relay) == 0);
  gateway.shards[0].finished(streamed_answer(gateway.states[0]));
  CHECK(count(proxy::Stage::read) == 2);
  CHECK(count(proxy::Stage::relay) == 1);
}

namespace {

// Requests of one tenant as the first shard has counted them; "other" are those without series of their own.
uint64_t requests_of(const Gateway& gateway, std::string_view fairness_id, std::string_view priority = "0") {
  uint64_t sum = 0;
  for (const auto& tenant : gateway.shards[0].tenants()) {
    if (tenant->is("llama", "llama-8b", fairness_id, priority)) sum += tenant->stats.requests.get();
  }
  for (uint32_t i = 0; i <= gateway.names.kinds.size(); ++i) {
    const Tenant* const crowd = gateway.shards[0].crowd(i);
    if (crowd != nullptr && crowd->is("llama", "llama-8b", fairness_id, priority)) sum += crowd->stats.requests.get();
  }
  return sum;
}

void finish_as(Gateway& gateway, std::string_view fairness_id, int priority = 0, size_t shard = 0) {
  proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
  record.kind.fairness_id = fairness_id;
  record.kind.priority = priority;
  gateway.shards[shard].finished(record);
}

}  // namespace

TEST_CASE("after the last place, the tenants of a model and priority are counted together") {
  Gateway gateway;
  for (uint32_t i = 0; i < TenantRoom::places + 50; ++i) finish_as(gateway, "tenant-" + std::to_string(i));
  finish_as(gateway, "tenant-0", 7);
  CHECK(requests_of(gateway, "tenant-0") == 1);
  CHECK(requests_of(gateway, "other") == 50);
  CHECK(requests_of(gateway, "other", "7") == 1);
  CHECK(gateway.shards[0].folded() == 51);
  // The older names know nothing of tenants.
  std::string page;
  export_metrics(page, gateway.input);
  CHECK(page.find("\ninference_objective_request_duration_seconds_count{model_name=\"llama\","
                  "target_model_name=\"llama-8b\"} 306\n") != std::string::npos);
  CHECK(page.find("\ninference_objective_request_total{model_name=\"llama\",target_model_name=\"llama-8b\","
                  "priority=\"7\"} 1\n") != std::string::npos);
  // Nor does a tenant whose name cannot be a label take the model's away.
  finish_as(gateway, "\xff");
  CHECK(requests_of(gateway, "other") == 51);
}

TEST_CASE(
    "what one shard counts of a tenant has its place in the others too, and a place is free after the last of them") {
  Gateway gateway;
  for (uint32_t i = 0; i < TenantRoom::places; ++i) finish_as(gateway, "tenant-" + std::to_string(i), 0, 1);
  finish_as(gateway, "tenant-3");  // known to the other shard
  finish_as(gateway, "late");
  CHECK(requests_of(gateway, "tenant-3") == 1);
  CHECK(requests_of(gateway, "late") == 0);
  gateway.shards[1].forget_unused_tenants(2);
  finish_as(gateway, "tenant-0", 0, 1);
  gateway.shards[1].forget_unused_tenants(2);  // used between the two
  CHECK(gateway.shards[1].tenants().size() == TenantRoom::places);
  gateway.shards[1].forget_unused_tenants(2);
  CHECK(gateway.shards[1].tenants().size() == 1);
  finish_as(gateway, "late");
  CHECK(requests_of(gateway, "late") == 1);
}

TEST_CASE("a tenant whose requests run keeps its series, and the models' counters lose nothing when series go") {
  Gateway gateway;
  ShardStats& shard = gateway.shards[0];
  const proxy::RequestKind kind = streamed_answer(gateway.states[0]).kind;
  const uint32_t number = shard.running_began(kind);
  proxy::GapObserver* const gaps = shard.stream_began(kind);
  for (int i = 0; i < 20; ++i) shard.forget_unused_tenants(1);
  REQUIRE(shard.tenants().size() == 1);
  gaps->gap(milliseconds(5));
  proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
  record.kind_number = number;
  shard.running_ended(number);
  shard.finished(record);
  CHECK(shard.tenants()[0]->running.get() == 0);
  CHECK(shard.tenants()[0]->stats.requests.get() == 1);
  for (int i = 0; i < 2; ++i) shard.forget_unused_tenants(1);
  CHECK(shard.tenants().empty());
  CHECK(stats_of(gateway)->requests.get() == 1);
}

TEST_CASE("with the older names alone nothing is counted by tenant") {
  Gateway gateway(PageLimits{.epp_names = EppNames::v1});
  for (int i = 0; i < 1000; ++i) finish_as(gateway, "tenant-" + std::to_string(i));
  CHECK(gateway.shards[0].tenants().empty());
  CHECK(gateway.shards[0].folded() == 0);
  CHECK(stats_of(gateway)->requests.get() == 1000);
}

TEST_CASE("times to the first token are those of streams that were answers, whole answers have their own") {
  Gateway gateway;
  ShardStats& shard = gateway.shards[0];
  const auto finish = [&](bool streaming, proxy::Outcome outcome, Duration first) {
    proxy::ExchangeRecord record = streamed_answer(gateway.states[0]);
    record.streaming = streaming;
    record.outcome = outcome;
    record.time_to_first_token = first;
    shard.finished(record);
  };
  using enum proxy::Outcome;
  finish(true, ok, milliseconds(100));
  finish(true, client_gone, milliseconds(200));  // its first token came all the same
  for (const proxy::Outcome outcome : {endpoint_4xx, endpoint_error, stream_broken}) {
    finish(true, outcome, seconds(1000));
    finish(false, outcome, seconds(1000));
  }
  finish(false, ok, seconds(2));
  finish(false, client_gone, seconds(1000));
  CHECK(shard.time_to_first_token().sum() == doctest::Approx(0.3));
  CHECK(shard.time_to_whole_answer().sum() == doctest::Approx(2));
}

TEST_CASE("answers are counted by endpoint and code, and codes without a place by their class") {
  Gateway gateway;
  ShardStats& shard = gateway.shards[0];
  endpoints::EndpointState& endpoint = gateway.states[1];
  for (const uint16_t status : {200, 206, 302, 404, 404, 418, 505, 999, 100}) shard.endpoint_answered(endpoint, status);
  std::map<std::string, uint64_t> found;
  for (size_t code = 0; code < answer_code_count; ++code) {
    if (const uint64_t count = shard.answers(endpoint, code)) found[answer_code_name(code)] = count;
  }
  const std::map<std::string, uint64_t> expected = {{"200", 1}, {"2xx", 2}, {"3xx", 1},
                                                    {"404", 2}, {"4xx", 1}, {"5xx", 2}};
  CHECK(found == expected);
  CHECK(shard.answers(gateway.states[0], answer_code(200)) == 0);
  shard.endpoint_ejected(endpoint, proxy::Ejection::fails);
  ++endpoint.incarnation;  // another endpoint took the slot
  CHECK(shard.answers(endpoint, answer_code(404)) == 0);
  shard.endpoint_answered(endpoint, 404);
  CHECK(shard.answers(endpoint, answer_code(404)) == 1);
  CHECK(shard.ejections(endpoint) == 0);
}

TEST_CASE("ejections belong to the endpoint that holds the slot now") {
  Gateway gateway;
  ShardStats& shard = gateway.shards[0];
  endpoints::EndpointState &old = gateway.states[0], later, far;
  later.slot = old.slot;
  later.incarnation = old.incarnation + 5;
  far.slot = 4000;
  far.incarnation = 9;
  shard.endpoint_ejected(old, proxy::Ejection::fails);
  shard.endpoint_ejected(old, proxy::Ejection::fails);
  shard.endpoint_ejected(far, proxy::Ejection::fails);
  CHECK(shard.ejections(old) == 2);
  CHECK(shard.ejections(far) == 1);
  CHECK(shard.ejections(gateway.states[1]) == 0);
  shard.endpoint_ejected(later, proxy::Ejection::fails);
  CHECK(shard.ejections(later) == 1);
  CHECK(shard.ejections(old) == 0);
}

TEST_CASE("limits are counted by name, and those without a place as other") {
  Gateway gateway;
  ShardStats& shard = gateway.shards[0];
  // Limits that every process has keep a place from the start, unhit.
  size_t known = 0;
  while (!shard.limits()[known].name.empty()) ++known;
  REQUIRE(known >= 10);
  for (size_t i = 0; i < ShardStats::limits_max + 4; ++i) shard.limit_hit("limit-" + std::to_string(i));
  shard.limit_hit("limit-3");
  CHECK(shard.limits()[0].name == "header_bytes");
  CHECK(shard.limits()[0].hits.get() == 0);
  CHECK(shard.limits()[known + 3].name == "limit-3");
  CHECK(shard.limits()[known + 3].hits.get() == 2);
  CHECK(shard.limits()[ShardStats::limits_max - 1].name == "other");
  CHECK(shard.limits()[ShardStats::limits_max - 1].hits.get() == known + 5);
}

TEST_CASE("running requests return to zero, also when there are more of a kind than numbers") {
  Gateway gateway;
  std::vector<uint32_t> numbers;
  for (int i = 0; i < 3000; ++i) {
    const std::string model = "m" + std::to_string(i / 2), tenant = "t" + std::to_string(i);
    numbers.push_back(gateway.shards[i % 2].running_began({model, model, tenant, i}));
  }
  CHECK(gateway.shards[0].running(gateway.names.kinds.index_of("m0", "m0", "", "0")) == 1);
  CHECK(gateway.shards[0].running_began({}) == proxy::no_kind);
  for (int i = 0; i < 3000; ++i) gateway.shards[i % 2].running_ended(numbers[static_cast<size_t>(i)]);
  gateway.shards[0].running_ended(proxy::no_kind);
  for (uint32_t i = 0; i <= gateway.names.kinds.size(); ++i) {
    for (const ShardStats& shard : gateway.shards) CHECK(shard.running(i) == 0);
  }
}
