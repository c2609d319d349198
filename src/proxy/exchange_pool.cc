// Stages of an exchange: which rule of the routes holds, which pool answers, and by which name that pool's servers know
// the model.
#include <algorithm>
#include <array>
#include <utility>

#include "exchange.h"
#include "model_list.h"
#include "penstock/openai/error_body.h"
#include "penstock/openai/models.h"
#include "pool_choice.h"

namespace penstock::proxy {

namespace {

// Each choice that sticks to a session, by itself.
enum Purpose : uint64_t { backend_of_route = 1, target_of_rewrite = 2 };

constexpr size_t quoted_name_max = 256;

std::string unknown_model_message(std::string_view model) {
  return "The model `" + std::string(model.substr(0, quoted_name_max)) + "` does not exist.";
}

bool renames(const endpoints::Pool& pool) {
  return pool.rewrites != nullptr && !pool.rewrites->empty();
}

// The client's name cannot be put back into an answer that nobody here can read.
const std::array<objects::HeaderChange, 1>& uncompressed() {
  static const std::array<objects::HeaderChange, 1> change = {
      {{objects::HeaderChange::Op::set, "accept-encoding", "identity"}}};
  return change;
}

}  // namespace

// What the rule says of the request's head holds from here on: of a path that it rewrites the new one counts.
Exchange::Progress Exchange::choose_rule() {
  const http::Head& head = *std::exchange(request_head_, nullptr);
  const endpoints::Snapshot* const snapshot = context_.snapshots.get();
  if (snapshot == nullptr || snapshot->routes == nullptr) return Progress::ready;
  if (snapshot->routes->mode() != objects::RoutingMode::routes) return Progress::ready;
  if (has_dot_segment(http::path_of(head_.path))) {
    refuse(ErrorCode::malformed_request, "The path has segments \".\" or \"..\".");
    return Progress::ended;
  }
  rule_ = match_route(*snapshot->routes, head, head_);
  if (rule_ == nullptr) return refused(ErrorCode::route_not_found);
  obey_limits(*rule_);
  return follow(rule_->filters);
}

// Without a pool (none is published yet, or none exists) the exchange goes on: route() finds nobody and says so.
Exchange::Progress Exchange::choose_pool() {
  const endpoints::Snapshot* const snapshot = context_.snapshots.get();
  if (snapshot == nullptr) return Progress::ready;
  const objects::RouteBackend* const backend =
      rule_ == nullptr ? nullptr : rule_->pick(choice_number(backend_of_route));
  if (backend != nullptr) {
    const Progress progress = follow_backend(*backend);
    if (progress != Progress::ready) return progress;
  }
  if (answers_models(*snapshot)) return Progress::ended;
  ErrorCode refusal = ErrorCode::none;
  const endpoints::Pool* const pool = pick_pool(*snapshot, backend, &refusal);
  rule_ = nullptr;
  if (starved_) return refused(ErrorCode::memory_budget_exhausted);
  if (refusal == ErrorCode::model_not_found) return refuse_model(request_.model);
  if (refusal != ErrorCode::none) return refused(refusal);
  if (!inference_ && (pool == nullptr || !reads_model(*pool))) request_.clear();
  if (starved_) return refused(ErrorCode::memory_budget_exhausted);
  if (pool == nullptr) return Progress::ready;
  pool_id_ = pool->id;
  if (!head_.objective.empty() && pool->objectives != nullptr) {
    if (const int32_t* const priority = pool->objectives->find(head_.objective)) priority_ = *priority;
  }
  if (model_read_) name_model(*pool);
  if (inference_) prompt_tokens_ = estimate_tokens();
  if (!model_read_) return Progress::ready;
  // What objects do not tell us of, such as static endpoints, may know more models than it lists.
  const bool refuses = snapshot->routes != nullptr && surely_unknown(*pool, target_model_);
  return refuses ? refuse_model(request_.model) : Progress::ready;
}

Exchange::Progress Exchange::refused(ErrorCode code) {
  refuse(code);
  return Progress::ended;
}

Exchange::Progress Exchange::refuse_model(std::string_view model) {
  refuse(ErrorCode::model_not_found, unknown_model_message(model), "model");
  return Progress::ended;
}

void Exchange::obey_limits(const objects::Route& route) {
  const Duration limit = context_.options.total_timeout;
  if (route.timeout > Duration{0} && (limit <= Duration{0} || route.timeout < limit)) {
    context_.loop.arm_at(total_deadline_, began_ + route.timeout);
  }
  attempt_limit_ = route.backend_timeout;
  if (route.retries) attempts_max_ = 1 + std::min(*route.retries, attempts_limit - 1);
}

// The table is kept only as long as something of it is needed.
Exchange::Progress Exchange::follow(const objects::RouteFilters& filters) {
  if (!filters.response_headers.empty()) {
    route_table_ = context_.snapshots.get()->routes;
    answer_changes_ = filters.response_headers;
  }
  if (filters.redirect) {
    redirect(*filters.redirect);
    return Progress::ended;
  }
  head_.change(filters.request_headers);
  if (!filters.hostname.empty()) head_.host = filters.hostname;
  if (filters.path.op != objects::PathChange::Op::keep) head_.rewritten = filters.path.apply(head_.path);
  return Progress::ready;
}

// With another path the body may mean something else.
Exchange::Progress Exchange::follow_backend(const objects::RouteBackend& backend) {
  const Progress progress = follow(backend.filters);
  const bool moved = backend.filters.path.op != objects::PathChange::Op::keep;
  if (progress != Progress::ready || !moved) return progress;
  forget_parsed();
  return parse();
}

const endpoints::Pool* Exchange::pick_pool(const endpoints::Snapshot& snapshot, const objects::RouteBackend* backend,
                                           ErrorCode* refusal) {
  if (snapshot.routes == nullptr) return snapshot.pools.empty() ? nullptr : &snapshot.pools.front();
  const endpoints::Pool* pool = nullptr;
  switch (snapshot.routes->mode()) {
    case objects::RoutingMode::nothing:
      return nullptr;
    case objects::RoutingMode::one_pool:
      return pool_at(snapshot, 0);
    case objects::RoutingMode::by_model: {
      const std::string_view model = model_for_pool();
      if (model.empty()) return pool_at(snapshot, 0);
      pool = pool_of_model(snapshot, model);
      if (pool == nullptr) *refusal = ErrorCode::model_not_found;
      return pool;
    }
    case objects::RoutingMode::routes:
      if (backend != nullptr) pool = pool_at(snapshot, backend->pool);
      if (pool == nullptr) *refusal = ErrorCode::no_backend;
      return pool;
  }
  return nullptr;
}

// The model that decides between pools; "" when the request names none. Bodies of paths that travel unread otherwise
// (/tokenize, /v1/rerank ...) are read here, for nothing else tells where they belong.
std::string_view Exchange::model_for_pool() {
  if (!head_.model_rewrite.empty()) return head_.model_rewrite;
  if (!inference_) scan_unknown();
  return request_.model;
}

// Leaves the request empty when the body is not JSON.
void Exchange::scan_unknown() {
  if (!has_json()) return;
  const openai::ScanFailure failure = scan(openai::Api::other);
  if (failure.error != openai::ScanError::none) request_.clear();
}

// Of a request that travels unread otherwise: is its model one that may get another name? Requests of pools that rename
// nothing are spared the reading.
bool Exchange::reads_model(const endpoints::Pool& pool) {
  if (head_.model_rewrite.empty() && !renames(pool)) return false;
  if (request_.model_value.empty()) scan_unknown();  // it may have been read to choose the pool
  if (request_.model_value.empty()) return false;
  target_model_ = head_.model_rewrite.empty() ? request_.model : head_.model_rewrite;
  return model_read_ = true;
}

std::string_view Exchange::session() const {
  return head_.session.empty() ? request_.session : head_.session;
}

// For a weighted choice: the same for all requests of a session, if one is given.
uint64_t Exchange::choice_number(uint64_t purpose) {
  const std::string_view of = session();
  return of.empty() ? context_.random.next() : session_number(of, purpose);
}

// The client's name or what its head says, unless a rewrite of the pool says otherwise.
void Exchange::name_model(const endpoints::Pool& pool) {
  if (head_.model_rewrite.empty() && renames(pool)) rewrite_model(pool);
  if (model_renamed()) head_.change(uncompressed());
  model_listed_ = may_serve(pool, target_model_);
}

void Exchange::rewrite_model(const endpoints::Pool& pool) {
  const objects::Rewrites::Rule* const rule = pool.rewrites->find(request_.model);
  if (rule == nullptr) return;
  const objects::Rewrites::Target* const target = rule->pick(choice_number(target_of_rewrite));
  if (target == nullptr) return;
  target_model_ = target->model;
  // A rule for all models takes any name: only those that somebody knows may become labels.
  const bool named = rule != pool.rewrites->generic() || std::any_of(pool.endpoints.begin(), pool.endpoints.end(),
                                                                     [&](const endpoints::EndpointView& endpoint) {
                                                                       return lists(endpoint, request_.model);
                                                                     });
  context_.observer.model_rewritten(rule->object, named ? std::string_view(request_.model) : "other", target_model_);
}

// The list of models is the pools', not one endpoint's, as soon as there is anything to list. False: the request is for
// something else, or an endpoint may know more.
bool Exchange::answers_models(const endpoints::Snapshot& snapshot) {
  if (!head_.target().starts_with("/v1/models")) return false;  // nearly all of them
  const std::optional<std::string> wanted = models_asked_for(head_.method, http::path_of(head_.target()));
  if (!wanted) return false;
  const std::vector<const endpoints::Pool*> pools = reachable_pools(snapshot, rule_);
  const std::vector<std::string_view> names = model_names(pools);
  if (names.empty() && pools.size() <= 1) return false;
  std::string body;
  if (wanted->empty()) {
    std::vector<openai::ModelInfo> models;
    for (const std::string_view name : names) models.push_back(model_info(pools, name));
    openai::append_models(body, models);
  } else if (std::find(names.begin(), names.end(), *wanted) != names.end()) {
    openai::append_model(body, model_info(pools, *wanted));
  } else {
    static_cast<void>(refuse_model(*wanted));
    return true;
  }
  answer_json(body);
  return true;
}

}  // namespace penstock::proxy
