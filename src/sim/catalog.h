// The names a server answers to: base models and LoRA adapters. Adapters have slots, which the engine counts by.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::sim {

class Catalog {
 public:
  static constexpr uint32_t lora_slots = 256;
  Catalog(std::vector<std::string> models, const std::vector<std::string>& loras);

  // The slot of the adapter, -1 for a base model; nothing when the name is unknown. "" is the first model.
  std::optional<int32_t> find(std::string_view name) const;
  enum class Change : uint8_t { done, exists, unknown, full };
  Change load_lora(std::string_view name);
  Change unload_lora(std::string_view name);

  const std::string& first_model() const { return models_.front(); }
  const std::string& lora_name(size_t slot) const { return loras_[slot].name; }
  size_t loras() const { return loras_.size(); }  // slots ever used
  // The body of /v1/models.
  void append_models(std::string& out, int64_t created, uint32_t max_model_len) const;

 private:
  struct Lora {
    std::string name;
    bool loaded = true;
  };
  std::vector<std::string> models_;
  std::vector<Lora> loras_;  // a slot keeps its name for ever: requests may still run when it is unloaded
};

}  // namespace penstock::sim
