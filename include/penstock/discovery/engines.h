// What model servers call the gauges that routing needs: presets of the engines that we know, and what an
// EndpointPickerConfig says of others. Immutable once made; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::discovery {

// The families of a preset mean one of these. `kv_usage_old`: what counts where there is no `kv_usage`. Of `loras` and
// `cache_config` the facts are labels; of the others the value counts.
enum class Signal : uint8_t { waiting, running, kv_usage, kv_usage_old, block_size, kv_blocks, loras, cache_config };

struct EnginePreset {
  using Labels = std::vector<std::pair<std::string, std::string>>;
  // The series of `family` that have all of `labels` (any, if there are none) mean `signal`.
  struct Rule {
    std::string family;
    Labels labels;
    Signal signal;
  };
  std::string name;
  std::vector<Rule> rules;
  // Of the health probe that it answers at once. SGLang's /health computes a token, and takes a second or longer.
  std::string health_path = "/health";
  std::string prefix = {};  // of all families, so that other lines are passed over quickly; EngineSet finds it

  // `family` alone says that now, and what a signal of its kind said otherwise (`kv_usage_old`; `block_size` and
  // `kv_blocks` for `cache_config`) no longer counts. An empty family: nothing says it.
  void replace(Signal signal, std::string family, Labels labels);
};

class EngineSet {
 public:
  // `added` in front of the built-in ones; one with the name of a built-in engine takes its place.
  explicit EngineSet(std::vector<EnginePreset> added = {});

  size_t size() const { return presets_.size(); }
  const EnginePreset& operator[](size_t i) const { return presets_[i]; }
  // Where it is; size() for a name that nobody has.
  size_t find(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name) < size(); }

 private:
  std::vector<EnginePreset> presets_;
};

using Engines = std::shared_ptr<const EngineSet>;  // not null
// The built-in ones alone: vllm, sglang, trtllm-serve, triton-tensorrt-llm.
const Engines& built_in_engines();

}  // namespace penstock::discovery
