// Decisions as /debug/decisions shows them, to be made again from what they were made from. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/routing/router.h"

namespace penstock::replay {

struct RecordedDecision {
  std::string endpoint;            // "": none was found
  std::string why;                 // the explanation's text, to the byte
  std::string profile;             // that decided
  routing::DecisionInputs inputs;  // not whole: of a pool too large to be kept
};

// The page. `name` is for the message: "name: what is wrong".
Result<std::vector<RecordedDecision>> read_decisions(std::string_view page, std::string_view name);

enum class Verdict : uint8_t { same, differs, not_recorded, unknown_policy };
// Makes the decision again: the same endpoint, for the same reasons to the digit? `profile` "": the one that decided.
// `now_chosen`: what was chosen this time.
Verdict decide_again(const RecordedDecision& decision, std::string_view profile, std::string* now_chosen);
// By another profile.
Verdict decide_again(const RecordedDecision& decision, const routing::Profile& profile, std::string* now_chosen);

}  // namespace penstock::replay
