#include "sim/catalog.h"

#include <algorithm>

#include "penstock/base/assert.h"
#include "penstock/base/text.h"

namespace penstock::sim {

Catalog::Catalog(std::vector<std::string> models, const std::vector<std::string>& loras) : models_(std::move(models)) {
  PENSTOCK_ASSERT(!models_.empty());
  for (const std::string& name : loras) load_lora(name);
}

std::optional<int32_t> Catalog::find(std::string_view name) const {
  if (name.empty() || std::find(models_.begin(), models_.end(), name) != models_.end()) return -1;
  for (size_t slot = 0; slot < loras_.size(); ++slot) {
    if (loras_[slot].loaded && loras_[slot].name == name) return static_cast<int32_t>(slot);
  }
  return std::nullopt;
}

Catalog::Change Catalog::load_lora(std::string_view name) {
  const auto known = std::find_if(loras_.begin(), loras_.end(), [name](const Lora& lora) { return lora.name == name; });
  if (known != loras_.end()) {
    if (known->loaded) return Change::exists;
    known->loaded = true;
    return Change::done;
  }
  if (loras_.size() == lora_slots) return Change::full;
  loras_.push_back({std::string(name)});
  return Change::done;
}

Catalog::Change Catalog::unload_lora(std::string_view name) {
  for (Lora& lora : loras_) {
    if (lora.name != name || !lora.loaded) continue;
    lora.loaded = false;
    return Change::done;
  }
  return Change::unknown;
}

void Catalog::append_models(std::string& out, int64_t created, uint32_t max_model_len) const {
  const auto append = [&](const std::string& name, bool is_lora) {
    out += out.back() == '[' ? "{\"id\":" : ",{\"id\":";
    append_json_string(out, name);
    out += ",\"object\":\"model\",\"created\":" + std::to_string(created) + ",\"owned_by\":\"vllm\",\"root\":";
    append_json_string(out, name);
    out += ",\"parent\":";
    if (is_lora) append_json_string(out, models_.front());
    else out += "null";
    out += ",\"max_model_len\":" + (is_lora ? "null" : std::to_string(max_model_len)) + ",\"permission\":[]}";
  };
  out += "{\"object\":\"list\",\"data\":[";
  for (const std::string& name : models_) append(name, false);
  for (const Lora& lora : loras_) {
    if (lora.loaded) append(lora.name, true);
  }
  out += "]}";
}

}  // namespace penstock::sim
