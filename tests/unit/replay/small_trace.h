// A made-up trace for tests: conversations of a few turns that share a system prompt.
#pragma once

#include <doctest/doctest.h>

#include "penstock/base/random.h"
#include "penstock/replay/simulate.h"
#include "penstock/replay/trace.h"

namespace penstock::replay::test {

inline Trace conversations(size_t count, size_t turns, Duration between) {
  Trace trace;
  Random random(7);
  uint64_t next_id = 1;
  std::vector<std::vector<uint64_t>> prompts(count, {0});
  for (size_t turn = 0; turn < turns; ++turn) {
    for (auto& prompt : prompts) {
      for (uint64_t more = 1 + random.below(4); more > 0; --more) prompt.push_back(next_id++);
      TraceRequest& request = trace.requests.emplace_back();
      request.at = between * static_cast<int64_t>(trace.requests.size() - 1);
      request.prompt_tokens = static_cast<uint32_t>(prompt.size()) * Trace::tokens_per_id - 7;
      request.output_tokens = static_cast<uint32_t>(20 + random.below(100));
      request.first_id = trace.ids.size();
      request.id_count = static_cast<uint32_t>(prompt.size());
      trace.ids.insert(trace.ids.end(), prompt.begin(), prompt.end());
    }
  }
  return trace;
}

inline Setup small_setup() {
  Setup setup;
  CHECK(find_engine("h100-32b", &setup.engine));
  setup.endpoints = 3;
  return setup;
}

}  // namespace penstock::replay::test
