// Steps of an exchange: which route rule applies, which pool serves the request, and which name that pool has for the
// model.
#include <algorithm>
#include <array>
#include <utility>

#include "exchange.h"
#include "failures.h"
#include "model_list.h"
#include "penstock/base/text.h"
#include "penstock/base/url_path.h"
#include "penstock/openai/error_body.h"
#include "penstock/openai/models.h"
#include "penstock/openai/paths.h"
#include "pool_choice.h"

namespace penstock::proxy {

namespace {

// The weighted choices that are the same for all requests of a session. Each has its own random number.
enum Purpose : uint64_t { backend_of_route = 1, target_of_rewrite = 2 };

constexpr size_t quoted_name_max = 256;

std::string unknown_model_message(std::string_view model) {
  return "The model " + in_quotes(model, quoted_name_max, '`') + " does not exist.";
}

bool renames(const endpoints::Pool& pool) {
  return pool.rewrites != nullptr && !pool.rewrites->empty();
}

// Asks the endpoint not to compress its answer: the client's model name cannot be restored in a compressed one.
const std::array<objects::HeaderChange, 1>& uncompressed() {
  static const std::array<objects::HeaderChange, 1> change = {
      {{objects::HeaderChange::Op::set, "accept-encoding", "identity"}}};
  return change;
}

}  // namespace

// First of all the path gets its canonical form, which decides everything that follows. Then the rule's changes are
// applied to the head. From here on a rewritten path replaces the original one.
Exchange::Progress Exchange::choose_rule() {
  const http::Head& head = *std::exchange(request_head_, nullptr);
  if (const char* const problem = canonicalise_target(head_.path)) {
    refuse(ErrorCode::malformed_request, problem);
    return Progress::ended;
  }
  const endpoints::Snapshot* const snapshot = context_.snapshots.get();
  if (snapshot == nullptr || snapshot->routes == nullptr) return Progress::ready;
  if (snapshot->routes->mode() != objects::RoutingMode::routes) return Progress::ready;
  rule_ = match_route(*snapshot->routes, head, head_);
  if (rule_ == nullptr) return refused(ErrorCode::route_not_found);
  const openai::PathInfo path = openai::path_info(head_.method, head_.path);
  path_named_ = !allows(context_.options.paths, path, head_.path) && names_path(*snapshot->routes, head, head_, rule_);
  apply_limits(*rule_);
  return apply_filters(rule_->filters);
}

// Without a pool (none is published yet, or none exists) the step is ready all the same: route() finds no endpoint and
// refuses the request.
Exchange::Progress Exchange::choose_pool() {
  const endpoints::Snapshot* const snapshot = context_.snapshots.get();
  if (snapshot == nullptr) return Progress::ready;
  const objects::RouteBackend* const backend =
      rule_ == nullptr ? nullptr : rule_->pick(choice_number(backend_of_route));
  if (backend != nullptr) {
    const Progress progress = apply_backend_filters(*backend);
    if (progress != Progress::ready) return progress;
  }
  if (!path_named_ && !path_allowed_) return refuse_path();
  if (answers_models(*snapshot)) return Progress::ended;
  ErrorCode refusal = ErrorCode::none;
  const endpoints::Pool* const pool = pick_pool(*snapshot, backend, &refusal);
  rule_ = nullptr;
  if (starved_) return refused(ErrorCode::memory_budget_exhausted);
  if (refusal == ErrorCode::model_not_found) return refuse_model(request_.model);
  if (refusal != ErrorCode::none) return refused(refusal);
  if (!inference_ && !model_read_ && (pool == nullptr || !reads_model(*pool))) request_.clear();
  if (starved_) return refused(ErrorCode::memory_budget_exhausted);
  if (pool == nullptr) return Progress::ready;
  pool_id_ = pool->id;
  if (!head_.objective.empty() && pool->objectives != nullptr) {
    if (const int32_t* const priority = pool->objectives->find(head_.objective)) priority_ = *priority;
  }
  if (model_read_) name_model(*pool);
  prompt_tokens_ = estimate_tokens();
  if (!model_read_) return Progress::ready;
  // Only endpoints from Kubernetes objects are known to list all their models. Static endpoints may serve more.
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

Exchange::Progress Exchange::refuse_path() {
  context_.observer.limit_hit("paths");
  return refused(ErrorCode::path_not_allowed);
}

// There is nobody to ask, or nobody left. If others are ready, it is because of the model.
void Exchange::refuse_unrouted(routing::NoEndpoint why) {
  if (!tried_.empty()) return refuse(last_failure_);
  const endpoints::Pool* const pool = pool_id_.has_value() ? gateway_.pool(*pool_id_) : nullptr;
  const auto ready = [](const endpoints::EndpointView& view) { return view.readiness == endpoints::Readiness::ready; };
  const bool others = why == routing::NoEndpoint::none_ready && pool != nullptr &&
                      std::any_of(pool->endpoints.begin(), pool->endpoints.end(), ready);
  if (!others) return refuse(error_of(why));
  refuse(error_of(why),
         "No model server that is ready serves the model " + in_quotes(request_.model, quoted_name_max, '`') + ".");
}

void Exchange::apply_limits(const objects::Route& route) {
  const Duration limit = context_.options.total_timeout;
  if (route.timeout > Duration{0} && (limit <= Duration{0} || route.timeout < limit)) {
    context_.loop.arm_at(total_deadline_, began_ + route.timeout);
  }
  attempt_limit_ = route.backend_timeout;
  if (route.retries) attempts_max_ = 1 + std::min(*route.retries, attempts_limit - 1);
}

// Keeps a reference to the route table only if the answer's head must be changed later.
Exchange::Progress Exchange::apply_filters(const objects::RouteFilters& filters) {
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
  if (filters.path.op == objects::PathChange::Op::keep) return Progress::ready;
  head_.rewritten = filters.path.apply(head_.path);
  path_named_ = !filters.path.value.empty() && filters.path.value != "/";  // not if only a prefix was cut off
  return Progress::ready;
}

// If the backend's filters rewrite the path, the body is parsed again: its meaning depends on the path.
Exchange::Progress Exchange::apply_backend_filters(const objects::RouteBackend& backend) {
  const Progress progress = apply_filters(backend.filters);
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
      if (model.empty()) pool = pool_of_response(snapshot);
      if (model.empty()) return pool != nullptr ? pool : pool_at(snapshot, 0);
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

// The model that decides between pools; "" if the request names none. Bodies on paths that are otherwise not read
// (/tokenize, /v1/rerank ...) are read here, because only their model tells which pool serves them.
std::string_view Exchange::model_for_pool() {
  if (!head_.model_rewrite.empty()) return head_.model_rewrite;
  if (!inference_ && !model_read_) scan_unknown_path();
  return request_.model;
}

// Reads the model of a body on an unknown path. Leaves request_ empty if the body is not JSON.
void Exchange::scan_unknown_path() {
  if (!has_json()) return;
  const openai::ScanFailure failure = scan(openai::Api::other);
  if (failure.error != openai::ScanError::none) request_.clear();
}

// For a request on an unknown path: reads its model if it may have to be renamed. True: it has one.
bool Exchange::reads_model(const endpoints::Pool& pool) {
  if (head_.model_rewrite.empty() && !renames(pool)) return false;
  if (request_.model_value.empty()) scan_unknown_path();  // unless model_for_pool() has read it
  if (request_.model_value.empty()) return false;
  target_model_ = head_.model_rewrite.empty() ? request_.model : head_.model_rewrite;
  return model_read_ = true;
}

std::string_view Exchange::session() const {
  return head_.session.empty() ? request_.session : head_.session;
}

// A random number for a weighted choice: the same for all requests of a session, if the request names one.
uint64_t Exchange::choice_number(uint64_t purpose) {
  const std::string_view of = session();
  return of.empty() ? context_.random.next() : session_number(of, purpose);
}

// Decides target_model_. It is already the client's model or that of the header field x-gateway-model-name-rewrite;
// without that field, a rewrite of the pool may change it.
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
  // A rule for all models matches any name. Only names that an endpoint lists may become metric labels.
  const bool named = rule != pool.rewrites->generic() || std::any_of(pool.endpoints.begin(), pool.endpoints.end(),
                                                                     [&](const endpoints::EndpointView& endpoint) {
                                                                       return lists(endpoint, request_.model);
                                                                     });
  context_.observer.model_rewritten(rule->object, named ? std::string_view(request_.model) : "other", target_model_);
}

// Answers GET and HEAD of /v1/models from what the reachable pools list. False: the request is for another path, or
// nothing is listed and a single pool's endpoint can answer better.
bool Exchange::answers_models(const endpoints::Snapshot& snapshot) {
  if (!head_.target().starts_with("/v1/models")) return false;  // the usual case, checked cheaply
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
