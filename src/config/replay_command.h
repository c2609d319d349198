// The flags of `penstock replay`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "penstock/replay/options.h"

namespace CLI {
class App;
}

namespace penstock::config {

// What the parser fills; it must outlive the parsing.
struct ReplayFlags {
  std::string engine = "h100-32b";
  double scrape_ms = 50, hold_ms = 1000, slo_ttft_s = 5, slo_tpot_ms = 100;
  double prefill_tokens_per_s = 0, decode_ms = 0;  // 0: the engine's
  bool ask_slo = false;
  uint32_t slow_engines = 0;
  std::vector<std::string> speed_changes;  // SECONDS:ENGINE:SPEED
  uint32_t kv_blocks = 0, max_num_seqs = 0, max_num_batched_tokens = 0;
  replay::Options options;
};

void define_replay(CLI::App& app, ReplayFlags& flags);
// "" when they make sense together; else what is wrong.
std::string settle_replay(ReplayFlags& flags);

}  // namespace penstock::config
