// Which pool of a snapshot answers a request, and what a pool's endpoints are known to serve. Pure.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "heads.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/http/head.h"

namespace penstock::proxy {

// What the snapshot's route table calls pool `index`; null when the index leads nowhere.
const endpoints::Pool* pool_at(const endpoints::Snapshot& snapshot, int32_t index);
// The path has a segment "." or "..", plain or percent-encoded, as a server may see it that resolves such segments: it
// would serve another path than was matched. A backslash counts as a slash, as it does there.
bool has_dot_segment(std::string_view path);
// The rule for this request in a table of mode `routes`, or null. `head` is the request's, `forwarded` made from it.
const objects::Route* match_route(const objects::RouteTable& table, const http::Head& head,
                                  const ForwardedHead& forwarded);
// Of several pools that no Gateway tells apart: the one whose rewrites name the model, one whose endpoints list it, one
// that leads every model somewhere, one of which nobody knows what it serves; in this order. Null: surely none.
const endpoints::Pool* pool_of_model(const endpoints::Snapshot& snapshot, std::string_view model);
// The pools that may answer: all backends of `route`, else all of the table. Null `routes`: the first pool.
std::vector<const endpoints::Pool*> reachable_pools(const endpoints::Snapshot& snapshot, const objects::Route* route);

bool lists(const endpoints::EndpointView& endpoint, std::string_view model);
// An endpoint lists this model, or there is one of which nobody knows yet what it serves.
bool may_serve(const endpoints::Pool& pool, std::string_view model);
// There are endpoints, each has told what it serves, and none serves this model.
bool surely_unknown(const endpoints::Pool& pool, std::string_view model);

// A number for a session, uniform over 64 bits and the same everywhere. `purpose` makes choices of one session
// independent of each other.
uint64_t session_number(std::string_view session, uint64_t purpose);

}  // namespace penstock::proxy
