// The expected cost: what each term does to a choice, what is learnt and what happens where nothing is known.
#include "src/routing/expected_cost.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "src/routing/pace.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;

namespace {

// Endpoints with 1,000 KV blocks of 16, scraped now; a request of 1,600 tokens in 100 blocks.
struct Bench {
  explicit Bench(size_t endpoints) : builder(endpoints) {
    for (auto& view : builder.pool.endpoints) {
      view.metrics.kv_blocks = 10'000;
      view.metrics.block_size = 16;
    }
    for (uint64_t i = 1; i <= 100; ++i) blocks.push_back(i * 0x9e3779b97f4a7c15ull);
    features.prompt_tokens = 1600;
    features.blocks = blocks;
    features.streaming = true;
  }
  // 1 ms of prefill for a token, answers of 100 tokens, 20 ms each.
  void teach() {
    for (auto& state : builder.states) {
      measured_prefills(state, 50, 1000, 1);
      state.pace.answers = 50;
      state.pace.output_tokens = 5000;
      state.pace.decodes = 50;
      state.pace.decode_y = 1;
    }
  }
  std::vector<double> scores(Instant now = at_ms(1)) {
    std::vector<Candidate> candidates;
    for (const auto& view : builder.pool.endpoints) candidates.push_back({&view});
    for (size_t i = 0; i < matched.size(); ++i) candidates[i].matched_blocks = matched[i];
    std::vector<double> out(candidates.size());
    ExpectedCostScorer(options).score({features, now, random, seconds(2), prefix_uses}, candidates, out);
    return out;
  }
  endpoints::LoadCounters& load(size_t i) { return builder.state(i).load; }

  PoolBuilder builder;
  std::vector<uint64_t> blocks;
  std::vector<uint32_t> matched;
  Features features;
  double prefix_uses = 0;
  ExpectedCostOptions options;
  Random random{1};
};

}  // namespace

TEST_CASE("a queue costs as much as the prefill that it saves, and that counts a quarter more") {
  Bench bench(2);
  bench.teach();
  bench.matched = {50, 0};  // saves 800 tokens
  bench.load(0).prefill_tokens = 990;
  CHECK(bench.scores()[0] == 1);
  bench.load(0).prefill_tokens = 1010;
  CHECK(bench.scores()[1] == 1);
}

TEST_CASE("a copy of a prefix that many use costs the one that makes it a share") {
  Bench bench(3);
  bench.teach();
  bench.matched = {80, 80, 20};  // a copy of 960 tokens
  bench.load(0).prefill_tokens = bench.load(1).prefill_tokens = 710;
  CHECK(bench.scores()[2] == 0);
  // By two holders. 4.13 of them come once the copy is there, after 0.96 s: a third holder would have a third of
  // (4.13 + 1) uses, and this is one of them. 562 tokens are charged, 1.25 times.
  bench.prefix_uses = 5;
  CHECK(bench.scores()[2] == 1);
  bench.load(0).prefill_tokens = bench.load(1).prefill_tokens = 695;
  CHECK(bench.scores()[2] == 0);
  // What nobody holds is charged whole: here 1,280 tokens, beside a copy of 320 of which 112 are charged.
  bench.matched = {20, 0, 0};
  bench.load(1).prefill_tokens = 0;
  bench.load(2).prefill_tokens = 1;
  bench.load(0).prefill_tokens = 135;
  CHECK(bench.scores()[0] == 1);
  bench.load(0).prefill_tokens = 145;
  CHECK(bench.scores()[1] == 1);
  // Where the engines turn out not to cache there is nothing to copy.
  for (auto& state : bench.builder.states) state.pace.believed_tokens = 1e12;
  bench.load(0).prefill_tokens = 0;
  bench.load(1).prefill_tokens = bench.load(2).prefill_tokens = 10;
  CHECK(bench.scores()[0] == 1);
}

TEST_CASE("a copy that takes long is charged whole: its users are there before it is") {
  Bench bench(2);
  bench.teach();
  bench.features.prompt_tokens = 20'000;
  bench.matched = {1200, 0};  // a copy of 19,200 tokens, 19.2 s
  bench.prefix_uses = 10;
  bench.load(0).prefill_tokens = 19'000;  // the first computation, for which this one can as well wait
  CHECK(bench.scores()[0] == 1);
}

TEST_CASE("what does not stream is no backlog any more when it was answered before it was expected to be") {
  Bench bench(2);
  { const Reservation early(bench.builder.state(0), 1600, 1600, 100, at_ms(0), false); }
  bench.matched = {99, 0};
  CHECK(unseen_backlog(bench.builder.state(0).pace, at_ms(1)) > 0.1);
  CHECK(bench.scores() == std::vector<double>{1, 0});
}

TEST_CASE("a prefill that stalls decodes costs more") {
  Bench bench(2);
  bench.teach();
  bench.load(0).decoding = 10;
  CHECK(bench.scores() == std::vector<double>{0, 1});
  bench.matched = {90, 0};  // little to compute stalls little
  CHECK(bench.scores() == std::vector<double>{1, 0});
}

TEST_CASE("few long sequences stall as much as many short ones of the same tokens") {
  Bench bench(2);
  bench.teach();
  bench.load(0).decoding = 10;
  bench.load(1).decoding = 40;
  bench.load(0).kv_tokens = bench.load(1).kv_tokens = 100'000;
  CHECK(bench.scores() == std::vector<double>{1, 0});  // fewer still stall less
  bench.load(0).kv_tokens = 800'000;
  CHECK(bench.scores() == std::vector<double>{0, 1});
}

TEST_CASE("where each request costs time, whatever its length, requests that wait count and not their tokens alone") {
  Bench bench(2);
  for (auto& state : bench.builder.states) {
    // 0.1 s for each of 50 prompts of 1,000 tokens, and of 50 of 3,000.
    state.pace.prefills = 100;
    state.pace.prefill_tokens = 200'000;
    state.pace.prefill_seconds = 10;
    state.pace.prefill_xx = 50 * 1e6 + 50 * 9e6;
    state.pace.prefill_xy = 0.1 * 200'000;
  }
  bench.load(0).requests = 3;
  bench.load(0).prefill_tokens = 1000;
  bench.load(1).requests = 1;
  bench.load(1).prefill_tokens = 20'000;
  CHECK(bench.scores() == std::vector<double>{0, 1});
}

TEST_CASE("an endpoint that computes long prompts is not taken for a faster one") {
  Bench bench(2);
  // The same line, 10 ms and 0.1 ms for a token: one had prompts of 100 tokens, the other of 10,000.
  measured_prefills(bench.builder.state(0), 100, 100, 0.02);
  measured_prefills(bench.builder.state(1), 100, 10'000, 1.01);
  std::vector<Candidate> candidates;
  for (const auto& view : bench.builder.pool.endpoints) candidates.push_back({&view});
  std::vector<double> costs(2);
  REQUIRE(ExpectedCostScorer().costs({bench.features, at_ms(1), bench.random}, candidates, costs));
  CHECK(costs[0] == doctest::Approx(0.01 + 1.25 * 0.16));
  CHECK(costs[1] == doctest::Approx(costs[0]));
}

TEST_CASE("requests without tokens go where fewest are in flight, whether anything is learnt or not") {
  for (const bool learnt : {false, true}) {
    CAPTURE(learnt);
    Bench bench(3);
    if (learnt) bench.teach();
    bench.features = {};
    bench.load(0).requests = bench.load(0).unseen = 3;
    bench.load(1).requests = bench.load(1).unseen = 1;
    bench.load(2).requests = bench.load(2).unseen = 2;
    const auto scores = bench.scores();
    CHECK(scores[0] == 0);
    CHECK(scores[1] == 1);
    CHECK(scores[2] > 0);
    CHECK(scores[2] < 1);
  }
}

TEST_CASE("an endpoint whose answers say that nothing was cached is believed to hold less and less") {
  Bench bench(2);
  bench.teach();
  bench.matched = {100, 0};
  bench.load(0).prefill_tokens = 800;
  CHECK(bench.scores() == std::vector<double>{1, 0});
  for (int i = 0; i < 100; ++i) {
    Reservation reservation(bench.builder.state(0), 0, 1600, 100, at_ms(0));
    reservation.cached(0);
  }
  CHECK(bench.scores() == std::vector<double>{0, 1});
  for (int i = 0; i < 1000; ++i) {
    Reservation reservation(bench.builder.state(0), 0, 1600, 100, at_ms(0));
    reservation.cached(1600);
  }
  CHECK(bench.scores() == std::vector<double>{1, 0});
}

TEST_CASE("a cache that is nearly full costs more") {
  Bench bench(2);
  bench.teach();
  bench.builder.view(0).metrics.kv_usage = 0.97;
  CHECK(bench.scores() == std::vector<double>{0, 1});
  bench.builder.view(0).metrics.kv_usage = 0.5;
  CHECK(bench.scores() == std::vector<double>{1, 1});
}

TEST_CASE("other gateways' requests count; an endpoint that was not scraped has its share of them") {
  Bench bench(3);
  bench.teach();
  bench.builder.view(0).metrics.waiting = 4;
  bench.builder.view(0).metrics.running = 10;
  CHECK(bench.scores() == std::vector<double>{0, 1, 1});
  // What we sent ourselves is not counted twice.
  bench.builder.view(0).metrics.requests_at_scrape = 14;
  CHECK(bench.scores() == std::vector<double>{1, 1, 1});
  bench.builder.view(0).metrics.requests_at_scrape = 0;
  bench.builder.view(2).metrics.known = false;
  const auto scores = bench.scores();
  CHECK(scores[0] == 0);
  CHECK(scores[1] == 1);
  CHECK(scores[2] > 0.1);
  CHECK(scores[2] < 0.9);
}

TEST_CASE("an endpoint that computes more slowly costs more, within bounds") {
  Bench bench(2);
  bench.teach();
  bench.builder.state(0).pace.prefill_seconds = 150;
  CHECK(bench.scores() == std::vector<double>{0, 1});
  // Twice the pool's pace at most: a warm half outweighs it.
  bench.builder.state(0).pace.prefill_seconds = 5000;
  bench.matched = {80, 0};
  CHECK(bench.scores()[0] == 1);
}

TEST_CASE("an endpoint that answers more slowly costs more, where it prefills no faster than the others") {
  Bench bench(2);
  bench.teach();
  bench.builder.state(0).pace.decode_y = 2;
  CHECK(bench.scores() == std::vector<double>{0, 1});
  // Its first tokens came the sooner: it had longer answers, or more stalls, but it is no slower.
  bench.builder.state(0).pace.prefill_seconds = 30;
  CHECK(bench.scores()[0] == 1);
}

TEST_CASE("one slow answer does not make an endpoint slow") {
  Bench bench(2);
  for (size_t i = 0; i < 2; ++i) {
    measured_prefills(bench.builder.state(i), 250, 2000, 0.2);
    endpoints::Pace& pace = bench.builder.state(i).pace;
    pace.answers = pace.decodes = 1;
    pace.output_tokens = 10;
    pace.decode_y = i == 0 ? 0.06 : 0.02;
  }
  bench.matched = {10, 0};  // a tenth of the prompt outweighs it
  CHECK(bench.scores() == std::vector<double>{1, 0});
}

TEST_CASE("what a slower endpoint holds costs as much more as it is slower") {
  Bench bench(2);
  for (size_t i = 0; i < 2; ++i) {
    endpoints::Pace& pace = bench.builder.state(i).pace;
    const double slower = i == 0 ? 1.2 : 0.8;
    measured_prefills(bench.builder.state(i), 1000, 1000, slower);
    // Answers of 100 tokens: 10 ms for each token of them, and 10 ms more for each 10,000 tokens held.
    pace.answers = pace.decodes = 1000;
    pace.output_tokens = 100'000;
    for (const double held : {10'000., 30'000.}) {
      const double seconds = slower * (0.01 + 1e-6 * held);
      pace.decode_x = pace.decode_x + 500 * held;
      pace.decode_xx = pace.decode_xx + 500 * held * held;
      pace.decode_y = pace.decode_y + 500 * seconds;
      pace.decode_xy = pace.decode_xy + 500 * held * seconds;
    }
    bench.load(i).kv_tokens = 20'000;
  }
  std::vector<Candidate> candidates;
  for (const auto& view : bench.builder.pool.endpoints) candidates.push_back({&view});
  const ExpectedCostScorer scorer;
  std::vector<double> terms(2 * scorer.term_names().size());
  scorer.terms({bench.features, at_ms(1), bench.random}, candidates, terms);
  const auto at = std::ranges::find(scorer.term_names(), "decode_s");
  REQUIRE(at != scorer.term_names().end());
  const auto i = static_cast<size_t>(at - scorer.term_names().begin());
  // A tenth of 100 tokens' 20 ms.
  CHECK(terms[i] == doctest::Approx(0.2 * 1.2).epsilon(0.01));
  CHECK(terms[terms.size() / 2 + i] == doctest::Approx(0.2 * 0.8).epsilon(0.01));
}

TEST_CASE("an endpoint that seems a little faster is equal to the others; one that is faster is not") {
  Bench bench(2);
  for (const double faster : {1.0, 0.85, 0.7}) {
    measured_prefills(bench.builder.state(0), 1000, 1000, faster);
    measured_prefills(bench.builder.state(1), 1000, 1000, 1);
    CAPTURE(faster);
    // 0.85: 8 % faster than the mean of both, and the other one as much slower.
    CHECK(bench.scores() == (faster < 0.8 ? std::vector<double>{1, 0} : std::vector<double>{1, 1}));
  }
}

TEST_CASE("before anything is learnt, too, a queue costs as much as the prefill that it saves") {
  Bench bench(3);
  bench.matched = {100, 100, 10};  // saves 1,440 tokens
  bench.load(0).prefill_tokens = 1400;
  bench.load(1).prefill_tokens = 1300;
  auto scores = bench.scores();
  CHECK(scores[1] == 1);
  CHECK(scores[0] > scores[2]);
  bench.load(0).prefill_tokens = bench.load(1).prefill_tokens = 1900;
  CHECK(bench.scores()[2] == 1);
}

// Of 1,600 tokens 1,280 are most, 1,264 are not.
TEST_CASE("the token rule keeps requests where most of the prompt is held, else goes by tokens in flight") {
  Bench bench(3);
  bench.options.cold_start = ColdStart::token_rule;
  bench.matched = {80, 79, 0};
  bench.load(0).kv_tokens = 200'000;
  CHECK(bench.scores()[0] == 1);
  bench.load(0).kv_tokens = 290'000;  // far more than those of the others
  CHECK(bench.scores()[1] == 1);
  bench.load(1).kv_tokens = 1265;
  CHECK(bench.scores()[2] == 1);
  // Where nobody holds most of it nobody is kept.
  bench.matched = {79, 0, 0};
  bench.load(0).kv_tokens = 1265;
  CHECK(bench.scores()[2] == 1);

  bench.matched = {100, 0, 0};
  bench.load(0).kv_tokens = 200'000;
  CHECK(bench.scores()[0] == 1);
  bench.load(0).prefill_tokens = 200'000;
  bench.teach();
  CHECK(bench.scores()[0] == 0);
}

TEST_CASE("the token rule stands in where nothing is learnt and nobody's metrics are fresh") {
  Bench bench(2);
  bench.matched = {100, 0};
  bench.load(0).prefill_tokens = bench.load(0).kv_tokens = 200'000;  // by the formula far too many
  CHECK(bench.scores()[1] == 1);
  for (auto& view : bench.builder.pool.endpoints) view.metrics.known = false;
  CHECK(bench.scores()[0] == 1);
  bench.options.cold_start = ColdStart::assumed_pace;
  CHECK(bench.scores()[1] == 1);
  bench.options.cold_start = ColdStart::defaults;
  bench.builder.pool.endpoints[1].metrics.known = true;
  CHECK(bench.scores()[1] == 1);
  bench.builder.pool.endpoints[1].metrics.known = false;
  bench.teach();
  CHECK(bench.scores()[1] == 1);
}

TEST_CASE("the pace is learnt from first tokens, one after another, and from whole answers") {
  endpoints::EndpointState state;
  CHECK(prefill_seconds_per_token(state.pace) == prefill_seconds_prior);
  {
    // Sent together: the engine computes one after the other.
    Reservation first(state, 1000, 1000, 100, at_ms(0)), second(state, 3000, 3000, 100, at_ms(0));
    first.first_token(at_ms(200));
    second.first_token(at_ms(800));
    CHECK(prefill_seconds_per_token(state.pace) == doctest::Approx(0.0002).epsilon(0.01));
    first.finished(at_ms(1200), 51);
    second.finished(at_ms(900), 0);  // not known how long: teaches nothing
  }
  CHECK(state.pace.answers == 1);
  CHECK(state.pace.output_tokens == 51);
  CHECK(state.pace.decode_y == doctest::Approx(0.02));
}

TEST_CASE("an interval that is far too long counts as a long one, and a lasting change is followed") {
  endpoints::EndpointState state;
  int64_t now = 0;
  const auto prefill = [&](int64_t took_ms) {
    Reservation reservation(state, 1000, 1000, 100, at_ms(now));
    reservation.first_token(at_ms(now += took_ms));
  };
  for (int i = 0; i < 50; ++i) prefill(100);
  CHECK(prefill_seconds_per_token(state.pace) == doctest::Approx(0.0001));
  prefill(100'000);
  CHECK(prefill_seconds_per_token(state.pace) < 0.00012);
  for (int i = 0; i < 3000; ++i) prefill(1000);
  CHECK(prefill_seconds_per_token(state.pace) == doctest::Approx(0.001).epsilon(0.05));
}

TEST_CASE("without a stream the prefill is taken as over when it should be") {
  Bench bench(2);
  bench.teach();
  {
    const Reservation unseen(bench.builder.state(0), 2000, 2000, 100, at_ms(0), false);
    CHECK(bench.load(0).unseen == 1);
    CHECK(bench.load(0).prefill_tokens == 2000);
    CHECK(bench.load(0).unseen_tokens == 2000);
    CHECK(unseen_backlog(bench.builder.state(0).pace, at_ms(0)) == doctest::Approx(2));
    CHECK(unseen_backlog(bench.builder.state(0).pace, at_ms(500)) == doctest::Approx(1.5));
    CHECK(bench.scores(at_ms(1)) == std::vector<double>{0, 1});
    // Later it only counts as decoding.
    CHECK(unseen_backlog(bench.builder.state(0).pace, at_ms(2500)) == 0);
    bench.matched = {20, 0};
    CHECK(bench.scores(at_ms(2500))[0] == 1);
  }
  CHECK(bench.load(0).unseen == 0);
  CHECK(bench.load(0).unseen_tokens == 0);
  CHECK(bench.load(0).prefill_tokens == 0);
}
