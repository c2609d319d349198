#include "penstock/routing/refusals.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using endpoints::EndpointState;

namespace {

constexpr uint64_t base = 7, adapter = 8;  // kinds of request
const EjectionOptions options;

Verdict pair(EndpointState& endpoint, uint16_t status, int64_t ms, uint64_t kind = base) {
  return report_pair(endpoint, {.kind = kind, .status = status}, at_ms(ms), options);
}
void accept(EndpointState& endpoint, int64_t ms, uint64_t kind = base) {
  report_acceptance(endpoint, kind, at_ms(ms), at_ms(ms), options);
}

std::map<std::string, int> picks(const PoolBuilder& builder, Policy policy, int64_t ms, uint64_t kind = base) {
  PrefixIndex index(1 << 10);
  const auto profile = make_profile(policy);
  Router router(*profile, index, 5);
  std::map<std::string, int> counts;
  Features features;
  features.kind = kind;
  for (int i = 0; i < 1000; ++i) {
    const Decision decision = router.decide(features, builder.pool, at_ms(ms), {});
    ++counts[decision.endpoint == nullptr ? "none" : decision.endpoint->name];
  }
  return counts;
}

std::vector<Policy> policies() {
  std::vector<Policy> all;
  for (const std::string_view name : policy_names()) {
    Policy policy{};
    REQUIRE(parse_policy(name, &policy));
    all.push_back(policy);
  }
  return all;
}

}  // namespace

TEST_CASE("a key that an endpoint alone does not know: three pairs in a row eject it") {
  EndpointState endpoint;
  CHECK(pair(endpoint, 401, 1) == Verdict::none);
  CHECK(pair(endpoint, 403, 2, adapter) == Verdict::none);
  CHECK(!ejected(endpoint, at_ms(2)));
  CHECK(pair(endpoint, 401, 3) == Verdict::ejected);
  CHECK(ejected(endpoint, at_ms(1002)));
  CHECK(!ejected(endpoint, at_ms(1003)));
  CHECK(pair(endpoint, 401, 4) == Verdict::none);  // of a request that was under way
  // Back, and no better: one pair is enough, and it stays away for longer.
  CHECK(pair(endpoint, 401, 1500) == Verdict::ejected);
  CHECK(ejected(endpoint, at_ms(3499)));
  CHECK(!ejected(endpoint, at_ms(3500)));
}

TEST_CASE("a good answer between the pairs starts anew: only some clients use a key that it does not know") {
  EndpointState endpoint;
  for (int i = 0; i < 100; ++i) {
    CHECK(pair(endpoint, 401, 10 * i) == Verdict::none);
    CHECK(pair(endpoint, 401, 10 * i + 1) == Verdict::none);
    accept(endpoint, 10 * i + 2, adapter);
  }
}

TEST_CASE("refusals without a good answer elsewhere eject nobody") {
  EndpointState endpoint;
  for (int i = 0; i < 10'000; ++i) report_refusal(endpoint);
  CHECK(!ejected(endpoint, at_ms(0)));
  CHECK(refused_kinds(endpoint, at_ms(0)) == 0);
}

TEST_CASE("a model that an endpoint does not have: ejected for that, and for nothing else") {
  for (const uint16_t status : {400, 404, 413, 422}) {
    EndpointState endpoint;
    CHECK(pair(endpoint, status, 1, adapter) == Verdict::none);
    accept(endpoint, 1, base);  // says nothing about the adapter
    CHECK(pair(endpoint, status, 2, adapter) == Verdict::none);
    CHECK(pair(endpoint, status, 3, adapter) == Verdict::ejected_for_kind);
    CHECK(!ejected(endpoint, at_ms(4)));
    CHECK(refuses_until_ns(endpoint, adapter, at_ms(4)) == Duration(milliseconds(1003)).count());
    CHECK(refuses_until_ns(endpoint, base, at_ms(4)) == 0);
    CHECK(refuses_until_ns(endpoint, 0, at_ms(4)) == 0);
    CHECK(refused_kinds(endpoint, at_ms(4)) == 1);
    CHECK(pair(endpoint, status, 1002, adapter) == Verdict::none);
    CHECK(refuses_until_ns(endpoint, adapter, at_ms(1003)) == 0);
    CHECK(pair(endpoint, status, 1100, adapter) == Verdict::ejected_for_kind);
    CHECK(refuses_until_ns(endpoint, adapter, at_ms(3099)) > 0);
    CHECK(refuses_until_ns(endpoint, adapter, at_ms(3100)) == 0);
  }
}

TEST_CASE("what an endpoint refused is forgotten when it has answered it through a whole slow start") {
  EndpointState endpoint;
  for (int i = 0; i < 3; ++i) pair(endpoint, 404, 0, adapter);
  CHECK(doubt_about(endpoint, adapter, at_ms(6000), options.slow_start).share == doctest::Approx(0.5));
  CHECK(doubt_about(endpoint, base, at_ms(6000), options.slow_start).share == 1);
  accept(endpoint, 6000, adapter);
  CHECK(endpoint.health.kinds == 1);
  CHECK(doubt_about(endpoint, adapter, at_ms(6000), options.slow_start).share == doctest::Approx(0.5));
  accept(endpoint, 11'000, adapter);
  CHECK(endpoint.health.kinds == 0);
  CHECK(doubt_about(endpoint, adapter, at_ms(11'000), options.slow_start).share == 1);
  CHECK(pair(endpoint, 404, 11'001, adapter) == Verdict::none);  // three again
  accept(endpoint, 11'002, adapter);
  CHECK(endpoint.health.kinds == 0);
}

TEST_CASE("more kinds than are remembered count against the endpoint as a whole") {
  EndpointState endpoint;
  for (uint64_t kind = 1; kind <= 8; ++kind) CHECK(pair(endpoint, 404, 0, kind) == Verdict::none);
  CHECK(pair(endpoint, 404, 1, 9) == Verdict::none);
  accept(endpoint, 2, 100);
  CHECK(pair(endpoint, 404, 3, 9) == Verdict::none);
  CHECK(pair(endpoint, 404, 3, 10) == Verdict::none);
  CHECK(pair(endpoint, 404, 3, 11) == Verdict::ejected);
  // Those of which nothing was heard for a long time make room.
  CHECK(pair(endpoint, 404, 100'000, 12) == Verdict::none);
  CHECK(endpoint.health.kinds == 8);
  for (int i = 0; i < 2; ++i) pair(endpoint, 404, 100'000, 12);
  CHECK(refuses_until_ns(endpoint, 12, at_ms(100'001)) > 0);
}

TEST_CASE("429 keeps requests away for as long as the endpoint asks, within bounds, and never ejects") {
  EndpointState endpoint;
  const auto full = [&](int64_t ms, Duration retry_after) {
    return report_pair(endpoint, {base, 429, retry_after}, at_ms(ms), options);
  };
  const auto share = [&](int64_t ms) { return doubt_about(endpoint, adapter, at_ms(ms), options.slow_start).share; };
  CHECK(full(0, seconds(5)) == Verdict::busy);
  CHECK(full(1, seconds(50)) == Verdict::none);
  CHECK(share(4999) == 0.05);
  CHECK(share(5000) == 1);
  CHECK(full(6000, Duration{0}) == Verdict::busy);  // not said: a penalty, longer each time
  CHECK(share(7999) == 0.05);
  CHECK(share(8000) == 1);
  CHECK(full(10'000, seconds(1'000'000)) == Verdict::busy);
  CHECK(share(69'999) == 0.05);
  CHECK(share(70'000) == 1);
  CHECK(!ejected(endpoint, at_ms(10'000)));
}

TEST_CASE("an endpoint that answers what came after its 429 is not busy, only one client's limit was reached") {
  EndpointState endpoint;
  CHECK(report_busy(endpoint, seconds(30), at_ms(100), options));
  CHECK(!report_busy(endpoint, seconds(30), at_ms(101), options));
  report_acceptance(endpoint, base, at_ms(99), at_ms(110), options);  // it had begun before
  CHECK(doubt_about(endpoint, base, at_ms(111), options.slow_start).share == 0.05);
  report_acceptance(endpoint, base, at_ms(105), at_ms(120), options);
  CHECK(doubt_about(endpoint, base, at_ms(121), options.slow_start).share == 1);
}

TEST_CASE("second opinions are bounded by endpoint, and those that prove something do not count") {
  EndpointState endpoint, other;
  for (int i = 0; i < 50; ++i) CHECK(take_second_opinion(endpoint, at_ms(0), 50));
  CHECK(!take_second_opinion(endpoint, at_ms(0), 50));
  CHECK(take_second_opinion(other, at_ms(0), 50));
  CHECK(!take_second_opinion(endpoint, at_ms(999), 50));
  CHECK(take_second_opinion(endpoint, at_ms(1000), 50));
  CHECK(!take_second_opinion(endpoint, at_ms(1000), 50));
  pair(endpoint, 401, 1000);
  CHECK(take_second_opinion(endpoint, at_ms(1000), 50));
  CHECK(!take_second_opinion(endpoint, at_ms(1000), 50));
  CHECK(!take_second_opinion(other, at_ms(0), 0));
  for (int i = 0; i < 50; ++i) CHECK(take_second_opinion(endpoint, at_ms(1'000'000), 50));
  CHECK(!take_second_opinion(endpoint, at_ms(1'000'000), 50));
}

TEST_CASE("an endpoint that refuses all it gets does not look idle to any policy") {
  for (const Policy policy : policies()) {
    PoolBuilder builder(3);
    for (int i = 1; i < 3; ++i) builder.state(i).load.requests = 5;
    for (int i = 0; i < 5; ++i) report_refusal(builder.state(0));
    if (policy == Policy::least_load) CHECK(picks(builder, policy, 0)["a"] == 1000);
    for (int i = 0; i < 200; ++i) report_refusal(builder.state(0));
    CHECK(picks(builder, policy, 0)["a"] < 80);
    CHECK(picks(builder, policy, 0)["a"] > 0);
    // Where all do, nobody is missing.
    for (int i = 1; i < 3; ++i) {
      for (int n = 0; n < 200; ++n) report_refusal(builder.state(i));
    }
    CHECK(picks(builder, policy, 0)["none"] == 0);
    accept(builder.state(0), 0);
    CHECK(picks(builder, policy, 0)["a"] > 850);
  }
}

TEST_CASE("every policy leaves out who is ejected for the kind, unless all are") {
  for (const Policy policy : policies()) {
    PoolBuilder builder(3);
    for (int i = 0; i < 3; ++i) pair(builder.state(0), 404, 0, adapter);
    CHECK(picks(builder, policy, 1, adapter)["a"] == 0);
    CHECK(picks(builder, policy, 1, base)["a"] > 200);
    for (int i = 0; i < 3; ++i) pair(builder.state(1), 404, 0, adapter);
    CHECK(picks(builder, policy, 1, adapter)["c"] == 1000);
    for (int i = 0; i < 3; ++i) pair(builder.state(2), 404, 500, adapter);
    CHECK(picks(builder, policy, 501, adapter)["none"] == 0);
  }
}

TEST_CASE("decisions say why an endpoint was left out") {
  PoolBuilder builder(4);
  for (int i = 0; i < 3; ++i) pair(builder.state(0), 404, 0, adapter);
  report_busy(builder.state(1), seconds(5), at_ms(0), options);
  for (int i = 0; i < 1000; ++i) report_refusal(builder.state(2));
  PrefixIndex index(1 << 10);
  const auto profile = make_profile(Policy::random);
  Router router(*profile, index, 1);
  Features features;
  features.kind = adapter;
  Explanation why;
  REQUIRE(router.decide(features, builder.pool, at_ms(1), {}, &why).endpoint == &builder.state(3));
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"a", "ejected for this kind of request"}, {"b", "busy"}, {"c", "refuses requests"}};
  std::vector<std::pair<std::string, std::string>> found = why.excluded;
  std::sort(found.begin(), found.end());
  CHECK(found == expected);
}

TEST_CASE("many threads that see the same pairs eject once, and good answers leave nothing behind") {
  for (int round = 0; round < 50; ++round) {
    EndpointState whole, one_kind;
    std::atomic<int> ejections{0}, kinds{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) {
          ejections += pair(whole, 401, 7) == Verdict::ejected;
          kinds += pair(one_kind, 404, 7) == Verdict::ejected_for_kind;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(ejections == 1);
    REQUIRE(kinds >= 1);
    REQUIRE(refuses_until_ns(one_kind, base, at_ms(8)) > 0);
    for (int i = 0; i < 4; ++i) accept(one_kind, 100'000);
    REQUIRE(one_kind.health.kinds == 0);
  }
}
