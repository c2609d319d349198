#include "penstock/objects/route_table.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "penstock/base/assert.h"
#include "penstock/base/text.h"
#include "penstock/base/url_path.h"
#include "route_builder.h"
#include "route_filters.h"

namespace penstock::objects {
namespace {

// The hostname of a Host field in lower case, without port and final dot. Longer ones than DNS allows match nothing
// but what matches every host.
class Hostname {
 public:
  explicit Hostname(std::string_view host) {
    if (host.starts_with('[')) {
      host = host.substr(0, host.find(']') + 1);
    } else {
      host = host.substr(0, host.find(':'));
    }
    if (host.ends_with('.')) host.remove_suffix(1);
    if (host.size() > letters_.size()) return;
    for (const char c : host) letters_[size_++] = lower(c);
  }
  std::string_view text() const { return {letters_.data(), size_}; }

 private:
  std::array<char, 253> letters_;
  size_t size_ = 0;
};

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// A part of a query with its percent signs and pluses undone. Longer ones than fit match nothing.
class Decoded {
 public:
  explicit Decoded(std::string_view text) {
    for (size_t i = 0; i < text.size() && size_ < letters_.size(); ++i, ++size_) {
      const int high = i + 2 < text.size() ? hex(text[i + 1]) : -1, low = high >= 0 ? hex(text[i + 2]) : -1;
      if (text[i] == '%' && low >= 0) {
        letters_[size_] = static_cast<char>(high * 16 + low);
        i += 2;
      } else {
        letters_[size_] = text[i] == '+' ? ' ' : text[i];
      }
    }
    fits_ = size_ < letters_.size();
  }
  bool fits() const { return fits_; }
  std::string_view text() const { return {letters_.data(), size_}; }

 private:
  std::array<char, 1024> letters_;
  size_t size_ = 0;
  bool fits_ = false;
};

// The first parameter of the name decides.
bool query_holds(std::string_view query, const CompiledValue& wanted) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const size_t equals = pair.find('=');
    const Decoded name(pair.substr(0, equals));
    if (!name.fits() || name.text() != wanted.name) continue;
    const Decoded value(equals == std::string_view::npos ? "" : pair.substr(equals + 1));
    return value.fits() && wanted.holds(value.text());
  }
  return false;
}

bool path_holds(const CompiledMatch& match, std::string_view path) {
  switch (match.path_type) {
    case MatchType::exact:
      return path == match.path;
    case MatchType::prefix:
      return path.starts_with(match.path) && (path.size() == match.path.size() || path[match.path.size()] == '/');
    case MatchType::regex:
      break;
  }
  return match.path_pattern->matches(path);
}

Result<CompiledValue> compile_value(const ValueMatch& match, bool header) {
  CompiledValue out{match.name, match.value, std::nullopt};
  if (header) std::transform(out.name.begin(), out.name.end(), out.name.begin(), lower);
  if (match.type != MatchType::regex) return out;
  Result<Pattern> pattern = Pattern::compile(match.value);
  if (!pattern) return Message{"the regular expression for " + match.name + " " + pattern.error().text};
  out.pattern = std::move(pattern).value();
  return out;
}

// Of several conditions on one name the first counts.
Result<std::vector<CompiledValue>> compile_values(const std::vector<ValueMatch>& matches, bool header) {
  std::vector<CompiledValue> out;
  for (const ValueMatch& match : matches) {
    Result<CompiledValue> compiled = compile_value(match, header);
    if (!compiled) return compiled.error();
    const auto same = [&](const CompiledValue& known) { return known.name == compiled->name; };
    if (std::none_of(out.begin(), out.end(), same)) out.push_back(std::move(compiled).value());
  }
  return out;
}

// Smaller comes first: exact paths, expressions, prefixes; then the longer path, a method, more headers, more query
// parameters, the older route, its name, and the order in it.
auto precedence(const RouteEntry& entry) {
  const CompiledMatch& match = *entry.match;
  const int type = match.path_type == MatchType::exact ? 0 : match.path_type == MatchType::regex ? 1 : 2;
  const auto more_first = [](size_t count) { return -static_cast<int64_t>(count); };
  return std::tuple(type, more_first(match.path.size()), match.method.empty(), more_first(match.headers.size()),
                    more_first(match.queries.size()), entry.created, std::string_view(entry.ns),
                    std::string_view(entry.name), entry.rule, entry.index);
}

const char* describe(MatchType type) {
  return type == MatchType::exact ? "=" : type == MatchType::regex ? "~" : "^";
}

void describe(std::string& out, const RouteEntry& entry) {
  const CompiledMatch& match = *entry.match;
  out.append(describe(match.path_type)).append(match.path.empty() ? "/" : match.path);
  if (!match.method.empty()) out.append(" ").append(match.method);
  for (const auto& [list, mark] : {std::pair(&match.headers, " header "), std::pair(&match.queries, " query ")}) {
    for (const CompiledValue& value : *list) {
      out.append(mark).append(value.name).append(value.pattern ? "~" : "=").append(value.value);
    }
  }
}

void describe_limits(std::string& out, const Route& route) {
  if (route.timeout.count() > 0) out.append(" timeout ").append(std::to_string(to_ms(route.timeout))).append("ms");
  if (route.backend_timeout.count() > 0) {
    out.append(" of an attempt ").append(std::to_string(to_ms(route.backend_timeout))).append("ms");
  }
  if (route.retries) out.append(" retries ").append(std::to_string(*route.retries));
}

}  // namespace

bool CompiledMatch::holds(const RouteQuery& query) const {
  if (!path_holds(*this, query.path)) return false;
  if (!method.empty() && method != query.method) return false;
  for (const CompiledValue& wanted : headers) {
    const auto value = query.header == nullptr ? std::nullopt : query.header(query.context, wanted.name);
    if (!value || !wanted.holds(*value)) return false;
  }
  return std::all_of(queries.begin(), queries.end(),
                     [&](const CompiledValue& wanted) { return query_holds(query.query, wanted); });
}

Result<CompiledMatch> compile_match(const RouteMatch& match) {
  CompiledMatch out;
  out.path_type = match.path.type;
  out.path = match.path.value;
  out.method = match.method;
  // Requests are compared in canonical form. A path that no request may have stays as it is, and never matches.
  if (out.path_type != MatchType::regex) static_cast<void>(canonicalise_target(out.path));
  if (out.path_type == MatchType::prefix) {
    while (out.path.ends_with('/')) out.path.pop_back();
  }
  if (out.path_type == MatchType::regex) {
    Result<Pattern> pattern = Pattern::compile(out.path);
    if (!pattern) return Message{"the regular expression for the path " + pattern.error().text};
    out.path_pattern = std::move(pattern).value();
  }
  Result<std::vector<CompiledValue>> headers = compile_values(match.headers, true);
  if (!headers) return headers.error();
  Result<std::vector<CompiledValue>> queries = compile_values(match.queries, false);
  if (!queries) return queries.error();
  out.headers = std::move(headers).value();
  out.queries = std::move(queries).value();
  return out;
}

std::shared_ptr<const RouteTable::Compiled> compile_routes(std::vector<Route> routes, std::vector<RouteEntry> entries,
                                                           const ListenerMap& map) {
  auto out = std::make_shared<RouteTable::Compiled>(RouteTable::Compiled{.routes = std::move(routes), .map = map});
  for (RouteEntry& entry : entries) {
    PENSTOCK_ASSERT(entry.route < out->routes.size());
    out->tables.at(entry.table).of(entry.listener_host).of(entry.host).push_back(std::move(entry));
  }
  for (auto& table : out->tables) {
    table.each_value([](HostMap<RouteTable::Compiled::Bucket>& hosts) {
      hosts.seal();
      hosts.each_value([](RouteTable::Compiled::Bucket& bucket) {
        std::sort(bucket.begin(), bucket.end(),
                  [](const RouteEntry& a, const RouteEntry& b) { return precedence(a) < precedence(b); });
      });
    });
    table.seal();
  }
  return out;
}

const RouteBackend* Route::pick(uint64_t random) const {
  if (total_weight == 0) return nullptr;
  uint64_t at = random % total_weight;
  for (const RouteBackend& backend : backends) {
    if (at < backend.weight) return &backend;
    at -= backend.weight;
  }
  return nullptr;
}

RouteTable::RouteTable(RoutingMode mode, std::vector<PoolId> pools, std::shared_ptr<const Compiled> compiled)
    : mode_(mode), pools_(std::move(pools)), compiled_(std::move(compiled)) {
  PENSTOCK_ASSERT(compiled_ != nullptr);
}
RouteTable::~RouteTable() = default;

const Route* RouteTable::match(const RouteQuery& query) const {
  const Hostname host(query.host);
  const Route* found = nullptr;
  const auto in_bucket = [&](const Compiled::Bucket& bucket) {
    for (const RouteEntry& entry : bucket) {
      if (!entry.match->holds(query)) continue;
      found = &compiled_->routes[entry.route];
      return true;
    }
    return false;
  };
  const auto& listeners = compiled_->tables[compiled_->map.table_of(query.listener)];
  listeners.visit_matching(host.text(), [&](const HostMap<Compiled::Bucket>& hosts) {
    hosts.visit_matching(host.text(), in_bucket);
    return true;  // no other listener's routes
  });
  return found;
}

int32_t RouteTable::pool_of_model(std::string_view model) const {
  const auto& models = compiled_->models;
  const auto at = std::lower_bound(models.begin(), models.end(), model,
                                   [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
  return at != models.end() && at->first == model ? at->second : -1;
}

std::string RouteTable::describe() const {
  constexpr const char* modes[] = {"nothing", "one_pool", "by_model", "routes"};
  std::string out = std::string("routing ") + modes[static_cast<size_t>(mode_)] + "\n";
  const auto pool_name = [&](int32_t pool) {
    return pool < 0 ? std::string("error")
                    : pools_[static_cast<size_t>(pool)].ns + '/' + pools_[static_cast<size_t>(pool)].label();
  };
  for (size_t i = 0; i < pools_.size(); ++i) {
    out.append("  to ").append(pool_name(static_cast<int32_t>(i))).append("\n");
  }
  for (const auto& [model, pool] : compiled_->models) out += "  model " + model + " -> " + pool_name(pool) + "\n";
  const auto describe_entry = [&](const RouteEntry& entry) {
    const Route& route = compiled_->routes[entry.route];
    objects::describe(out, entry);
    out.append(" -> ").append(route.name);
    for (const RouteBackend& backend : route.backends) {
      out.append(" ").append(std::to_string(backend.weight)).append("*").append(pool_name(backend.pool));
      std::string filters;
      describe_filters(filters, backend.filters);
      if (!filters.empty()) out.append(" (").append(filters.substr(1)).append(")");
    }
    if (route.total_weight == 0 && !route.filters.redirect) out += " error";
    describe_filters(out, route.filters);
    describe_limits(out, route);
    out += "\n";
  };
  for (size_t table = 0; table < compiled_->tables.size(); ++table) {
    const std::string ours = compiled_->tables.size() == 1 ? "" : "  at " + compiled_->map.names_of(table);
    compiled_->tables[table].each([&](const std::string& listener, const HostMap<Compiled::Bucket>& hosts) {
      hosts.each([&](const std::string& host, const Compiled::Bucket& bucket) {
        for (const RouteEntry& entry : bucket) {
          out.append(ours).append("  listener ").append(listener).append(" host ").append(host).append(" ");
          describe_entry(entry);
        }
      });
    });
  }
  return out;
}

}  // namespace penstock::objects
