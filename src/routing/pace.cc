#include "pace.h"

#include <algorithm>

namespace penstock::routing {
namespace {

using endpoints::Pace;

constexpr auto relaxed = std::memory_order_relaxed;
// What remains of an observation after the next one: an endpoint's memory is its last few hundred answers.
constexpr double fading = 0.998;
// An interval may have had other causes (a preemption, a lull in the network): what is longer than this many times the
// expected, plus a bit, is cut. It still pushes the estimate up when it recurs.
constexpr double interval_max_factor = 4, interval_max_extra = 0.2;
// Below this many tokens the line through an answer's times says little.
constexpr uint32_t decode_tokens_min = 8;

void fade(std::atomic<double>& sum, double observed) {
  sum.store(sum.load(relaxed) * fading + observed, relaxed);
}

// Writes while no other shard does; false: one does.
template <typename Write>
void alone(Pace& pace, const Write& write) {
  if (pace.busy.exchange(true, std::memory_order_acquire)) return;
  write();
  pace.busy.store(false, std::memory_order_release);
}

}  // namespace

double prefill_seconds_per_token(const Pace& pace) {
  const double tokens = pace.prefill_tokens.load(relaxed);
  return tokens < 1 ? prefill_seconds_prior : pace.prefill_seconds.load(relaxed) / tokens;
}

double unseen_backlog(const Pace& pace, Instant now) {
  const int64_t left = pace.unseen_until_ns.load(relaxed) - now.time_since_epoch().count();
  return left > 0 ? to_seconds(Duration(left)) : 0;
}

void learn_prefill(endpoints::EndpointState& endpoint, Instant began, Instant now, int64_t uncached) {
  Pace& pace = endpoint.pace;
  const int64_t now_ns = now.time_since_epoch().count();
  // Engines compute prompts one after another: this one had the engine since the first token before it.
  const int64_t before = pace.last_first_token_ns.exchange(now_ns, relaxed);
  const double seconds = to_seconds(now - std::max(began, Instant(Duration(before))));
  if (seconds < 0) return;
  alone(pace, [&] {
    const double tokens = static_cast<double>(uncached);
    const double expected = tokens * prefill_seconds_per_token(pace);
    const double counted = std::min(seconds, interval_max_factor * expected + interval_max_extra);
    fade(pace.prefill_seconds, counted);
    fade(pace.prefill_tokens, tokens);
    fade(pace.prefills, 1);
    fade(pace.prefill_xx, tokens * tokens);
    fade(pace.prefill_xy, tokens * counted);
  });
}

void learn_answer(endpoints::EndpointState& endpoint, Duration decode, uint32_t tokens) {
  if (tokens == 0) return;
  Pace& pace = endpoint.pace;
  const double held = static_cast<double>(std::max<int64_t>(endpoint.load.kv_tokens.load(relaxed), 0));
  alone(pace, [&] {
    fade(pace.answers, 1);
    fade(pace.output_tokens, tokens);
    if (decode <= Duration::zero() || tokens < decode_tokens_min) return;
    const double per_token = to_seconds(decode) / (tokens - 1);
    fade(pace.decodes, 1);
    fade(pace.decode_x, held);
    fade(pace.decode_y, per_token);
    fade(pace.decode_xx, held * held);
    fade(pace.decode_xy, held * per_token);
  });
}

void learn_cached(endpoints::EndpointState& endpoint, int64_t believed, int64_t cached) {
  if (believed <= 0) return;
  Pace& pace = endpoint.pace;
  alone(pace, [&] {
    fade(pace.believed_tokens, static_cast<double>(believed));
    fade(pace.cached_tokens, static_cast<double>(std::clamp<int64_t>(cached, 0, believed)));
  });
}

Instant expect_unseen(endpoints::EndpointState& endpoint, Instant now, int64_t uncached) {
  Pace& pace = endpoint.pace;
  const auto work = from_seconds(static_cast<double>(uncached) * prefill_seconds_per_token(pace));
  int64_t until = pace.unseen_until_ns.load(relaxed);
  int64_t next = 0;
  do {
    next = std::max(until, now.time_since_epoch().count()) + work.count();
  } while (!pace.unseen_until_ns.compare_exchange_weak(until, next, relaxed));
  return Instant(Duration(next));
}

}  // namespace penstock::routing
