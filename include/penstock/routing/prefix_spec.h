// How prompts are cut into blocks, and how much of each endpoint's cache is believed in.
#pragma once

#include <cstdint>

namespace penstock::routing {

struct PrefixSpec {
  bool auto_tune = true;       // block size and capacity as the engines say, where they do
  uint32_t block_tokens = 16;  // else these
  uint64_t capacity_blocks = 31'250;
  uint32_t blocks_max = 0;  // the reach; 0: PrefixHashOptions::blocks_max
  uint32_t tokens_max = 0;  // the reach in tokens; 0: not said
  bool operator==(const PrefixSpec&) const = default;
};

}  // namespace penstock::routing
