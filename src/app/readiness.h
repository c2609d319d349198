// Whether any request could be answered, and why not, for /readyz. Pure.
#pragma once

#include <string>
#include <vector>

#include "penstock/discovery/directory.h"
#include "penstock/discovery/names.h"
#include "penstock/endpoints/snapshot.h"

namespace penstock::app {

// Some endpoint of some pool is ready, or drains and still serves. One that was never probed does not count.
bool any_usable(const endpoints::Snapshot& snapshot);

// In one line: how many endpoints are not ready and how many names do not resolve, with the reasons of the first ones.
std::string why_none_usable(const std::vector<discovery::PollStatus>& polls,
                            const std::vector<discovery::NameStatus>& names);

}  // namespace penstock::app
