// What one endpoint runs: as configured, or else what its answers give away. Pure; the control thread's.
#pragma once

#include <string_view>
#include <utility>

#include "penstock/discovery/engines.h"

namespace penstock::discovery {

class EngineChoice {
 public:
  // A name that none of them has, as "auto" and "", is to be found out; until then it is taken for vLLM.
  EngineChoice(Engines engines, std::string_view name);

  const EnginePreset& engine() const { return (*engines_)[at_]; }
  bool known() const { return configured_ || recognised_; }  // else a guess
  std::string_view text() const { return known() ? engine().name : std::string_view("auto"); }

  // Its list of models says who serves them: vLLM and SGLang name themselves. True: engine() is another one now.
  bool models_owned_by(std::string_view owner);
  // A page of metrics had some of engine()'s, or none. True: engine() is another one now, whose metrics may be there.
  bool metrics_read(bool found);
  // Whether any engine's metrics may be on a page that was not yet searched for them.
  bool may_find_metrics() const { return !configured_ && !named_ && turns_ < engines_->size(); }

  // Where its next health probe goes. SGLang's answer to /health may take longer than a probe may: while nothing is
  // known of a server whose probe took too long, each second probe asks what SGLang answers at once.
  std::string_view health_path() const { return elsewhere_ ? std::string_view("/ready") : engine().health_path; }
  void probe_timed_out() { elsewhere_ = !known() && !elsewhere_; }
  // Whether the answer to that probe is one of a living server. Any but a server error is, as not every engine has the
  // path; but where the path was a guess, only success.
  bool shows_life(unsigned status) const { return elsewhere_ ? status >= 200 && status < 300 : status < 500; }
  void probe_answered() { elsewhere_ = false; }
  // It was dead: what is there next may be another engine.
  void forget() { recognised_ = false; }

 private:
  bool become(size_t engine) { return std::exchange(at_, engine) != engine; }

  Engines engines_;
  size_t at_;
  bool configured_;
  bool recognised_ = false;  // by its models or its metrics
  bool named_ = false;       // by its list of models
  bool elsewhere_ = false;   // the health probe
  size_t turns_ = 0;         // engines whose metrics were looked for in vain, one after another
};

}  // namespace penstock::discovery
