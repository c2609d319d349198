#include "penstock/discovery/engines.h"

#include <algorithm>
#include <array>
#include <utility>

namespace penstock::discovery {
namespace {

const std::array<EnginePreset, 4>& presets() {
  static const std::array<EnginePreset, 4> all = {{
      {.name = "vllm",
       .rules = {{"vllm:num_requests_waiting", {}, Signal::waiting},
                 {"vllm:num_requests_running", {}, Signal::running},
                 {"vllm:kv_cache_usage_perc", {}, Signal::kv_usage},
                 {"vllm:gpu_cache_usage_perc", {}, Signal::kv_usage_old},
                 {"vllm:lora_requests_info", {}, Signal::loras},
                 {"vllm:cache_config_info", {}, Signal::cache_config}}},
      {.name = "sglang",
       .rules = {{"sglang:num_queue_reqs", {}, Signal::waiting},
                 {"sglang:num_running_reqs", {}, Signal::running},
                 {"sglang:token_usage", {}, Signal::kv_usage},
                 {"sglang:cache_config_info", {}, Signal::cache_config},  // older versions; newer ones:
                 {"sglang:page_size", {}, Signal::block_size},
                 {"sglang:num_pages", {}, Signal::kv_blocks}},
       .health_path = "/ready"},
      {.name = "trtllm-serve",
       .rules = {{"trtllm_num_requests_waiting", {}, Signal::waiting},
                 {"trtllm_num_requests_running", {}, Signal::running},
                 {"trtllm_kv_cache_utilization", {}, Signal::kv_usage},
                 {"trtllm_kv_cache_tokens_per_block", {}, Signal::block_size},
                 {"trtllm_kv_cache_max_blocks", {}, Signal::kv_blocks}}},
      {.name = "triton-tensorrt-llm",
       .rules = {{"nv_trt_llm_request_metrics", {{"request_type", "waiting"}}, Signal::waiting},
                 {"nv_trt_llm_request_metrics", {{"request_type", "scheduled"}}, Signal::running},
                 {"nv_trt_llm_kv_cache_block_metrics", {{"kv_cache_block_type", "fraction"}}, Signal::kv_usage},
                 {"nv_trt_llm_kv_cache_block_metrics", {{"kv_cache_block_type", "tokens_per"}}, Signal::block_size},
                 {"nv_trt_llm_kv_cache_block_metrics", {{"kv_cache_block_type", "max"}}, Signal::kv_blocks}}},
  }};
  return all;
}

std::string common_prefix(const EnginePreset& preset) {
  if (preset.rules.empty()) return "";
  std::string prefix = preset.rules.front().family;
  for (const EnginePreset::Rule& rule : preset.rules) {
    const auto [end, other] = std::mismatch(prefix.begin(), prefix.end(), rule.family.begin(), rule.family.end());
    prefix.erase(end, prefix.end());
  }
  return prefix;
}

}  // namespace

void EnginePreset::replace(Signal signal, std::string family, Labels labels) {
  std::erase_if(rules, [signal](const Rule& rule) {
    const bool other_usage = signal == Signal::kv_usage && rule.signal == Signal::kv_usage_old;
    const bool other_config =
        signal == Signal::cache_config && (rule.signal == Signal::block_size || rule.signal == Signal::kv_blocks);
    return rule.signal == signal || other_usage || other_config;
  });
  if (!family.empty()) rules.push_back({std::move(family), std::move(labels), signal});
}

EngineSet::EngineSet(std::vector<EnginePreset> added) : presets_(std::move(added)) {
  for (const EnginePreset& preset : presets()) {
    if (!contains(preset.name)) presets_.push_back(preset);
  }
  for (EnginePreset& preset : presets_) preset.prefix = common_prefix(preset);
}

size_t EngineSet::find(std::string_view name) const {
  const auto found =
      std::find_if(presets_.begin(), presets_.end(), [name](const auto& preset) { return preset.name == name; });
  return static_cast<size_t>(found - presets_.begin());
}

const Engines& built_in_engines() {
  static const Engines all = std::make_shared<const EngineSet>();
  return all;
}

}  // namespace penstock::discovery
