#include "penstock/observability/decision_log.h"

#include "fixture.h"

using namespace penstock;
using namespace penstock::observability;

namespace {

class ManualClock final : public net::Clock {
 public:
  Instant now() override { return now_; }
  int64_t wall_time_us() override { return 1'738'367'999'123'456; }
  void advance(Duration by) { now_ += by; }

 private:
  Instant now_{seconds(1)};
};

size_t count_of(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("decisions are kept no more often than the gap says, newest first, up to the capacity") {
  ManualClock clock;
  DecisionLog log(clock, 3, milliseconds(10));
  endpoints::EndpointState endpoint;
  endpoint.name = "pod-a";
  for (int i = 0; i < 5; ++i) {
    REQUIRE(log.slot(clock.now()) != nullptr);
    log.record(microseconds(2), &endpoint, "model-" + std::to_string(i));
    CHECK(log.slot(clock.now()) == nullptr);
    log.record(microseconds(2), &endpoint, "too soon");
    clock.advance(milliseconds(10));
  }
  std::string json;
  log.append_json(json, 1);
  CHECK(count_of(json, "\"endpoint\":\"pod-a\"") == 3);
  CHECK(json.find("too soon") == std::string::npos);
  CHECK(json.find("model-4") < json.find("model-3"));
  CHECK(json.find("model-3") < json.find("model-2"));
  CHECK(json.find("model-1") == std::string::npos);
  CHECK(json.starts_with(
      R"({"time":"2025-01-31T23:59:59.123456Z","shard":1,"model":"model-4","endpoint":"pod-a","cost_us":2,"attempt":1,"resumes":false,"why":null,)"
      R"("shadow":null,"inputs":null})"));
}

TEST_CASE("a decision that its client wants explained is kept, however soon") {
  ManualClock clock;
  DecisionLog log(clock);
  REQUIRE(log.slot(clock.now()) != nullptr);
  log.record(microseconds(1), nullptr, "first");
  CHECK(log.slot(clock.now()) == nullptr);
  log.record(microseconds(1), nullptr, "too soon");
  routing::Explanation* const why = log.slot(clock.now(), /*asked=*/true);
  REQUIRE(why != nullptr);
  why->rows.push_back({.endpoint = "pod-0"});
  log.record(microseconds(1), nullptr, "asked");
  std::string json;
  log.append_json(json, 0);
  CHECK(json.find("\"model\":\"asked\"") < json.find("\"model\":\"first\""));
  CHECK(json.find("pod-0") != std::string::npos);
  CHECK(json.find("too soon") == std::string::npos);
}

TEST_CASE("an explained decision shows its candidates, and only the best of very many") {
  ManualClock clock;
  DecisionLog log(clock);
  routing::Explanation* why = log.slot(clock.now());
  REQUIRE(why != nullptr);
  why->scorers = {"queue-scorer*2"};
  for (int i = 0; i < 100; ++i)
    why->rows.push_back({.endpoint = "pod-" + std::to_string(i), .total = 1, .scores = {0.5}});
  log.record(microseconds(7), nullptr, "m");
  std::string json;
  log.append_json(json, 0);
  CHECK(json.find("\"endpoint\":null") != std::string::npos);
  CHECK(json.find("queue-scorer*2") != std::string::npos);
  CHECK(json.find("pod-15") != std::string::npos);
  CHECK(json.find("pod-16") == std::string::npos);
}

TEST_CASE("a decision shows what the shadow policy would have done and what it was made from") {
  ManualClock clock;
  DecisionLog log(clock);
  routing::Explanation* why = log.slot(clock.now());
  REQUIRE(why != nullptr);
  why->rows.push_back({.endpoint = "pod-0"});
  why->shadow = "pod-1";
  why->shadow_gain_seconds = 0.5;
  why->inputs.whole = true;
  why->inputs.model = "a\"b";
  why->inputs.endpoints.push_back({.name = "pod-0", .decode_x = 0.1});
  log.record(microseconds(7), nullptr, "m");
  std::string json;
  log.append_json(json, 0);
  CHECK(json.find(R"("shadow":{"endpoint":"pod-1","gain_s":0.5},"inputs":{"now_ns":0,)") != std::string::npos);
  CHECK(json.find(R"("model":"a\"b")") != std::string::npos);
  CHECK(json.find(R"("endpoints":[{"name":"pod-0",)") != std::string::npos);
  CHECK(json.find(R"("decode_x":0.1,)") != std::string::npos);

  clock.advance(seconds(1));
  REQUIRE(log.slot(clock.now()) != nullptr);  // the next one has nothing of it
  log.record(microseconds(7), nullptr, "next");
  json.clear();
  log.append_json(json, 0);
  CHECK(
      json.find(
          R"("model":"next","endpoint":null,"cost_us":7,"attempt":1,"resumes":false,"why":null,"shadow":null,"inputs":null})") !=
      std::string::npos);
}

TEST_CASE("nothing kept is nothing written, and the shard's statistics hand the slot on") {
  ManualClock clock;
  DecisionLog log(clock);
  std::string json;
  log.append_json(json, 0);
  CHECK(json.empty());

  Names names;
  ShardStats without(names), with(names, nullptr, &log);
  CHECK(without.explanation_slot(clock.now(), true) == nullptr);
  CHECK(with.explanation_slot(clock.now(), false) != nullptr);
  with.decision_made(microseconds(1), false, nullptr, "m");
  log.append_json(json, 0);
  CHECK(count_of(json, "\"model\":\"m\"") == 1);
}
