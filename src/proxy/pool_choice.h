// Which pool of a snapshot answers a request, and what a pool's endpoints are known to serve. Pure.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "heads.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/http/head.h"

namespace penstock::proxy {

// The pool that the snapshot's route table knows as `index`; null if there is none.
const endpoints::Pool* pool_at(const endpoints::Snapshot& snapshot, int32_t index);
// The rule for this request in a table of mode `routes`, or null. `forwarded` was made from `head`; `listener`: the
// number of the listener that it came to.
const objects::Route* match_route(const objects::RouteTable& table, const http::Head& head,
                                  const ForwardedHead& forwarded, size_t listener);
// Whether that rule names the path, and so allows it: it does not match every path.
bool names_path(const objects::RouteTable& table, const http::Head& head, const ForwardedHead& forwarded,
                size_t listener, const objects::Route* rule);
// The pool for a model, where no Gateway tells the pools apart. In this order: the pool whose rewrites name the model,
// one whose endpoints list it, one that rewrites every model, one whose models are not known. Null: no pool serves it.
const endpoints::Pool* pool_of_model(const endpoints::Snapshot& snapshot, std::string_view model);
// The pools that may answer: all backends of `route`, else all of the table. Null `routes`: the first pool.
std::vector<const endpoints::Pool*> reachable_pools(const endpoints::Snapshot& snapshot, const objects::Route* route);

// The pool's endpoint in this slot, of this incarnation; null if it has none.
const endpoints::EndpointView* endpoint_at(const endpoints::Pool& pool, uint32_t slot, uint32_t incarnation);
bool lists(const endpoints::EndpointView& endpoint, std::string_view model);
// Some endpoint lists this model, or does not say (yet) what it serves.
bool may_serve(const endpoints::Pool& pool, std::string_view model);
// There are endpoints, all of them list their models, and none lists this one.
bool surely_unknown(const endpoints::Pool& pool, std::string_view model);

// A number for a session, uniform over 64 bits and the same in every process. `purpose` makes the choices of one
// session independent of each other.
uint64_t session_number(std::string_view session, uint64_t purpose);

}  // namespace penstock::proxy
