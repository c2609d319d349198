#include "penstock/replay/simulate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>

#include "fleet.h"
#include "penstock/admission/flow_controller.h"
#include "penstock/base/assert.h"
#include "penstock/routing/least_work.h"
#include "penstock/routing/prefix_index.h"
#include "penstock/routing/router.h"

namespace penstock::replay {
namespace {

constexpr std::string_view model = "replayed";
constexpr uint32_t block_tokens = 16;          // of the router's chains, the product's default
constexpr uint32_t output_tokens_guess = 256;  // reserved for an answer, as the product does
constexpr size_t index_entries = size_t{1} << 22;

// One request on its way, or waiting for room. Used again for a later one.
struct Journey final : engine::Sequence, admission::Waiter {
  using Sequence::Sequence;
  routing::Reservation reservation;
  size_t request = 0;
  size_t endpoint = 0;
  size_t prompt_bytes = 0;
  std::vector<uint64_t> chain;    // of one that waits
  uint32_t estimated_tokens = 0;  // of the prompt, as the gateway sees it
  bool streaming = false;
  Instant first_token, last_token;
};

class Simulation final : engine::SequenceEvents {
 public:
  Simulation(const Trace& trace, const Setup& setup, const Contestant& contestant, uint64_t seed)
      : trace_(trace),
        setup_(setup),
        contestant_(contestant),
        random_(seed),
        fleet_(setup, contestant.index_unbounded, random_),
        index_(index_entries, routing::PrefixIndex::long_prompts),
        router_(*contestant.profile, index_, random_.next()),
        flow_(setup.flow, &index_),
        scales_(index_),
        detector_(setup.flow.detector) {
    result_.work.resize(setup.endpoints);
    result_.requests.resize(setup.endpoints);
    plan_arrivals();
  }
  RunResult run();

 private:
  struct Arrival {
    Instant at;
    size_t request;
  };
  void plan_arrivals();
  void arrive(const Arrival& arrival);
  bool held(Journey& journey);
  void release_held();
  void route(Journey& journey);
  routing::Features features_of(const Journey& journey);
  void fill(Journey& journey, const TraceRequest& request);
  Journey& new_journey();
  void advance(const Fleet::Event& event);
  void on_token(engine::Sequence& sequence, const engine::Piece& piece) override;
  void on_finished(engine::Sequence& sequence, engine::FinishReason reason) override;

  const Trace& trace_;
  const Setup& setup_;
  const Contestant& contestant_;
  Random random_;
  std::deque<Journey> journeys_;  // before the engines: they let go of them when they end
  Fleet fleet_;
  routing::PrefixIndex index_;
  routing::Router router_;
  admission::FlowController flow_;
  routing::LeastWork scales_;
  admission::SaturationDetector detector_;
  routing::TokenEstimator estimator_;
  std::vector<Arrival> arrivals_;  // in order of time
  std::vector<Journey*> free_;
  std::vector<uint64_t> chain_, engine_chain_;
  Instant now_;
  RunResult result_;
};

// Normal with mean 0 and sigma 1, near enough: the sum of twelve uniform ones.
double normal(Random& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += random.unit();
  return sum;
}

void Simulation::plan_arrivals() {
  const auto from_start = [this](double recorded) { return Instant(from_seconds(recorded / setup_.speed)); };
  for (size_t i = 0; i < trace_.requests.size(); ++i) {
    const TraceRequest& request = trace_.requests[i];
    arrivals_.push_back({from_start(to_seconds(request.at) + to_seconds(request.spread) * random_.unit()), i});
  }
  const auto earlier = [](const Arrival& a, const Arrival& b) { return a.at < b.at; };
  std::stable_sort(arrivals_.begin(), arrivals_.end(), earlier);
  for (size_t i = 0; i < arrivals_.size(); ++i) arrivals_[i].at = arrivals_[i - i % setup_.burst].at;
}

RunResult Simulation::run() {
  size_t arrived = 0;
  while (true) {
    const bool more = arrived < arrivals_.size();
    if (!more && !fleet_.busy()) break;
    const auto event = fleet_.next();
    if (event && (!more || event->at <= arrivals_[arrived].at)) {
      advance(*event);
    } else {
      arrive(arrivals_[arrived++]);
    }
  }
  PENSTOCK_ASSERT(flow_.requests() == 0);  // an idle endpoint is never full
  for (size_t i = 0; i < fleet_.size(); ++i) result_.preemptions += fleet_.engine(i).stats().preemptions;
  result_.length = now_ - (arrivals_.empty() ? now_ : arrivals_.front().at);
  return std::move(result_);
}

void Simulation::advance(const Fleet::Event& event) {
  if (event.scrape) {
    fleet_.scrape(event.endpoint, event.at);
    if (flow_.requests() == 0) return;
  }
  now_ = event.at;
  if (!event.scrape) {
    fleet_.engine(event.endpoint).advance(now_);
    fleet_.refresh(event.endpoint);
  }
  release_held();
}

Journey& Simulation::new_journey() {
  if (free_.empty()) return journeys_.emplace_back(setup_.engine.block_size);
  Journey& journey = *free_.back();
  free_.pop_back();
  journey.reset();
  return journey;
}

void Simulation::arrive(const Arrival& arrival) {
  const TraceRequest& request = trace_.requests[arrival.request];
  if (uint64_t{request.prompt_tokens} + request.output_tokens > fleet_.engine(0).tokens_max()) {
    ++result_.too_long;
    return;
  }
  now_ = arrival.at;
  if (!fleet_.scrapes_itself()) fleet_.scrape_all(now_);
  Journey& journey = new_journey();
  journey.request = arrival.request;
  journey.arrived = now_;
  fill(journey, request);
  if (!contestant_.holds || !held(journey)) route(journey);
}

// The gateway's own rule and queue: what proxy::Exchange does, without its locks.
bool Simulation::held(Journey& journey) {
  const routing::Features features = features_of(journey);
  journey.chain.assign(features.blocks.begin(), features.blocks.end());
  journey.prompt = {journey.chain, block_tokens, features.prompt_tokens};
  const routing::Work work = scales_.of(journey.prompt, model, fleet_.pool(), now_);
  journey.demand = {.model = model, .uncached_tokens = work.uncached_tokens};
  if (flow_.requests() == 0 && detector_.room(fleet_.pool(), journey.demand, now_).requests > 0) return false;
  journey.work = work.prefill;
  journey.deadline = Instant::max();
  PENSTOCK_ASSERT(flow_.offer(journey));
  release_held();
  return true;
}

void Simulation::release_held() {
  if (flow_.requests() == 0) return;
  if (!fleet_.scrapes_itself()) fleet_.scrape_all(now_);
  while (admission::Waiter* const next = flow_.next(&fleet_.pool(), now_, 0)) route(static_cast<Journey&>(*next));
}

void Simulation::route(Journey& journey) {
  const routing::Features features = features_of(journey);
  const routing::Decision decision = router_.decide(features, fleet_.pool(), now_, {});
  PENSTOCK_ASSERT(decision.endpoint != nullptr);  // every endpoint of the fleet is ready
  const uint32_t cached = std::min(features.prompt_tokens, decision.matched_blocks * block_tokens);
  journey.reservation = routing::Reservation(*decision.endpoint, features.prompt_tokens - cached,
                                             features.prompt_tokens, output_tokens_guess, now_, features.streaming);
  index_.record(features.blocks, decision.endpoint->slot);
  router_.picked(decision, now_);
  if (contestant_.listener != nullptr) {
    contestant_.listener->picked(features, *decision.endpoint, decision.matched_blocks);
  }
  result_.predicted_tokens += cached;
  journey.endpoint = fleet_.index_of(*decision.endpoint);
  ++result_.requests[journey.endpoint];
  fleet_.engine(journey.endpoint).submit(journey, now_);
  fleet_.refresh(journey.endpoint);
}

void Simulation::fill(Journey& journey, const TraceRequest& request) {
  prompt_chain(trace_, journey.request, setup_.engine.block_size, engine_chain_);
  journey.stream.append_blocks(engine_chain_);
  const std::array<char, 4> filler = {'r', 'e', 's', 't'};
  for (uint32_t tokens = request.prompt_tokens % setup_.engine.block_size; tokens > 0; --tokens) {
    journey.stream.append(filler);
  }
  double bytes = 4.0 * request.prompt_tokens;
  if (setup_.token_noise > 0) bytes *= std::exp(setup_.token_noise * normal(random_));
  journey.prompt_bytes = static_cast<size_t>(bytes);
  journey.estimated_tokens = estimator_.estimate(model, journey.prompt_bytes);
  journey.streaming = setup_.streaming >= 1 || random_.chance(setup_.streaming);
  journey.max_tokens = request.output_tokens;
  journey.ignore_eos = true;
  journey.text_seed = journey.request;
  journey.events = this;
}

routing::Features Simulation::features_of(const Journey& journey) {
  prompt_chain(trace_, journey.request, block_tokens, chain_);
  routing::Features features;
  features.model = model;
  features.streaming = journey.streaming;
  features.prompt_tokens = journey.estimated_tokens;
  features.block_tokens = block_tokens;
  features.blocks = chain_;
  if (contestant_.tokens_matched_max > 0) {
    const size_t most = contestant_.tokens_matched_max / block_tokens;
    features.blocks = features.blocks.first(std::min(most, chain_.size()));
  }
  return features;
}

void Simulation::on_token(engine::Sequence& sequence, const engine::Piece&) {
  auto& journey = static_cast<Journey&>(sequence);
  if (journey.generated() == 1) {
    journey.first_token = now_;
    journey.reservation.first_token(now_);
  } else {
    result_.gaps.add(now_ - journey.last_token);
  }
  journey.last_token = now_;
}

void Simulation::on_finished(engine::Sequence& sequence, engine::FinishReason) {
  auto& journey = static_cast<Journey&>(sequence);
  const uint32_t tokens = journey.generated();
  journey.reservation.cached(journey.cached_tokens());
  journey.reservation.finished(now_, tokens);
  journey.reservation.release();
  estimator_.learn(model, journey.prompt_bytes, journey.prompt_tokens());

  Served& served = result_.served.emplace_back();
  served.ttft = static_cast<float>(to_seconds(journey.first_token - journey.arrived));
  if (tokens > 1) served.tpot = static_cast<float>(to_seconds(now_ - journey.first_token) / (tokens - 1));
  result_.prompt_tokens += journey.prompt_tokens();
  result_.cached_tokens += journey.cached_tokens();
  result_.output_tokens += tokens;
  const double prefilled = journey.prompt_tokens() - journey.cached_tokens();
  result_.work[journey.endpoint] += prefilled / setup_.engine.prefill_tokens_per_s;
  free_.push_back(&journey);
}

}  // namespace

void GapHistogram::add(Duration gap) {
  const double micros = std::max(1.0, to_seconds(gap) * 1e6);
  const auto bin = static_cast<size_t>(std::log(micros) / std::log(1.01));
  ++counts_[std::min(bin, bins - 1)];
  ++total_;
}

double GapHistogram::quantile(double q) const {
  const double wanted = q * static_cast<double>(total_);
  double seen = 0;
  for (size_t bin = 0; bin < bins; ++bin) {
    seen += static_cast<double>(counts_[bin]);
    if (total_ > 0 && seen >= wanted) return std::pow(1.01, static_cast<double>(bin) + 0.5) * 1e-6;
  }
  return 0;
}

RunResult simulate(const Trace& trace, const Setup& setup, const Contestant& contestant, uint64_t seed) {
  return Simulation(trace, setup, contestant, seed).run();
}

}  // namespace penstock::replay
