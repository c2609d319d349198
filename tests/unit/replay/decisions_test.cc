// A decision made again from what was recorded of it is the same decision: the endpoint, the candidates, the scores and
// the terms of their costs, to the digit. Decisions of today are made again as they are; those in
// tests/golden/decisions were recorded earlier, and change only with a change of the rules (PENSTOCK_UPDATE=1 records
// them anew).
#include "penstock/replay/decisions.h"

#include <doctest/doctest.h>

#include "tests/support/files.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::replay;
using routing::test::PoolBuilder;

namespace {

const uint64_t kind = routing::kind_of("llama", 1);  // of all requests

// A pool in any state: loads, gauges, paces, ejections, models; some of it on the way out.
class Scene {
 public:
  Scene(uint64_t seed, std::string_view policy) : random_(seed), builder_(2 + random_.below(6)) {
    routing::Policy parsed{};
    REQUIRE(routing::parse_policy(policy, &parsed));
    profile_ = routing::make_profile(parsed);
    for (size_t i = 0; i < builder_.states.size(); ++i) disturb(i);
  }

  // The decision as /debug/decisions shows it.
  std::string decide() {
    std::vector<uint64_t> blocks(random_.below(200));
    for (uint64_t& block : blocks) block = random_.next();
    for (auto& state : builder_.states) {
      index_.bind(state.slot, state.incarnation);
      if (random_.chance(0.6)) index_.record(std::span(blocks).first(random_.below(blocks.size() + 1)), state.slot);
    }
    routing::Features features;
    features.model = "llama";
    features.kind = kind;
    features.session = "s\"1";
    features.streaming = random_.chance(0.8);
    features.blocks = blocks;
    features.prompt_tokens = static_cast<uint32_t>(blocks.size() * 16 + random_.below(16));
    features.max_tokens = random_.chance(0.5) ? 100 : 0;
    std::vector<endpoints::EndpointState*> tried;
    if (random_.chance(0.2)) tried.push_back(&builder_.state(0));
    routing::Router router(*profile_, index_, random_.next());
    routing::Explanation why;
    const auto decision = router.decide(features, builder_.pool, now_, tried, &why);
    why.keep_best();
    std::string out = "{\"endpoint\":";
    out += decision.endpoint == nullptr ? "null" : '"' + decision.endpoint->name + '"';
    out += ",\"why\":";
    why.append_json(out);
    out += ",\"inputs\":";
    why.inputs.append_json(out);
    return out + '}';
  }

 private:
  void disturb(size_t i) {
    endpoints::EndpointState& state = builder_.state(i);
    endpoints::EndpointView& view = builder_.view(i);
    const auto number = [this](uint64_t most) { return static_cast<int64_t>(random_.below(most)); };
    state.load.requests = number(40);
    state.load.decoding = number(20);
    state.load.prefill_tokens = number(50'000);
    state.load.kv_tokens = number(200'000);
    state.load.unseen = number(3);
    state.load.unseen_tokens = number(3000);
    if (random_.chance(0.8)) teach(state.pace);
    state.pace.believed_tokens = static_cast<double>(number(100'000));
    state.pace.cached_tokens = state.pace.believed_tokens * random_.unit();
    if (random_.chance(0.2)) state.health.recovered_at_ns = now_.time_since_epoch().count() - number(10'000'000'000);
    if (random_.chance(0.1)) state.health.ejected_until_ns = now_.time_since_epoch().count() + 1'000'000'000;
    if (random_.chance(0.2)) state.health.refusals_in_row = static_cast<uint32_t>(number(50));
    if (random_.chance(0.1)) state.health.busy_until_ns = now_.time_since_epoch().count() + number(2) * 1'000'000'000;
    if (random_.chance(0.2)) {
      state.health.kinds = 1;
      state.refusals.kinds[3].kind = kind;
      state.refusals.kinds[3].ejections = 2;
      state.refusals.kinds[3].until_ns = now_.time_since_epoch().count() + 1'000'000'000 - number(4'000'000'000);
    }
    if (random_.chance(0.1)) view.readiness = endpoints::Readiness::draining;
    if (random_.chance(0.2)) view.models = {"another"};
    view.metrics.known = random_.chance(0.9);
    view.metrics.scraped_at = now_ - milliseconds(number(3000));
    view.metrics.waiting = static_cast<double>(number(5));
    view.metrics.running = static_cast<double>(number(30));
    view.metrics.kv_usage = random_.unit();
    view.metrics.block_size = 16;
    view.metrics.kv_blocks = 17'000;
    view.metrics.requests_at_scrape = number(40);
    view.metrics.not_counted_at_scrape = view.metrics.requests_at_scrape / 8;
    view.metrics.running_loras = {"adapter"};
  }
  void teach(endpoints::Pace& pace) {
    for (int n = 0; n < 50; ++n) {
      const double tokens = static_cast<double>(100 + random_.below(9000)), took = 0.01 + tokens * 5e-5;
      pace.prefills = pace.prefills + 1;
      pace.prefill_tokens = pace.prefill_tokens + tokens;
      pace.prefill_seconds = pace.prefill_seconds + took;
      pace.prefill_xx = pace.prefill_xx + tokens * tokens;
      pace.prefill_xy = pace.prefill_xy + tokens * took;
      pace.answers = pace.answers + 1;
      pace.output_tokens = pace.output_tokens + 200;
      const double held = random_.unit() * 200'000;
      pace.decodes = pace.decodes + 1;
      pace.decode_x = pace.decode_x + held;
      pace.decode_y = pace.decode_y + 0.02 + held * 1e-7;
      pace.decode_xx = pace.decode_xx + held * held;
      pace.decode_xy = pace.decode_xy + held * (0.02 + held * 1e-7);
    }
  }

  Random random_;
  PoolBuilder builder_;
  routing::PrefixIndex index_{1 << 14};
  std::unique_ptr<routing::Profile> profile_;
  Instant now_{milliseconds(123'456)};
};

std::string page_of(uint64_t first_seed, uint64_t decisions) {
  std::string page = "{\"decisions\":[\n";
  for (uint64_t i = 0; i < decisions; ++i) {
    if (i > 0) page += ",\n";
    // Round-robin remembers whose turn it is; that is not recorded.
    const std::string_view policies[] = {"expected-cost", "expected-cost", "epp-default", "least-load", "random"};
    page += Scene(first_seed + i, policies[i % std::size(policies)]).decide();
  }
  return page + "]}\n";
}

void check_all_the_same(const std::string& page, size_t count) {
  const auto decisions = read_decisions(page, "page");
  REQUIRE_MESSAGE(decisions.ok(), (decisions.ok() ? "" : decisions.error().text));
  REQUIRE(decisions->size() == count);
  size_t found = 0;
  for (size_t i = 0; i < count; ++i) {
    const RecordedDecision& decision = (*decisions)[i];
    CAPTURE(i);
    CAPTURE(decision.endpoint);
    std::string now;
    CHECK(decide_again(decision, "", &now) == Verdict::same);
    CHECK(now == decision.endpoint);
    found += decision.endpoint.empty() ? 0 : 1;
  }
  CHECK(found > count / 2);
}

}  // namespace

TEST_CASE("a decision is the same when it is made again from what was recorded of it") {
  check_all_the_same(page_of(1, 400), 400);
}

TEST_CASE("decisions that were recorded earlier are still made the same way") {
  constexpr size_t count = 20;
  const std::string file = test::source_file("tests/golden/decisions/page.json");
  test::update_golden(file, page_of(5000, count));
  check_all_the_same(test::read_whole(file), count);
}

TEST_CASE("what decided otherwise is noticed: the endpoint, or only its reasons") {
  const auto decisions = read_decisions(page_of(1, 1), "page");
  REQUIRE(decisions.ok());
  RecordedDecision decision = decisions->front();
  std::string now;
  REQUIRE(decide_again(decision, "", &now) == Verdict::same);
  for (auto& endpoint : decision.inputs.endpoints) endpoint.kv_tokens += 1000;
  decision.inputs.endpoints.front().kv_tokens += 100'000;
  CHECK(decide_again(decision, "", &now) == Verdict::differs);
  decision.profile = "my-profile";
  CHECK(decide_again(decision, "", &now) == Verdict::unknown_policy);
  CHECK(decide_again(decision, "lmetric", &now) == Verdict::differs);
  decision.inputs.whole = false;
  CHECK(decide_again(decision, "", &now) == Verdict::not_recorded);
}

TEST_CASE("pages of versions that did not count uses of prefixes are read as without any") {
  std::string page = page_of(1, 3);
  const std::string_view name = ",\"prefix_uses\":";
  size_t cut = 0;
  for (size_t at = page.find(name); at != std::string::npos; at = page.find(name), ++cut) {
    page.erase(at, page.find(',', at + 1) - at);
  }
  CHECK(cut == 3);
  const auto decisions = read_decisions(page, "p");
  REQUIRE(decisions.ok());
  REQUIRE(decisions->size() == 3);
  CHECK(decisions->back().inputs.prefix_uses == 0);
  CHECK(decisions->back().inputs.endpoints.size() > 1);
  std::string now;
  CHECK(decide_again(decisions->back(), "", &now) != Verdict::not_recorded);
  page = page_of(1, 1);
  page.insert(page.find(name) + name.size(), "\"no number\",\"x\":");
  const auto wrong = read_decisions(page, "p");
  REQUIRE_FALSE(wrong.ok());
  CHECK(wrong.error().text.find("\"prefix_uses\"") != std::string::npos);
}

TEST_CASE("pages that are none, and decisions of pools too large to be kept") {
  const auto problem = [](std::string_view page) {
    const auto decisions = read_decisions(page, "p");
    return decisions.ok() ? std::string() : decisions.error().text;
  };
  CHECK(problem("hello").starts_with("p: not a JSON object"));
  CHECK(problem("{}").find("\"decisions\"") != std::string::npos);
  CHECK(problem(R"({"decisions":[{"endpoint":null,"why":null,"inputs":{"now_ns":1}}]})")
            .starts_with("p: decision 1: \"metrics_stale_after_ns\""));
  CHECK(problem(R"({"decisions":[{"endpoint":null,"why":null,"inputs":null}]})").empty());
  CHECK(problem(R"({"decisions":[]})").empty());
  // A prompt that nobody could have sent.
  const std::string page = page_of(1, 1);
  CHECK(problem(page).empty());
  const size_t at = page.find("\"blocks\":");
  REQUIRE(at != std::string::npos);
  CHECK(problem(page.substr(0, at) + "\"blocks\":4294967295" + page.substr(page.find(',', at)))
            .starts_with("p: decision 1: \"blocks\""));
}
