// Engines to replay against. The figures are fits to published measurements (docs/REPLAY.md says which), but for
// those of penstock-sim: they are its defaults.
#include <array>

#include "penstock/replay/simulate.h"

namespace penstock::replay {
namespace {

constexpr std::array<std::string_view, 4> names = {"h100-32b", "h200-32b", "a100-8b", "penstock-sim"};

engine::EngineOptions engine_of(uint32_t kv_tokens, uint32_t step_tokens, double prefill_tokens_per_s,
                                double prefill_doubling_tokens, double decode_ms, double decode_ms_per_seq,
                                double decode_ms_per_1k_tokens) {
  engine::EngineOptions options;
  options.kv_blocks = kv_tokens / options.block_size;
  options.max_num_batched_tokens = step_tokens;
  options.prefill_tokens_per_s = prefill_tokens_per_s;
  options.prefill_doubling_tokens = prefill_doubling_tokens;
  options.decode_ms = decode_ms;
  options.decode_ms_per_seq = decode_ms_per_seq;
  options.decode_ms_per_1k_tokens = decode_ms_per_1k_tokens;
  return options;
}

}  // namespace

std::span<const std::string_view> engine_names() {
  return names;
}

bool find_engine(std::string_view name, engine::EngineOptions* out) {
  if (name == names[0]) {
    *out = engine_of(282'000, 8192, 20'500, 30'000, 14, 0.10, 0.056);
  } else if (name == names[1]) {
    *out = engine_of(1'400'000, 8192, 20'500, 30'000, 10, 0.10, 0.020);
  } else if (name == names[2]) {
    *out = engine_of(140'000, 2048, 11'000, 27'000, 14, 0.10, 0.090);
  } else if (name == names[3]) {
    *out = {};
  } else {
    return false;
  }
  return true;
}

}  // namespace penstock::replay
