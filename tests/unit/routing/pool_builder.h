// A pool of endpoints for tests: states with stable addresses, views that the test may change.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/endpoints/snapshot.h"

namespace penstock::routing::test {

inline Instant at_ms(int64_t ms) {
  return Instant(milliseconds(ms));
}

// So many hashes, others for another seed.
inline std::vector<uint64_t> hashes(size_t count, uint64_t seed = 3) {
  Random random(seed);
  std::vector<uint64_t> out(count);
  for (uint64_t& hash : out) hash = random.next();
  return out;
}

// So many prompts have been measured there, of as many tokens and seconds each.
inline void measured_prefills(endpoints::EndpointState& state, double prompts, double tokens, double seconds) {
  state.pace.prefills = prompts;
  state.pace.prefill_tokens = prompts * tokens;
  state.pace.prefill_seconds = prompts * seconds;
  state.pace.prefill_xx = prompts * tokens * tokens;
  state.pace.prefill_xy = prompts * tokens * seconds;
}

struct PoolBuilder {
  std::deque<endpoints::EndpointState> states;
  endpoints::Pool pool;

  explicit PoolBuilder(size_t count = 0) {
    for (size_t i = 0; i < count; ++i) add(std::string(1, static_cast<char>('a' + i)));
  }
  // Ready, scraped at time 0, idle.
  endpoints::EndpointView& add(const std::string& name) {
    endpoints::EndpointState& state = states.emplace_back();
    state.slot = static_cast<uint32_t>(states.size() - 1);
    state.incarnation = static_cast<uint32_t>(states.size());
    state.name = name;
    endpoints::EndpointView& view = pool.endpoints.emplace_back();
    view.state = &state;
    view.metrics.known = true;
    return view;
  }
  endpoints::EndpointView& view(size_t i) { return pool.endpoints[i]; }
  endpoints::EndpointState& state(size_t i) { return states[i]; }
};

}  // namespace penstock::routing::test
