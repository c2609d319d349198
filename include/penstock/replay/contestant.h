// What may decide in a replay: the product's own policies, and those of other routers as they are published, for
// comparison. All are profiles for routing::Router, so that candidates, prefix index and load accounting are the
// product's for every one of them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "penstock/routing/router.h"

namespace penstock::replay {

// Told of every pick; for policies that remember their own.
class PickListener {
 public:
  virtual ~PickListener() = default;
  virtual void picked(const routing::Features& features, const endpoints::EndpointState& endpoint,
                      uint32_t matched_blocks) = 0;
};

struct Contestant {
  std::unique_ptr<routing::Profile> profile;
  PickListener* listener = nullptr;  // a part of the profile; null: none
  uint32_t tokens_matched_max = 0;   // the reach of its prefix matching; 0: the whole prompt
  bool index_unbounded = false;      // it does not know the size of an endpoint's cache
  bool holds = false;                // requests wait at the gateway while the pool is saturated (admission)
};

struct ContestantInfo {
  std::string_view name;
  std::string_view what;  // one line
};
std::span<const ContestantInfo> contestants();  // the product's first
// Any of them may also be followed by "+hold": the same choices, bound late.
bool known_contestant(std::string_view name);
Contestant make_contestant(std::string_view name);  // a known one

}  // namespace penstock::replay
