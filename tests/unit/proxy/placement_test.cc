#include "src/proxy/placement.h"

#include <optional>

#include "fixture.h"

namespace penstock::proxy {
namespace {

constexpr std::string_view completion = R"({"model":"m","prompt":"Once upon a time","max_tokens":16,"stream":true})";

struct Events final : PlacementEvents {
  void on_room() override { happened += "room "; }
  void on_held_too_long(ErrorCode why) override { happened.append(info_of(why).name) += ' '; }
  void on_evicted() override { happened += "evicted "; }
  std::string happened;
};

struct Placed {
  explicit Placed(Scene& scene, const std::string& fields = {})
      : asked(scene, "POST /v1/completions", fields, completion) {
    REQUIRE(asked.verdict.goes_on());
    placement.emplace(scene.gateway, scene.context, asked.intake, events);
  }
  Placement* operator->() { return &*placement; }

  Asked asked;
  Events events;
  std::optional<Placement> placement;
};

TEST_CASE("a request is placed without being forwarded: its load is reserved, and released with it") {
  Scene scene;
  {
    Placed placed(scene);
    CHECK(placed->admit().goes_on());
    CHECK(placed->endpoint() == nullptr);
    CHECK(placed->route().goes_on());
    REQUIRE(placed->endpoint() != nullptr);
    const endpoints::LoadCounters& load = placed->endpoint()->load;
    CHECK(load.requests == 1);
    CHECK(load.prefill_tokens > 0);
    CHECK(load.kv_tokens >= 16);
    placed->first_byte(scene.sim.loop().now(), true);
    CHECK(load.prefill_tokens == 0);
    CHECK(load.requests == 1);
    placed->finish({.if_held = HoldOutcome::evicted_other, .ok = true, .started = true, .usage = {}, .tokens = 3});
    ExchangeRecord record;
    placed->describe(record, scene.sim.loop().now());
    CHECK(record.endpoint == placed->endpoint());
    CHECK(record.attempts == 1);
  }
  CHECK(scene.requests_at(0) == 0);
  CHECK(scene.requests_at(1) == 0);
}

TEST_CASE("each failure moves it on, until attempts or endpoints are used up") {
  Options options;
  options.attempts_max = 3;
  for (const size_t endpoints : {2, 5}) {
    CAPTURE(endpoints);
    Scene scene(endpoints, options);
    Placed placed(scene);
    CHECK(placed->route().goes_on());
    size_t tried = 1;
    while (placed->claim(AttemptFailure::status_503)) {
      const endpoints::EndpointState* const before = placed->endpoint();
      placed->leave_endpoint(false);
      CHECK(placed->route().goes_on());
      CHECK(placed->endpoint() != before);
      ++tried;
    }
    CHECK(tried == std::min<size_t>(endpoints, 3));
    CHECK(placed->last_failure() == ErrorCode::endpoints_unavailable);
    CHECK(placed->attempts() == tried);
  }
}

TEST_CASE("an attempt of which nothing was sent costs none") {
  Options options;
  options.attempts_max = 1;
  Scene scene(4, options);
  Placed placed(scene);
  CHECK(placed->route().goes_on());
  for (int i = 0; i < 3; ++i) {
    CHECK(placed->claim(AttemptFailure::connect_refused));
    placed->leave_endpoint(false);
    CHECK(placed->route().goes_on());
  }
  CHECK(placed->attempts() == 4);
  CHECK(placed->attempts_spent() == 1);
  CHECK_FALSE(placed->claim(AttemptFailure::connect_refused));  // nobody is left
  CHECK(placed->last_failure() == ErrorCode::connect_failed);
}

TEST_CASE("a placement that finds nobody says why") {
  Scene scene(0);
  Placed placed(scene);
  const Verdict verdict = placed->route();
  REQUIRE(verdict.own_answer() != nullptr);
  CHECK(verdict.own_answer()->error == ErrorCode::no_endpoint);
}

TEST_CASE("a refusal is tried elsewhere once, and its load stays where it was refused") {
  Scene scene(3);
  Placed placed(scene);
  CHECK(placed->route().goes_on());
  endpoints::EndpointState* const refuser = placed->endpoint();
  CHECK(placed->refused(answer_head("400 Bad Request").head()));
  placed->leave_endpoint(false);
  CHECK(placed->route().goes_on());
  CHECK(placed->endpoint() != refuser);
  CHECK(refuser->load.requests == 1);
  SUBCASE("the other one refuses it as well: the request is at fault") {
    CHECK_FALSE(placed->refused(answer_head("400 Bad Request").head()));
    CHECK(refuser->load.requests == 0);
  }
  SUBCASE("whoever was asked fails, and so does everybody else: the refuser is asked again") {
    CHECK(placed->claim(AttemptFailure::closed_before_response));
    placed->leave_endpoint(false);
    CHECK(placed->route().goes_on());
    CHECK(placed->claim(AttemptFailure::closed_before_response));
    placed->leave_endpoint(false);
    CHECK(placed->route().goes_on());
    CHECK(placed->endpoint() == refuser);
  }
}

TEST_CASE("pairs of a refusal and a good answer eject the refuser") {
  Scene scene;
  for (int i = 0; i < 40 && scene.observer.ejections == 0; ++i) {
    Placed placed(scene);
    if (!placed->route().goes_on()) continue;
    const bool bad = scene.number_of(placed->endpoint()) == 0;
    if (bad && placed->refused(answer_head("401 Unauthorized").head())) {
      placed->leave_endpoint(false);
      CHECK(placed->route().goes_on());
    }
    placed->answered_well(scene.sim.loop().now());
  }
  CHECK(scene.observer.ejections == 1);
  CHECK(routing::ejected(*scene.states[0], scene.sim.loop().now()));
  CHECK_FALSE(routing::ejected(*scene.states[1], scene.sim.loop().now()));
}

Options one_at_a_time() {
  Options options;
  options.flow.enabled = true;
  options.flow.detector.detector = admission::Detector::concurrency;
  options.flow.detector.concurrency = 1;
  options.flow.ttl = seconds(5);
  return options;
}

TEST_CASE("where there is no room it is held, and hears of room, or that it took too long") {
  Scene scene(1, one_at_a_time());
  std::optional<Placed> first(std::in_place, scene);
  CHECK((*first)->admit().goes_on());
  CHECK((*first)->route().goes_on());
  Placed second(scene);
  CHECK(second->admit().waits());
  CHECK(scene.hold.occupied());
  SUBCASE("room") {
    first.reset();
    scene.hold.room_made(*scene.publisher.current(), scene.sim.loop().now());
    scene.network.run_for(milliseconds(10));
    CHECK(second.events.happened == "room ");
    CHECK(second->admit().goes_on());
    CHECK(second->route().goes_on());
    CHECK_FALSE(scene.hold.occupied());
  }
  SUBCASE("none in time") {
    scene.network.run_for(seconds(6));
    CHECK(second.events.happened == "queue_timeout ");
    CHECK_FALSE(scene.hold.occupied());
  }
  SUBCASE("it gives up") {
    second.placement.reset();
    CHECK_FALSE(scene.hold.occupied());
  }
}

}  // namespace
}  // namespace penstock::proxy
