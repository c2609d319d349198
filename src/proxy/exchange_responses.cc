// Stored responses of the Responses API: a request that names one goes to the endpoint that made it. If that endpoint
// is gone, is ejected or has failed, the request goes by load, and the server that gets it says that it has no such
// response.
#include <algorithm>

#include "exchange.h"
#include "penstock/openai/paths.h"
#include "penstock/openai/response_id.h"

namespace penstock::proxy {

// response_key() of the response that the request names, in its path or as its previous one; 0: none.
uint64_t Exchange::named_response() const {
  if (request_.api == openai::Api::responses) return request_.previous_response;
  const std::string_view id = openai::response_id_in_path(head_.target());
  return id.empty() ? 0 : openai::response_key(id);
}

std::optional<ResponseOwners::Owner> Exchange::owner_of_response() const {
  const uint64_t key = context_.responses == nullptr ? 0 : named_response();
  return key == 0 ? std::nullopt : context_.responses->find(key, context_.loop.now());
}

namespace {

const endpoints::EndpointView* find_owner(const endpoints::Pool& pool, const ResponseOwners::Owner& owner) {
  const auto at = std::find_if(pool.endpoints.begin(), pool.endpoints.end(), [&](const endpoints::EndpointView& view) {
    return view.state->slot == owner.slot && view.state->incarnation == owner.incarnation;
  });
  return at == pool.endpoints.end() ? nullptr : &*at;
}

}  // namespace

// For a request without a model, where models tell the pools apart. Null: it names no response whose endpoint is known.
const endpoints::Pool* Exchange::pool_of_response(const endpoints::Snapshot& snapshot) const {
  const std::optional<ResponseOwners::Owner> owner = owner_of_response();
  if (!owner) return nullptr;
  const auto at = std::find_if(snapshot.pools.begin(), snapshot.pools.end(),
                               [&](const endpoints::Pool& pool) { return find_owner(pool, *owner) != nullptr; });
  return at == snapshot.pools.end() ? nullptr : &*at;
}

// Before the first decision: the only endpoint planned is the one that made the response.
void Exchange::follow_response() {
  if (context_.responses == nullptr || !pool_id_ || named_response() == 0) return;
  const endpoints::Pool* const pool = gateway_.pool(*pool_id_);
  const std::optional<ResponseOwners::Owner> owner = owner_of_response();
  const endpoints::EndpointView* const view = owner && pool != nullptr ? find_owner(*pool, *owner) : nullptr;
  using Lookup = ResponseOwners::Lookup;
  context_.responses->count(view != nullptr ? Lookup::found : owner ? Lookup::gone : Lookup::unknown);
  if (view == nullptr) return;
  planned_[0] = view->state;
  planned_count_ = 1;
}

// The answer has told its id.
void Exchange::remember_response() {
  const uint64_t key = watch_.take_response();
  if (context_.responses == nullptr) return;
  context_.responses->remember(key, {endpoint_->slot, endpoint_->incarnation}, context_.loop.now());
}

}  // namespace penstock::proxy
