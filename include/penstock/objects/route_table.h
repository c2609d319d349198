// Which pool answers a request, compiled from HTTPRoutes. Immutable; any thread. match() allocates nothing.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/objects/types.h"

namespace penstock::objects {

enum class Source : uint8_t { inference_pool, selector, service };

// Names a pool among all of them.
struct PoolId {
  Source source = Source::inference_pool;
  std::string ns, name;
  std::string port;  // Services: number or name of the port; "" when there is but one. Else "".
  auto operator<=>(const PoolId&) const = default;
  // What metrics and logs call it: "gaie-sim", "vllm:8000".
  std::string label() const { return port.empty() ? name : name + ':' + port; }
};

// What becomes of the path of a request; its query stays.
struct PathChange {
  enum class Op : uint8_t { keep, replace, replace_prefix };
  Op op = Op::keep;
  std::string value;   // of a prefix: without its last slash
  size_t matched = 0;  // of a prefix: how many letters of the path it takes the place of
  // The target ("/path?query") with its path changed.
  std::string apply(std::string_view target) const;
  bool operator==(const PathChange&) const = default;
};

// Answers instead of a backend.
struct Redirect {
  uint16_t status = 302;
  std::string scheme, hostname;  // "": that of the listener, the request's
  uint16_t port = 0;             // 0: that of the scheme if one is given, else the request's
  PathChange path;
  bool secure = false;  // the listener speaks TLS
  // The value of Location for a request to `host` ("name" or "name:port"); "" when there is no hostname at all.
  std::string location(std::string_view host, std::string_view target) const;
  bool operator==(const Redirect&) const = default;
};

struct RouteFilters {
  std::vector<HeaderChange> request_headers, response_headers;
  std::string hostname;  // of the forwarded request; "": unchanged
  PathChange path;       // likewise
  std::optional<Redirect> redirect;
  bool operator==(const RouteFilters&) const = default;
};

struct RouteBackend {
  int32_t pool = -1;  // index into RouteTable::pools(); -1: the reference leads nowhere, answer 500
  uint32_t weight = 0;
  RouteFilters filters{};  // after those of the rule; its response headers include the rule's
  bool operator==(const RouteBackend&) const = default;
};

// One rule of one HTTPRoute.
struct Route {
  std::string name;  // "namespace/name[rule]"
  std::vector<RouteBackend> backends;
  uint64_t total_weight = 0;  // 0: there is no backend, answer 500
  RouteFilters filters;
  Duration timeout{0};              // of the whole request; 0: none
  Duration backend_timeout{0};      // of each attempt; 0: none
  std::optional<uint32_t> retries;  // attempts after the first, at most
  // The backend for this request, or null when there is none; `random` is uniform over 64 bits.
  const RouteBackend* pick(uint64_t random) const;
};

// What a request looks like to a route table. The views need to live only during the call.
struct RouteQuery {
  std::string_view host;  // value of Host: case, port and a final dot do not matter
  std::string_view path;  // canonical (url_path.h), without query
  std::string_view query;
  std::string_view method;  // "POST"
  // Value of the header field of this name (lower case), or nothing; good until the next call. Rules on headers ask.
  std::optional<std::string_view> (*header)(const void* context, std::string_view name) = nullptr;
  const void* context = nullptr;
  size_t listener = 0;  // which of ResolveOptions::listeners it came to
};

enum class RoutingMode : uint8_t {
  nothing,   // no pool at all: 503
  one_pool,  // pools()[0] answers everything
  by_model,  // several pools and no Gateway: pool_of_model(), then what the pools' servers list
  routes,    // match(); no match is 404
};

class RouteTable {
 public:
  RoutingMode mode() const { return mode_; }
  std::span<const PoolId> pools() const { return pools_; }

  // The rule with the highest precedence that matches, or null. Only in mode routes.
  const Route* match(const RouteQuery& query) const;
  // The pool whose rewrites name this model (as what clients ask for, or as what they are led to), or -1. Only in mode
  // by_model.
  int32_t pool_of_model(std::string_view model) const;

  std::string describe() const;  // for people and tests: everything, a line for each entry in order of precedence

  struct Compiled;  // private to the layer
  RouteTable(RoutingMode mode, std::vector<PoolId> pools, std::shared_ptr<const Compiled> compiled);
  ~RouteTable();

 private:
  RoutingMode mode_;
  std::vector<PoolId> pools_;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace penstock::objects
