#include "penstock/replay/simulate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>

#include "fleet.h"
#include "penstock/admission/flow_controller.h"
#include "penstock/base/assert.h"
#include "penstock/routing/least_work.h"
#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/prefix_index.h"
#include "penstock/routing/router.h"

namespace penstock::replay {
namespace {

constexpr std::string_view model = "replayed";
constexpr int priority = 0;                    // of every request
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

// How the router's chains are made.
struct Chains {
  uint32_t block_tokens = 16;  // the product's default
  size_t blocks_max = SIZE_MAX;
};

// As the product's proxy cuts prompts.
Chains chains_of(const Contestant& contestant, const endpoints::Pool& pool) {
  Chains out;
  uint32_t tokens_max = contestant.tokens_matched_max;
  if (contestant.prefix.has_value()) {
    const routing::PrefixSpec& prefix = *contestant.prefix;
    out.block_tokens = prefix.auto_tune ? routing::tuned_block_tokens(pool, prefix.block_tokens) : prefix.block_tokens;
    out.blocks_max = prefix.blocks_max > 0 ? prefix.blocks_max : routing::PrefixHashOptions().blocks_max;
    tokens_max = prefix.tokens_max;
  }
  if (tokens_max > 0) out.blocks_max = std::max(tokens_max / out.block_tokens, 1u);
  return out;
}

class Simulation final : engine::SequenceEvents {
 public:
  Simulation(const Trace& trace, const Setup& setup, const Contestant& contestant, uint64_t seed)
      : trace_(trace),
        setup_(setup),
        contestant_(contestant),
        random_(seed),
        fleet_(setup, contestant.index_unbounded, random_),
        chains_(chains_of(contestant, fleet_.pool())),
        flow_options_(contestant.flow.value_or(setup.flow)),
        index_(index_entries, routing::PrefixIndex::long_prompts),
        router_(*contestant.profile, index_, random_.next()),
        flow_(flow_options_, &index_),
        scales_(index_),
        detector_(flow_options_.detector) {
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
  void expire(Instant now);
  void refuse_waiting();
  void refuse(Journey& journey, size_t& reason);
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
  const Chains chains_;
  const admission::FlowOptions flow_options_;
  routing::PrefixIndex index_;
  routing::Router router_;
  admission::FlowController flow_;
  routing::LeastWork scales_;
  admission::SaturationDetector detector_;
  routing::TokenEstimator estimator_;
  std::vector<Arrival> arrivals_;  // in order of time
  // Who waits for room, in the order of their deadlines; who waits no more is passed over.
  struct Deadline {
    Instant at;
    Journey* journey;
    size_t request;
  };
  std::deque<Deadline> deadlines_;
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
  size_t arrived = 0, idle_looks = 0;
  while (true) {
    const bool more = arrived < arrivals_.size();
    const bool busy = more || fleet_.busy();
    if (!busy && flow_.requests() == 0) break;
    // Nothing runs, but old gauges may say otherwise: the next scrapes let those go that wait. An idle fleet is never
    // full.
    idle_looks = busy ? 0 : idle_looks + 1;
    const auto event = fleet_.next();
    if (!event || idle_looks > 2 * fleet_.size()) {
      if (!more) {  // a ceiling of its flow control lets nobody go, however idle the fleet is
        refuse_waiting();
        break;
      }
    }
    const bool event_first = event && (!more || event->at <= arrivals_[arrived].at);
    expire(event_first ? event->at : arrivals_[arrived].at);
    if (event_first) {
      advance(*event);
    } else {
      arrive(arrivals_[arrived++]);
    }
  }
  for (size_t i = 0; i < fleet_.size(); ++i) result_.preemptions += fleet_.engine(i).stats().preemptions;
  result_.length = now_ - (arrivals_.empty() ? now_ : arrivals_.front().at);
  return std::move(result_);
}

void Simulation::advance(const Fleet::Event& event) {
  fleet_.change_speeds(event.at);
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
  fleet_.change_speeds(now_);
  if (!fleet_.scrapes_itself()) fleet_.scrape_all(now_);
  Journey& journey = new_journey();
  journey.request = arrival.request;
  journey.arrived = now_;
  fill(journey, request);
  if (!contestant_.holds || !held(journey)) route(journey);
}

// The gateway's own rule and queue: what proxy::Exchange does, without its locks. False: it may go on at once; true: it
// waits or was refused.
bool Simulation::held(Journey& journey) {
  const routing::Features features = features_of(journey);
  journey.chain.assign(features.blocks.begin(), features.blocks.end());
  journey.prompt = {journey.chain, chains_.block_tokens, features.prompt_tokens};
  const routing::Work work = scales_.of(journey.prompt, model, fleet_.pool(), now_);
  journey.demand = {.model = model, .uncached_tokens = work.uncached_tokens};
  const double ceiling = flow_options_.usage.ceiling(priority, flow_options_.rank_of(priority));
  const admission::Room room = detector_.room(fleet_.pool(), journey.demand, now_, 1, ceiling);
  if (flow_.requests() == 0 && room.requests > 0) return false;
  journey.work = work.prefill;
  journey.slo_ttft_ms = setup_.slo_ttft_ms;
  journey.bytes = journey.prompt_bytes + journey.chain.size() * sizeof(uint64_t);
  const Duration ttl = flow_options_.ttl_of(priority);
  const bool limited = ttl > Duration::zero();
  journey.deadline = limited ? now_ + ttl : Instant::max();
  if (!flow_.offer(journey)) {
    refuse(journey, result_.refused.queue_full);
    return true;
  }
  if (limited) deadlines_.push_back({journey.deadline, &journey, journey.request});
  release_held();
  return true;
}

// Refuses those whose time to live has ended by `now`.
void Simulation::expire(Instant now) {
  for (; !deadlines_.empty() && deadlines_.front().at <= now; deadlines_.pop_front()) {
    Journey& journey = *deadlines_.front().journey;
    if (!journey.waiting() || journey.request != deadlines_.front().request) continue;
    flow_.remove(journey);
    refuse(journey, result_.refused.waited);
  }
}

void Simulation::refuse_waiting() {
  for (Journey& journey : journeys_) {
    if (!journey.waiting()) continue;
    flow_.remove(journey);
    refuse(journey, result_.refused.waited);
  }
}

void Simulation::refuse(Journey& journey, size_t& reason) {
  ++reason;
  free_.push_back(&journey);
}

void Simulation::release_held() {
  if (flow_.requests() == 0) return;
  if (!fleet_.scrapes_itself()) fleet_.scrape_all(now_);
  while (admission::Waiter* const next = flow_.next(&fleet_.pool(), now_, 0)) route(static_cast<Journey&>(*next));
}

void Simulation::route(Journey& journey) {
  const routing::Features features = features_of(journey);
  const routing::Decision decision = router_.decide(features, fleet_.pool(), now_, {});
  if (decision.endpoint == nullptr) return refuse(journey, result_.refused.nobody);  // all are ready: filters did it
  const uint32_t cached = std::min(features.prompt_tokens, decision.matched_blocks * chains_.block_tokens);
  journey.reservation = routing::Reservation(*decision.endpoint, features.prompt_tokens - cached,
                                             features.prompt_tokens, output_tokens_guess, now_, features.streaming);
  index_.record(features.blocks, decision.endpoint->slot);
  router_.picked(features, decision, now_);
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
  journey.streaming = !setup_.silent && (setup_.streaming >= 1 || random_.chance(setup_.streaming));
  journey.max_tokens = request.output_tokens;
  journey.ignore_eos = true;
  journey.text_seed = journey.request;
  journey.events = this;
}

routing::Features Simulation::features_of(const Journey& journey) {
  prompt_chain(trace_, journey.request, chains_.block_tokens, chain_);
  routing::Features features;
  features.model = model;
  features.streaming = journey.streaming;
  features.slo_ttft_ms = setup_.slo_ttft_ms;
  features.slo_tpot_ms = setup_.slo_tpot_ms;
  features.prompt_tokens = journey.estimated_tokens;
  features.block_tokens = chains_.block_tokens;
  features.blocks = std::span(chain_).first(std::min(chains_.blocks_max, chain_.size()));
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
  if (!setup_.silent) {
    journey.reservation.cached(journey.cached_tokens());
    journey.reservation.finished(now_, tokens);
    estimator_.learn(model, journey.prompt_bytes, journey.prompt_tokens());
  }
  journey.reservation.release();

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
