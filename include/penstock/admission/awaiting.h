// Until when requests wait for a pool that has no endpoint to use: its last server is being restarted or replaced, or
// the pool is scaled to zero. Any thread; no allocation.
#pragma once

#include <optional>
#include <string_view>

#include "penstock/endpoints/snapshot.h"

namespace penstock::admission {

// Where endpoints are listed, one of them that serves the model ("": any) must have been ready, or have been added,
// less than `ttl` ago: requests wait until that is over, and those for servers that are gone for good are refused at
// once. Where none is listed it may be the request that makes one come: then each waits for `ttl`.
// Nothing: not at all, because routing finds an endpoint, if only one that is ejected or was not probed yet; or because
// none is expected.
std::optional<Instant> awaited_until(const endpoints::Pool& pool, std::string_view model, Instant arrived, Instant now,
                                     Duration ttl);

}  // namespace penstock::admission
