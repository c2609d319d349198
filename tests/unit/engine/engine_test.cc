#include "penstock/engine/engine.h"

#include <doctest/doctest.h>

#include <map>
#include <memory>

#include "penstock/base/random.h"

using namespace penstock;
using namespace penstock::engine;

namespace {

constexpr Instant start = Instant(seconds(1000));

// Round numbers: a prefill token costs 1 ms, a decode step 10 ms and 1 ms for each further sequence.
EngineOptions simple() {
  EngineOptions options;
  options.kv_blocks = 64;
  options.prefill_tokens_per_s = 1000;
  options.decode_ms = 10;
  options.decode_ms_per_seq = 1;
  options.decode_ms_per_1k_tokens = 0;
  options.step_overhead_ms = 0;
  return options;
}

// Drives an engine from event to event and notes what came when.
struct Bench : SequenceEvents {
  explicit Bench(const EngineOptions& options) : engine(options) {}
  ~Bench() {
    for (auto& sequence : sequences) engine.abort(*sequence);
  }

  Sequence& add(const std::string& prompt, uint32_t max_tokens, Instant at = start) {
    sequences.push_back(std::make_unique<Sequence>(engine.options().block_size));
    Sequence& sequence = *sequences.back();
    sequence.stream.append(prompt);
    sequence.max_tokens = max_tokens;
    sequence.events = this;
    engine.submit(sequence, at);
    return sequence;
  }
  void on_token(Sequence& sequence, const Piece& piece) override {
    text[&sequence].append(piece.data(), piece.size());
    times[&sequence].push_back(now);
  }
  void on_finished(Sequence& sequence, FinishReason reason) override {
    reasons[&sequence] = reason;
    finished_at[&sequence] = now;
  }
  // One event (the end of a step); false when there is none.
  bool step() {
    const auto at = engine.next_event();
    if (!at) return false;
    now = *at;
    engine.advance(now);
    return true;
  }
  void run() {
    for (int i = 0; step(); ++i) REQUIRE(i < 100000);
  }
  int64_t first_token_ms(const Sequence& sequence) { return to_ms(times.at(&sequence).at(0) - start); }

  Engine engine;
  Instant now = start;
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::map<const Sequence*, std::string> text;
  std::map<const Sequence*, std::vector<Instant>> times;
  std::map<const Sequence*, FinishReason> reasons;
  std::map<const Sequence*, Instant> finished_at;
};

std::string prompt_of(uint32_t tokens, char letter) {
  return std::string(tokens * bytes_per_token, letter);
}

}  // namespace

TEST_CASE("A lone request's first token comes after its prefill, the others one decode step apart") {
  Bench bench(simple());
  Sequence& sequence = bench.add(prompt_of(100, 'a'), 4);
  bench.run();
  CHECK(bench.first_token_ms(sequence) == 100);
  REQUIRE(bench.times[&sequence].size() == 4);
  for (size_t i = 1; i < 4; ++i) CHECK(to_ms(bench.times[&sequence][i] - bench.times[&sequence][i - 1]) == 10);
  CHECK(bench.reasons[&sequence] == FinishReason::length);
  CHECK(bench.engine.cache().free_blocks() == 64);
  CHECK(bench.engine.stats().time_to_first_token.sum() == doctest::Approx(0.1));
  CHECK(bench.engine.stats().e2e_latency.sum() == doctest::Approx(0.13));
  CHECK(bench.engine.stats().prompt_tokens == 100);
  CHECK(bench.engine.stats().generation_tokens == 4);
}

TEST_CASE("Every parameter of the step time has its effect") {
  EngineOptions options = simple();
  options.step_overhead_ms = 2;
  options.decode_ms_per_1k_tokens = 100;
  Bench bench(options);
  Sequence& a = bench.add(prompt_of(99, 'a'), 2);
  Sequence& b = bench.add(prompt_of(199, 'b'), 2);
  bench.run();
  CHECK(bench.first_token_ms(a) == 2 + 298);
  CHECK(bench.first_token_ms(b) == 2 + 298);
  // Two decodes over contexts of 100 and 200 tokens: 2 + 10 + 1 + 100 * 0.3.
  CHECK(to_ms(bench.times[&a][1] - bench.times[&a][0]) == 43);
}

TEST_CASE("A late driver sees the same simulated times") {
  Bench exact(simple()), late(simple());
  Sequence& a = exact.add(prompt_of(50, 'a'), 5);
  Sequence& b = late.add(prompt_of(50, 'a'), 5);
  exact.run();
  late.now = start + seconds(10);
  late.engine.advance(late.now);
  CHECK(late.text[&b] == exact.text[&a]);
  CHECK(late.engine.stats().e2e_latency.sum() == doctest::Approx(exact.engine.stats().e2e_latency.sum()));
}

TEST_CASE("A request that arrives during a step is admitted when the step ends, not before it came") {
  Bench bench(simple());
  bench.add(prompt_of(100, 'a'), 1);
  bench.engine.advance(start);  // the first step is in flight until 100 ms
  Sequence& late = bench.add(prompt_of(10, 'b'), 1, start + milliseconds(40));
  Sequence& later = bench.add(prompt_of(10, 'c'), 1, start + milliseconds(105));
  bench.run();
  CHECK(bench.first_token_ms(late) == 110);
  CHECK(bench.first_token_ms(later) == 120);
}

TEST_CASE("A prompt that was seen before is not computed again, except for its last token's block") {
  Bench bench(simple());
  bench.add(prompt_of(160, 'a'), 1);
  bench.run();
  const Instant second_start = bench.now;
  Sequence& again = bench.add(prompt_of(160, 'a'), 1, second_start);
  bench.run();
  CHECK(again.cached_tokens() == 144);  // 10 blocks match, one must be computed to have something to sample from
  CHECK(to_ms(bench.times[&again][0] - second_start) == 16);
  CHECK(bench.engine.stats().prefix_queries == 320);
  CHECK(bench.engine.stats().prefix_hits == 144);

  Sequence& longer = bench.add(prompt_of(160, 'a') + prompt_of(40, 'b'), 1, bench.now);
  bench.run();
  CHECK(longer.cached_tokens() == 160);
}

TEST_CASE("The next turn of a conversation finds the answer's blocks too") {
  Bench bench(simple());
  const std::string prompt = prompt_of(20, 'a');
  Sequence& first = bench.add(prompt, 60);
  bench.run();
  Sequence& second = bench.add(prompt + bench.text[&first] + prompt_of(20, 'b'), 1, bench.now);
  bench.run();
  CHECK(second.cached_tokens() == 64);  // of 80; the last token of the answer was never an input
}

TEST_CASE("Another cache salt shares nothing") {
  Bench bench(simple());
  bench.add(prompt_of(160, 'a'), 1);
  bench.run();
  bench.sequences.push_back(std::make_unique<Sequence>(16));
  Sequence& salted = *bench.sequences.back();
  salted.stream.append(prompt_of(160, 'a'));
  salted.max_tokens = 1;
  salted.cache_salt = 77;
  salted.events = &bench;
  bench.engine.submit(salted, bench.now);
  bench.run();
  CHECK(salted.cached_tokens() == 0);
}

TEST_CASE("Two equal prompts in one step share their blocks") {
  Bench bench(simple());
  bench.add(prompt_of(100, 'a'), 1);
  Sequence& second = bench.add(prompt_of(100, 'a'), 1);
  bench.engine.advance(start);
  CHECK(second.cached_tokens() == 96);
  CHECK(bench.engine.cache().free_blocks() == 64 - 8);
  bench.run();
}

TEST_CASE("No more sequences run together than allowed, first come first served") {
  EngineOptions options = simple();
  options.max_num_seqs = 2;
  Bench bench(options);
  Sequence& a = bench.add(prompt_of(10, 'a'), 3);
  Sequence& b = bench.add(prompt_of(10, 'b'), 5);
  Sequence& c = bench.add(prompt_of(10, 'c'), 1);
  bench.engine.advance(start);
  CHECK(bench.engine.running() == 2);
  CHECK(bench.engine.waiting() == 1);
  bench.run();
  CHECK(bench.first_token_ms(a) == 20);
  CHECK(bench.first_token_ms(b) == 20);
  // a ends after two decode steps of 11 ms; then c's prefill shares a step with b's decode.
  CHECK(bench.first_token_ms(c) == 20 + 22 + 10 + 10);
}

TEST_CASE("A long prompt is cut into chunks by the token budget while decodes go on") {
  EngineOptions options = simple();
  options.max_num_batched_tokens = 100;
  Bench bench(options);
  Sequence& talker = bench.add(prompt_of(10, 'a'), 20);
  bench.engine.advance(start);
  Sequence& reader = bench.add(prompt_of(250, 'b'), 1, start);
  bench.run();
  // 10 ms alone; then 99 + 99 + 52 prefill tokens, each step with one decode of 10 ms.
  CHECK(bench.first_token_ms(reader) == 10 + 109 + 109 + 62);
  CHECK(to_ms(bench.times[&talker][1] - start) == 119);
  CHECK(to_ms(bench.times[&talker][2] - start) == 228);
  CHECK(to_ms(bench.times[&talker][3] - start) == 290);
  CHECK(to_ms(bench.times[&talker][4] - start) == 300);
}

TEST_CASE("Gauges are told at the end of each step, and do not know what came during it") {
  EngineOptions options = simple();
  options.max_num_seqs = 1;
  Bench bench(options);
  const auto told_at = [&](int64_t ms) {
    bench.engine.advance(start + milliseconds(ms));
    return std::pair(bench.engine.gauges().running, bench.engine.gauges().waiting);
  };
  using Told = std::pair<size_t, size_t>;
  bench.add(prompt_of(10, 'a'), 3);
  CHECK(told_at(0) == Told(0, 0));
  CHECK(bench.engine.running() == 1);
  CHECK(bench.engine.gauges().kv_usage == 0);
  bench.add(prompt_of(10, 'b'), 1, start + milliseconds(5));
  CHECK(told_at(10) == Told(1, 0));
  CHECK(bench.engine.waiting() == 1);
  CHECK(bench.engine.gauges().kv_usage == doctest::Approx(1.0 / 64));
  CHECK(told_at(19) == Told(1, 0));
  CHECK(told_at(20) == Told(1, 1));
  CHECK(told_at(30) == Told(0, 1));  // the first is answered; the other's step begins
  CHECK(told_at(40) == Told(0, 0));
  CHECK(bench.engine.gauges().kv_usage == 0);
}

TEST_CASE("Gauges do not keep what was aborted, also when no step follows") {
  Bench bench(simple());
  const Gauges& gauges = bench.engine.gauges();
  Sequence& during = bench.add(prompt_of(10, 'a'), 100);
  bench.engine.advance(start + milliseconds(15));
  bench.engine.abort(during);
  CHECK(gauges.running == 1);
  bench.run();
  CHECK(gauges.running == 0);

  Sequence& between = bench.add(prompt_of(10, 'b'), 100, start + milliseconds(30));
  bench.engine.advance(start + milliseconds(50), 1);
  CHECK(gauges.running == 1);
  bench.engine.abort(between);
  CHECK(gauges.running == 0);
  CHECK(gauges.kv_usage == 0);

  // Nor who still waited.
  EngineOptions one = simple();
  one.max_num_seqs = 1;
  Bench queue(one);
  queue.add(prompt_of(10, 'a'), 1);
  Sequence& waits = queue.add(prompt_of(10, 'b'), 1);
  queue.engine.advance(start);
  queue.engine.abort(waits);
  queue.run();
  CHECK(queue.engine.gauges().waiting == 0);
}

TEST_CASE("Aborting frees blocks at once, whether waiting, in prefill or in decode") {
  EngineOptions options = simple();
  options.max_num_seqs = 2;
  options.max_num_batched_tokens = 100;
  Bench bench(options);
  Sequence& decoding = bench.add(prompt_of(16, 'a'), 100);
  bench.engine.advance(start + milliseconds(16));
  Sequence& prefilling = bench.add(prompt_of(300, 'b'), 10, start + milliseconds(16));
  Sequence& waiting = bench.add(prompt_of(16, 'c'), 10, start + milliseconds(16));
  for (int i = 0; i < 2; ++i) REQUIRE(bench.step());
  CHECK(bench.engine.running() == 2);
  CHECK(bench.engine.waiting() == 1);
  CHECK(bench.engine.cache().free_blocks() < 64 - 8);

  bench.engine.abort(waiting);
  CHECK(bench.engine.waiting() == 0);
  bench.engine.abort(prefilling);
  CHECK(bench.engine.cache().free_blocks() == 64 - 2);
  bench.engine.abort(decoding);
  bench.engine.abort(decoding);  // harmless
  CHECK(bench.engine.cache().free_blocks() == 64);
  CHECK(bench.engine.stats().finished_abort == 3);
  bench.run();
  CHECK(bench.reasons.empty());
  CHECK_FALSE(bench.engine.next_event().has_value());
}

TEST_CASE("When blocks run out the last one in is computed again later, and says the same") {
  EngineOptions options = simple();
  options.kv_blocks = 8;  // 128 tokens
  Bench roomy(simple()), tight(options);
  std::vector<Sequence*> expected, got;
  for (char letter : {'a', 'b', 'c'}) {
    expected.push_back(&roomy.add(prompt_of(30, letter), 60));
    got.push_back(&tight.add(prompt_of(30, letter), 60));
  }
  roomy.run();
  tight.run();
  CHECK(roomy.engine.stats().preemptions == 0);
  CHECK(tight.engine.stats().preemptions > 0);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(tight.text[got[i]] == roomy.text[expected[i]]);
    CHECK(got[i]->generated() == 60);
  }
  CHECK(tight.finished_at[got[0]] < tight.finished_at[got[2]]);
  CHECK(tight.engine.cache().free_blocks() == 8);
}

TEST_CASE("Answers end by themselves when asked to, but not below min_tokens or with ignore_eos") {
  EngineOptions options = simple();
  options.eos_mean = 10;
  options.kv_blocks = 4096;
  Bench bench(options);
  uint64_t tokens = 0, stopped = 0;
  for (int i = 0; i < 200; ++i) {
    Sequence& sequence = bench.add("prompt " + std::to_string(i), 200);
    if (i % 4 == 1) sequence.min_tokens = 30;
    if (i % 4 == 2) sequence.ignore_eos = true;
  }
  bench.run();
  for (int i = 0; i < 200; ++i) {
    Sequence& sequence = *bench.sequences[static_cast<size_t>(i)];
    if (i % 4 == 1) CHECK(sequence.generated() >= 30);
    if (i % 4 == 2) CHECK(bench.reasons[&sequence] == FinishReason::length);
    if (i % 4 == 0) {
      stopped += bench.reasons[&sequence] == FinishReason::stop;
      tokens += sequence.generated();
    }
  }
  CHECK(stopped == 50);
  CHECK(tokens > 50 * 5);
  CHECK(tokens < 50 * 20);
}

TEST_CASE("A sequence without tokens to generate ends with its prefill") {
  Bench bench(simple());
  Sequence& sequence = bench.add(prompt_of(64, 'a'), 0);
  bench.run();
  CHECK(bench.reasons[&sequence] == FinishReason::stop);
  CHECK(to_ms(bench.finished_at[&sequence] - start) == 64);
  CHECK(bench.text[&sequence].empty());
}

TEST_CASE("A step serves at most max_loras adapters, and others are not held up") {
  EngineOptions options = simple();
  options.loras = 3;
  options.max_loras = 1;
  Bench bench(options);
  std::vector<Sequence*> by_lora;
  for (int32_t lora : {0, 1, -1, 0}) {
    bench.sequences.push_back(std::make_unique<Sequence>(16));
    Sequence& sequence = *bench.sequences.back();
    sequence.stream.append(prompt_of(10, static_cast<char>('a' + by_lora.size())));
    sequence.max_tokens = 2;
    sequence.lora = lora;
    sequence.events = &bench;
    bench.engine.submit(sequence, start);
    by_lora.push_back(&sequence);
  }
  bench.engine.advance(start);
  CHECK(bench.engine.running() == 3);
  CHECK(bench.engine.lora_running(0) == 2);
  CHECK(bench.engine.lora_waiting(1) == 1);
  bench.run();
  CHECK(bench.finished_at[by_lora[1]] > bench.finished_at[by_lora[3]]);
  CHECK(bench.engine.lora_running(1) == 0);
}

TEST_CASE("An engine that takes no time does a bounded number of steps per call") {
  EngineOptions options = simple();
  options.prefill_tokens_per_s = options.decode_ms = options.decode_ms_per_seq = 0;
  Bench bench(options);
  Sequence& sequence = bench.add(prompt_of(16, 'a'), 100);
  bench.engine.advance(start, 10);
  CHECK(sequence.generated() == 10);
  CHECK(bench.engine.next_event() == start);
  bench.engine.advance(start);
  CHECK(sequence.generated() == 100);
  CHECK_FALSE(bench.engine.next_event().has_value());
}

TEST_CASE("with attention, a prompt token takes longer the more stand before it") {
  EngineOptions options = simple();
  options.prefill_doubling_tokens = 100;
  Bench bench(options);
  const Sequence& sequence = bench.add(prompt_of(100, 'a'), 1);
  bench.run();
  // 100 tokens of 1 ms, and half of them again: on average 50 stand before one.
  CHECK(bench.first_token_ms(sequence) == 150);
}

TEST_CASE("Whatever is submitted and aborted, nothing leaks and everyone else gets the whole answer") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    EngineOptions options = simple();
    options.kv_blocks = static_cast<uint32_t>(8 + random.below(40));
    options.max_num_seqs = static_cast<uint32_t>(1 + random.below(8));
    options.max_num_batched_tokens = static_cast<uint32_t>(options.max_num_seqs + random.below(100));
    Bench bench(options);
    std::map<const Sequence*, bool> aborted;
    for (int i = 0; i < 60; ++i) {
      const auto prompt = static_cast<uint32_t>(1 + random.below(60));
      Sequence& sequence = bench.add(prompt_of(prompt, static_cast<char>('a' + random.below(3))),
                                     static_cast<uint32_t>(1 + random.below(60)), bench.now);
      for (uint64_t steps = random.below(6); steps > 0; --steps) bench.step();
      if (!random.chance(0.2)) continue;
      aborted[&sequence] = sequence.in_engine();
      bench.engine.abort(sequence);
    }
    bench.run();
    for (const auto& sequence : bench.sequences) {
      REQUIRE_FALSE(sequence->in_engine());
      if (!aborted[sequence.get()]) REQUIRE(sequence->generated() == sequence->max_tokens);
    }
    REQUIRE(bench.engine.cache().free_blocks() == options.kv_blocks);
    REQUIRE(bench.engine.running() + bench.engine.waiting() == 0);
  }
}
