#include <doctest/doctest.h>

#include <thread>

#include "penstock/routing/router.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using endpoints::EndpointState;

TEST_CASE("one hard failure ejects, for the base penalty, and the way back is slow") {
  EndpointState endpoint;
  const EjectionOptions options;
  CHECK(!ejected(endpoint, at_ms(0)));
  CHECK(slow_start_share(endpoint, at_ms(0), options.slow_start) == 1);
  CHECK(report_failure(endpoint, FailureKind::hard, at_ms(5000), options));
  CHECK(ejected(endpoint, at_ms(5000)));
  CHECK(ejected(endpoint, at_ms(5999)));
  CHECK(!ejected(endpoint, at_ms(6000)));
  CHECK(slow_start_share(endpoint, at_ms(6000), options.slow_start) == 0);
  CHECK(slow_start_share(endpoint, at_ms(8500), options.slow_start) == doctest::Approx(0.25));
  CHECK(slow_start_share(endpoint, at_ms(16000), options.slow_start) == 1);
  CHECK(slow_start_share(endpoint, at_ms(6000), Duration::zero()) == 1);
}

TEST_CASE("soft failures eject when three follow each other; a success in between starts anew") {
  EndpointState endpoint;
  const EjectionOptions options;
  CHECK(!report_failure(endpoint, FailureKind::soft, at_ms(1), options));
  CHECK(!report_failure(endpoint, FailureKind::soft, at_ms(2), options));
  report_success(endpoint, at_ms(3), options);
  CHECK(!report_failure(endpoint, FailureKind::soft, at_ms(4), options));
  CHECK(!report_failure(endpoint, FailureKind::soft, at_ms(5), options));
  CHECK(!ejected(endpoint, at_ms(5)));
  CHECK(report_failure(endpoint, FailureKind::soft, at_ms(6), options));
  CHECK(ejected(endpoint, at_ms(6)));
}

TEST_CASE("the penalty doubles with each ejection in a row, up to the maximum") {
  EndpointState endpoint;
  const EjectionOptions options;
  Instant now = at_ms(1000);
  for (const int64_t expected_s : {1, 2, 4, 8, 16, 32, 60, 60}) {
    REQUIRE(report_failure(endpoint, FailureKind::hard, now, options));
    CHECK(ejected(endpoint, now + seconds(expected_s) - milliseconds(1)));
    now += seconds(expected_s);
    CHECK(!ejected(endpoint, now));
  }
}

TEST_CASE("failures of an ejected endpoint do not lengthen its penalty") {
  EndpointState endpoint;
  const EjectionOptions options;
  CHECK(report_failure(endpoint, FailureKind::hard, at_ms(0), options));
  for (int i = 0; i < 100; ++i) CHECK(!report_failure(endpoint, FailureKind::hard, at_ms(500), options));
  CHECK(!ejected(endpoint, at_ms(1000)));
  CHECK(endpoint.health.ejections == 1);
}

TEST_CASE("only a whole slow start without ejection makes the next penalty short again") {
  EndpointState endpoint;
  const EjectionOptions options;
  report_failure(endpoint, FailureKind::hard, at_ms(0), options);
  report_success(endpoint, at_ms(10'999), options);
  CHECK(endpoint.health.ejections == 1);
  report_success(endpoint, at_ms(11'000), options);
  CHECK(endpoint.health.ejections == 0);
  CHECK(endpoint.health.recovered_at_ns == 0);
  report_failure(endpoint, FailureKind::hard, at_ms(20'000), options);
  CHECK(!ejected(endpoint, at_ms(21'000)));
}

TEST_CASE("an endpoint whose health probe fails is ejected until the probe says otherwise") {
  EndpointState endpoint;
  endpoint.health.probe_failed = true;
  CHECK(ejected(endpoint, at_ms(0)));
  CHECK(ejected(endpoint, at_ms(1'000'000)));
  endpoint.health.probe_failed = false;
  CHECK(!ejected(endpoint, at_ms(0)));
}

TEST_CASE("many threads that see one death eject once") {
  const EjectionOptions options;
  for (int round = 0; round < 50; ++round) {
    EndpointState endpoint;
    std::atomic<int> ejections{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) ejections += report_failure(endpoint, FailureKind::hard, at_ms(7), options);
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(ejections == 1);
    REQUIRE(endpoint.health.ejections == 1);
  }
}

TEST_CASE("a reservation counts at the pick, moves at the first token and gives all back at the end") {
  EndpointState endpoint;
  const endpoints::LoadCounters& load = endpoint.load;
  {
    Reservation reservation(endpoint, 300, 1000, 200, at_ms(42));
    CHECK(reservation.endpoint() == &endpoint);
    CHECK(load.requests == 1);
    CHECK(load.prefill_tokens == 300);
    CHECK(load.kv_tokens == 1200);
    CHECK(load.decoding == 0);
    CHECK(load.picks == 1);
    CHECK(load.last_pick_ns == 42'000'000);

    reservation.first_token(at_ms(50));
    reservation.first_token(at_ms(50));
    CHECK(load.prefill_tokens == 0);
    CHECK(load.decoding == 1);
    CHECK(load.kv_tokens == 1200);

    Reservation moved(std::move(reservation));
    CHECK(load.requests == 1);
    Reservation other(endpoint, 5, 5, 5, at_ms(43));
    CHECK(load.requests == 2);
    other = std::move(moved);
    CHECK(load.requests == 1);
    CHECK(load.prefill_tokens == 0);
    CHECK(load.decoding == 1);
  }
  CHECK(load.requests == 0);
  CHECK(load.prefill_tokens == 0);
  CHECK(load.kv_tokens == 0);
  CHECK(load.decoding == 0);
  CHECK(load.picks == 2);
}

TEST_CASE("an empty or released reservation does nothing") {
  EndpointState endpoint;
  Reservation empty;
  empty.first_token(at_ms(1));
  empty.release();
  CHECK(empty.endpoint() == nullptr);
  Reservation reservation(endpoint, 1, 2, 3, at_ms(0));
  reservation.release();
  reservation.release();
  reservation.first_token(at_ms(50));
  CHECK(endpoint.load.requests == 0);
  CHECK(endpoint.load.decoding == 0);
}

TEST_CASE("reservations of many threads add up to nothing in the end") {
  EndpointState endpoint;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&endpoint] {
      for (int i = 0; i < 1000; ++i) {
        Reservation reservation(endpoint, 10, 20, 30, at_ms(i));
        if (i % 2 == 0) reservation.first_token(at_ms(50));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(endpoint.load.requests == 0);
  CHECK(endpoint.load.prefill_tokens == 0);
  CHECK(endpoint.load.kv_tokens == 0);
  CHECK(endpoint.load.decoding == 0);
  CHECK(endpoint.load.picks == 4000);
}

TEST_CASE("tokens are estimated at four bytes each until the model's usage says otherwise") {
  TokenEstimator estimator;
  CHECK(estimator.estimate("m", 0) == 0);
  CHECK(estimator.estimate("m", 1) == 1);
  CHECK(estimator.estimate("m", 4000) == 1000);
  for (int i = 0; i < 100; ++i) estimator.learn("m", 30'000, 10'000);
  CHECK(estimator.bytes_per_token("m") == doctest::Approx(3.0).epsilon(0.01));
  CHECK(estimator.estimate("m", 3000) == doctest::Approx(1000).epsilon(0.01));
  CHECK(estimator.estimate("other", 4000) == 1000);
}

TEST_CASE("the learnt ratio is bounded, and one absurd observation does not dominate") {
  TokenEstimator estimator;
  estimator.learn("m", 1'000'000, 1000);
  CHECK(estimator.bytes_per_token("m") < 7);
  for (int i = 0; i < 1000; ++i) estimator.learn("m", 4'000'000'000u, 100'000);
  CHECK(estimator.bytes_per_token("m") == doctest::Approx(16));
  for (int i = 0; i < 1000; ++i) estimator.learn("m", 1, 100'000);
  CHECK(estimator.bytes_per_token("m") == doctest::Approx(0.5));
  estimator.learn("m", 0, 10);
  estimator.learn("m", 10, 0);
  CHECK(estimator.bytes_per_token("m") == doctest::Approx(0.5));
  CHECK(estimator.estimate("m", SIZE_MAX) == UINT32_MAX);
}

TEST_CASE("short prompts teach little") {
  TokenEstimator estimator;
  estimator.learn("m", 10, 20);
  CHECK(estimator.bytes_per_token("m") > 3.9);
}

TEST_CASE("models beyond the bound keep the initial ratio, the others are not disturbed") {
  TokenEstimator estimator;
  for (int model = 0; model < 400; ++model) {
    for (int i = 0; i < 100; ++i) estimator.learn("model-" + std::to_string(model), 20'000, 10'000);
  }
  int learnt = 0;
  for (int model = 0; model < 400; ++model) {
    const double ratio = estimator.bytes_per_token("model-" + std::to_string(model));
    if (model < 256) CHECK(ratio == doctest::Approx(2.0).epsilon(0.01));
    learnt += ratio < 3 ? 1 : 0;
  }
  CHECK(learnt == 256);
  CHECK(estimator.bytes_per_token("model-399") == TokenEstimator::initial_bytes_per_token);
}

TEST_CASE("threads that meet a new model at once share one slot") {
  TokenEstimator estimator;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&estimator] {
      for (int i = 0; i < 200; ++i) estimator.learn("m", 20'000, 10'000);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(estimator.bytes_per_token("m") == doctest::Approx(2.0).epsilon(0.01));
}
