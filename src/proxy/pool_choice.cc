#include "pool_choice.h"

#include <algorithm>
#include <optional>
#include <string>

#include "penstock/base/text.h"

namespace penstock::proxy {

namespace {

struct Fields {
  const http::Head& head;
  mutable std::string joined;  // the values of the last field asked for, if it came more than once
};

// The values of a repeated field are joined into one (RFC 9110, section 5.3). If only one of them were matched, a
// client could hide the others from the routes.
std::optional<std::string_view> header_value(const void* context, std::string_view name) {
  const Fields& fields = *static_cast<const Fields*>(context);
  std::optional<std::string_view> value;
  for (const http::Header& header : fields.head.headers()) {
    if (!same_ignoring_case(header.name, name)) continue;
    if (value) {
      if (value->data() != fields.joined.data()) fields.joined = *value;
      value = fields.joined.append(",").append(header.value);
    } else {
      value = header.value;
    }
  }
  return value;
}

const objects::Route* match_path(const objects::RouteTable& table, const http::Head& head,
                                 const ForwardedHead& forwarded, size_t listener, std::string_view path) {
  const std::string_view target = forwarded.path;
  const size_t mark = target.find('?');
  const Fields fields{head, {}};
  return table.match({
      .host = forwarded.host,
      .path = path,
      .query = mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1),
      .method = forwarded.method,
      .header = header_value,
      .context = &fields,
      .listener = listener,
  });
}

// The first of the table's pools for which `fits` is true.
template <typename Fits>
const endpoints::Pool* first_pool(const endpoints::Snapshot& snapshot, Fits fits) {
  for (size_t i = 0; i < snapshot.routes->pools().size(); ++i) {
    const endpoints::Pool* const pool = pool_at(snapshot, static_cast<int32_t>(i));
    if (pool != nullptr && fits(*pool)) return pool;
  }
  return nullptr;
}

// Some endpoint does not list its models. A pool without endpoints counts too: what it would serve is unknown.
bool has_unknown(const endpoints::Pool& pool) {
  return pool.endpoints.empty() ||
         std::any_of(pool.endpoints.begin(), pool.endpoints.end(),
                     [](const endpoints::EndpointView& endpoint) { return endpoint.models.empty(); });
}

}  // namespace

const endpoints::Pool* pool_at(const endpoints::Snapshot& snapshot, int32_t index) {
  if (index < 0 || static_cast<size_t>(index) >= snapshot.route_pools.size()) return nullptr;
  const uint32_t pool = snapshot.route_pools[static_cast<size_t>(index)];
  return pool < snapshot.pools.size() ? &snapshot.pools[pool] : nullptr;
}

const objects::Route* match_route(const objects::RouteTable& table, const http::Head& head,
                                  const ForwardedHead& forwarded, size_t listener) {
  return match_path(table, head, forwarded, listener, http::path_of(forwarded.path));
}

// No request has this path, since no canonical one has a control character. So a rule that matches it matches every
// path; and if such a rule was the best for the request's own path, it is also the best for this one.
bool names_path(const objects::RouteTable& table, const http::Head& head, const ForwardedHead& forwarded,
                size_t listener, const objects::Route* rule) {
  return match_path(table, head, forwarded, listener, "/\x7f") != rule;
}

const endpoints::Pool* pool_of_model(const endpoints::Snapshot& snapshot, std::string_view model) {
  if (const auto* pool = pool_at(snapshot, snapshot.routes->pool_of_model(model)); pool != nullptr) return pool;
  const auto listed = [&](const endpoints::Pool& pool) {
    return std::any_of(pool.endpoints.begin(), pool.endpoints.end(),
                       [&](const endpoints::EndpointView& endpoint) { return lists(endpoint, model); });
  };
  const auto leads = [](const endpoints::Pool& pool) { return pool.rewrites && pool.rewrites->generic() != nullptr; };
  if (const auto* pool = first_pool(snapshot, listed); pool != nullptr) return pool;
  if (const auto* pool = first_pool(snapshot, leads); pool != nullptr) return pool;
  return first_pool(snapshot, has_unknown);
}

std::vector<const endpoints::Pool*> reachable_pools(const endpoints::Snapshot& snapshot, const objects::Route* route) {
  std::vector<const endpoints::Pool*> pools;
  const auto add = [&](const endpoints::Pool* pool) {
    if (pool != nullptr && std::find(pools.begin(), pools.end(), pool) == pools.end()) pools.push_back(pool);
  };
  if (snapshot.routes == nullptr) {
    if (!snapshot.pools.empty()) add(&snapshot.pools.front());
  } else if (route != nullptr) {
    for (const objects::RouteBackend& backend : route->backends) {
      if (backend.weight > 0) add(pool_at(snapshot, backend.pool));
    }
  } else {
    for (size_t i = 0; i < snapshot.routes->pools().size(); ++i) add(pool_at(snapshot, static_cast<int32_t>(i)));
  }
  return pools;
}

const endpoints::EndpointView* endpoint_at(const endpoints::Pool& pool, uint32_t slot, uint32_t incarnation) {
  const auto at = std::find_if(pool.endpoints.begin(), pool.endpoints.end(), [&](const endpoints::EndpointView& view) {
    return view.state->slot == slot && view.state->incarnation == incarnation;
  });
  return at == pool.endpoints.end() ? nullptr : &*at;
}

bool lists(const endpoints::EndpointView& endpoint, std::string_view model) {
  return std::find(endpoint.models.begin(), endpoint.models.end(), model) != endpoint.models.end();
}

bool may_serve(const endpoints::Pool& pool, std::string_view model) {
  return std::any_of(pool.endpoints.begin(), pool.endpoints.end(), [&](const endpoints::EndpointView& endpoint) {
    return endpoint.models.empty() || lists(endpoint, model);
  });
}

bool surely_unknown(const endpoints::Pool& pool, std::string_view model) {
  return !pool.endpoints.empty() && !may_serve(pool, model);
}

// FNV-1a, its bits mixed so that each depends on all of them.
uint64_t session_number(std::string_view session, uint64_t purpose) {
  uint64_t hash = 0xcbf29ce484222325ull ^ purpose;
  for (const char c : session) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9ull;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebull;
  return hash ^ (hash >> 31);
}

}  // namespace penstock::proxy
