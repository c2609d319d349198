#include "engine_choice.h"

namespace penstock::discovery {

EngineChoice::EngineChoice(Engines engines, std::string_view name)
    : engines_(std::move(engines)), at_(engines_->find(name)), configured_(at_ < engines_->size()) {
  if (!configured_) at_ = engines_->find("vllm");
}

bool EngineChoice::models_owned_by(std::string_view owner) {
  if (configured_) return false;
  named_ = engines_->contains(owner);
  if (!named_) return false;
  recognised_ = true;
  return become(engines_->find(owner));
}

bool EngineChoice::metrics_read(bool found) {
  if (found) {
    recognised_ = true;
    turns_ = 0;
    return false;
  }
  if (configured_ || named_) return false;
  recognised_ = false;
  ++turns_;
  return become((at_ + 1) % engines_->size());
}

}  // namespace penstock::discovery
