// What may decide in a replay: the product's own policies, and those of other routers as they are published, for
// comparison. All are profiles for routing::Router, so that candidates, prefix index and load accounting are the
// product's for every one of them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "penstock/admission/options.h"
#include "penstock/routing/prefix_spec.h"
#include "penstock/routing/router.h"

namespace penstock::replay {

struct Contestant {
  std::unique_ptr<routing::Profile> profile;
  uint32_t tokens_matched_max = 0;  // the reach of its prefix matching; 0: the whole prompt
  bool index_unbounded = false;     // it does not know the size of an endpoint's cache
  bool holds = false;               // requests wait at the gateway while the pool is saturated (admission)
  // How prompts are cut into blocks and how far they are matched. Nothing: blocks of 16, and tokens_matched_max.
  std::optional<routing::PrefixSpec> prefix = {};
  std::optional<admission::FlowOptions> flow = {};  // of one that holds requests; nothing: Setup::flow
};

struct ContestantInfo {
  std::string_view name;
  std::string_view what;  // one line
};
std::span<const ContestantInfo> contestants();  // the product's first
// Any of them may also be followed by "+hold": the same choices, bound late. Takes that away; false: it is not there.
bool take_hold_suffix(std::string_view& name);
bool known_contestant(std::string_view name);
Contestant make_contestant(std::string_view name);  // a known one

// One that an EndpointPickerConfig describes.
struct ConfiguredContestant {
  std::string name;  // the file's, as it was given; it may have "+hold" behind it, too
  std::function<std::unique_ptr<routing::Profile>()> make_profile;
  routing::PrefixSpec prefix;
  std::optional<admission::FlowOptions> flow;  // the configuration's own flow control, where it is on
};
Contestant make_contestant(const ConfiguredContestant& configured);

}  // namespace penstock::replay
