// The text of /metrics: vLLM's names, labels and buckets, from the engine's numbers.
#pragma once

#include <string>
#include <vector>

#include "sim/engine_names.h"

namespace penstock::sim {

// One series of vllm:lora_requests_info. vLLM makes a series for each combination of adapters it has seen and sets it
// to the time when it last held: readers take the largest value.
struct LoraSeries {
  std::string running, waiting;  // names joined by commas
  double last_held = 0;          // Unix time
};

struct MetricsContext {
  std::string model_name;
  uint32_t max_loras = 0;  // 0: adapters are off and have no series
  const std::vector<LoraSeries>* lora_series = nullptr;
};

void append_metrics(std::string& out, const Engine& engine, const MetricsContext& context);

}  // namespace penstock::sim
