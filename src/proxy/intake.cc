#include "intake.h"

#include <algorithm>
#include <array>
#include <utility>

#include "model_list.h"
#include "penstock/base/text.h"
#include "penstock/base/url_path.h"
#include "penstock/openai/models.h"
#include "penstock/openai/paths.h"
#include "penstock/openai/response_id.h"
#include "penstock/openai/splice.h"
#include "pool_choice.h"

namespace penstock::proxy {

namespace {

using std::string_view_literals::operator""sv;  // a literal's length need not be counted

// The weighted choices that are the same for all requests of a session. Each has its own random number.
enum Purpose : uint64_t { backend_of_route = 1, target_of_rewrite = 2 };

constexpr const char* compressed_body_message =
    "The body is compressed (Content-Encoding), and the gateway must be able to read it.";

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

std::string cited_model(std::string_view name) {
  constexpr size_t longest = 256;
  return in_quotes(name, longest, '`');
}

void Intake::Kept::recycle() {
  head.clear();
  request.clear();
  proxy::recycle(target_model);
}

Intake::Intake(Context& context, Kept& kept)
    : context_(context),
      head_(kept.head),
      request_(kept.request),
      target_model_(kept.target_model),
      body_(context.budget, net::BodyBuffer::Use::begins),
      attempts_max_(context.options.attempts_max),
      time_limit_(context.options.total_timeout) {}

// ---- the head ----

Verdict Intake::begin(downstream::Responder& client, const http::Head& head) {
  received_ = &head;
  listener_ = static_cast<uint16_t>(client.listener());
  const ErrorCode refusal = identify_client(client, head);
  head_request_ = head.method == http::Method::head;
  announced_body_ = head.content_length;
  if (refusal != ErrorCode::none) return Verdict::refuse(refusal);
  if (head.method == http::Method::connect || head.method == http::Method::trace) {
    return Verdict::refuse(ErrorCode::method_not_supported);
  }
  if (head.content_length <= context_.options.body_bytes_max) return Verdict::go_on();
  context_.observer.limit_hit("body_bytes");
  return Verdict::refuse(ErrorCode::body_too_large, body_limit_message());
}

// Who the client is: for the access log, for limits.connections_per_client (peers themselves are counted when they
// connect), and for what it may be told.
ErrorCode Intake::identify_client(downstream::Responder& client, const http::Head& head) {
  const Options& options = context_.options;
  const ClientIdentity who = identify(client.peer(), head, options.clients);
  if (who.forwarded) client_ip_ = who.address->to_string();
  else client_ip_ = client.client_ip();
  head_.assign(
      head,
      {.ip = client.client_ip(), .protocol = client.protocol(), .tls = client.tls(), .from_proxy = who.from_proxy},
      context_.random, options.identity_headers);
  head_.explain = head_.explain && who.may_see(options.clients.explain);
  shows_endpoint_ = who.may_see(options.clients.endpoint_header);
  if (!who.forwarded || options.connections_per_client == 0 || context_.clients == nullptr) return ErrorCode::none;
  if (client.client_ticket().take(*context_.clients, who.address->client(), options.connections_per_client)) {
    return ErrorCode::none;
  }
  context_.observer.limit_hit("connections_per_client");
  return ErrorCode::too_many_client_connections;
}

std::string Intake::body_limit_message() const {
  return "The request body is larger than limits.body_bytes allows (" +
         std::to_string(context_.options.body_bytes_max) + " bytes).";
}

// ---- the body ----

Verdict Intake::take_body(std::string_view bytes) {
  bytes_ += bytes.size();
  if (bytes_ > context_.options.body_bytes_max) {
    context_.observer.limit_hit("body_bytes");
    return Verdict::refuse(ErrorCode::body_too_large, body_limit_message());
  }
  if (body_.append(bytes, announced_body_)) return Verdict::go_on();
  context_.observer.limit_hit("memory");
  return Verdict::refuse(ErrorCode::memory_budget_exhausted);
}

// ---- the rule ----

// First of all the path gets its canonical form, which decides everything that follows. Then the rule's changes are
// applied to the head. From here on a rewritten path replaces the original one.
Verdict Intake::choose_rule() {
  const http::Head& head = *std::exchange(received_, nullptr);
  if (const char* const problem = canonicalise_target(head_.path)) {
    return Verdict::refuse(ErrorCode::malformed_request, problem);
  }
  const endpoints::Snapshot* const snapshot = context_.snapshots.get();
  if (snapshot == nullptr || snapshot->routes == nullptr) return Verdict::go_on();
  if (snapshot->routes->mode() != objects::RoutingMode::routes) return Verdict::go_on();
  rule_ = match_route(*snapshot->routes, head, head_, listener_);
  if (rule_ == nullptr) return Verdict::refuse(ErrorCode::route_not_found);
  const openai::PathInfo path = openai::path_info(head_.method, head_.path);
  path_named_ =
      !allows(context_.options.paths, path, head_.path) && names_path(*snapshot->routes, head, head_, listener_, rule_);
  apply_limits(*rule_);
  return apply_filters(rule_->filters);
}

void Intake::apply_limits(const objects::Route& route) {
  if (route.timeout > Duration{0} && (time_limit_ <= Duration{0} || route.timeout < time_limit_)) {
    time_limit_ = route.timeout;
  }
  attempt_limit_ = route.backend_timeout;
  if (route.retries) attempts_max_ = 1 + std::min(*route.retries, attempts_limit - 1);
}

// Keeps a reference to the route table only if the answer's head must be changed later.
Verdict Intake::apply_filters(const objects::RouteFilters& filters) {
  if (!filters.response_headers.empty()) {
    route_table_ = context_.snapshots.get()->routes;
    answer_changes_ = filters.response_headers;
  }
  if (filters.redirect) return redirect(*filters.redirect);
  head_.change(filters.request_headers);
  if (!filters.hostname.empty()) head_.host = filters.hostname;
  if (filters.path.op == objects::PathChange::Op::keep) return Verdict::go_on();
  head_.rewritten = filters.path.apply(head_.path);
  path_named_ = !filters.path.value.empty() && filters.path.value != "/";  // not if only a prefix was cut off
  return Verdict::go_on();
}

Verdict Intake::redirect(const objects::Redirect& to) const {
  const std::string location = to.location(head_.host, head_.path);
  if (location.empty()) {
    return Verdict::refuse(ErrorCode::malformed_request, "The request names no host to redirect to.");
  }
  OwnAnswer answer{.status = to.status};
  answer.fields.add("location", location);
  answer.fields.add("content-length", uint64_t{0});
  return Verdict::answer(std::move(answer));
}

// If the backend's filters rewrite the path, the body is parsed again: its meaning depends on the path.
Verdict Intake::apply_backend_filters(const objects::RouteBackend& backend) {
  Verdict verdict = apply_filters(backend.filters);
  const bool moved = backend.filters.path.op != objects::PathChange::Op::keep;
  if (!verdict.goes_on() || !moved) return verdict;
  forget_parsed();
  return parse();
}

// ---- the parsed body ----

// A JSON body on an inference path is read or refused, whatever type it is announced as (curl -d announces a form): a
// model server may read what this gateway does not. What is forwarded unread (forms with audio, bodies on paths that
// nobody knows) goes where load is least, and waits for room like all others (costs_work()). If a pool renames models,
// choose_pool() also reads the model of JSON bodies on other paths.
Verdict Intake::parse() {
  const openai::PathInfo path = openai::path_info(head_.method, head_.target());
  costs_work_ = path.costs_work;
  path_allowed_ = allows(context_.options.paths, path, head_.target());
  if (head_.websocket) read_session();
  if (!path.json || body_.empty()) return Verdict::go_on();
  const openai::ScanFailure failure = scan(path.api);
  if (starved_) return Verdict::refuse(ErrorCode::memory_budget_exhausted);
  // Not our errors: a server uses its own model if none is named, and itself refuses a request without a prompt.
  const bool lacks = failure.error == openai::ScanError::no_model || failure.error == openai::ScanError::no_prompt;
  if (failure.error != openai::ScanError::none && !lacks) {
    const bool packed = failure.error == openai::ScanError::not_json && head_.fields.has("content-encoding");
    return Verdict::refuse(ErrorCode::invalid_body, packed ? compressed_body_message : failure.message, failure.param);
  }
  inference_ = path.api != openai::Api::other;
  model_read_ = !request_.model_value.empty();
  if (!model_read_) return Verdict::go_on();
  copy_text(target_model_, head_.model_rewrite.empty() ? request_.model : head_.model_rewrite);
  return Verdict::go_on();
}

// What a session will ask for is not known. Its model is that of the query, as OpenAI's realtime API has it, if there
// is one. It keeps its name: the frames in which the client may repeat it are not read.
void Intake::read_session() {
  costs_work_ = true;
  request_.model = model_in_query(head_.target());
  model_read_ = !request_.model.empty();
  copy_text(target_model_, request_.model);
}

openai::ScanFailure Intake::scan(openai::Api api) {
  openai::ScanFailure failure = context_.scanner.scan(api, body_.view(), request_);
  starved_ = failure.error == openai::ScanError::no_memory;
  if (starved_) context_.observer.limit_hit("memory");
  if (failure.error == openai::ScanError::too_long) context_.observer.limit_hit("field_bytes");
  return failure;
}

// Undoes parse().
void Intake::forget_parsed() {
  inference_ = costs_work_ = model_read_ = false;
  recycle(target_model_);
  request_.clear();
}

uint32_t Intake::estimate_tokens() const {
  // Base64 media are many bytes but few tokens, and only the engine knows how many. Assume a prompt of moderate length.
  // The same for what was not read.
  constexpr size_t media_bytes_max = 32 * 1024;
  if (!costs_work_) return 0;
  if (!inference_) return context_.tokens.estimate(target_model_, std::min(body_.view().size(), media_bytes_max));
  if (request_.prompt_token_ids > 0) return request_.prompt_token_ids;
  const size_t bytes = request_.multimodal ? std::min(request_.prompt_bytes, media_bytes_max) : request_.prompt_bytes;
  return context_.tokens.estimate(target_model_, bytes);
}

// The body is announced as JSON, or looks like it although the head names another type.
bool Intake::has_json() const {
  return head_.json ? !body_.empty() : looks_like_json(body_.view());
}

// Reads the model of a body on an unknown path. Leaves request_ empty if the body is not JSON.
void Intake::scan_unknown_path() {
  if (!has_json()) return;
  const openai::ScanFailure failure = scan(openai::Api::other);
  if (failure.error != openai::ScanError::none) request_.clear();
}

// ---- the pool ----

// Without a pool (none is published yet, or none exists) the request goes on all the same: routing finds no endpoint
// and refuses it.
Verdict Intake::choose_pool() {
  const endpoints::Snapshot* const snapshot = context_.snapshots.get();
  if (snapshot == nullptr) return Verdict::go_on();
  const objects::RouteBackend* const backend =
      rule_ == nullptr ? nullptr : rule_->pick(choice_number(backend_of_route));
  if (backend != nullptr) {
    Verdict verdict = apply_backend_filters(*backend);
    if (!verdict.goes_on()) return verdict;
  }
  if (!path_named_ && !path_allowed_) {
    context_.observer.limit_hit("paths");
    return Verdict::refuse(ErrorCode::path_not_allowed);
  }
  if (Verdict verdict = answer_models(*snapshot); !verdict.goes_on()) return verdict;
  ErrorCode refusal = ErrorCode::none;
  const endpoints::Pool* const pool = pick_pool(*snapshot, backend, &refusal);
  rule_ = nullptr;
  if (starved_) return Verdict::refuse(ErrorCode::memory_budget_exhausted);
  if (refusal == ErrorCode::model_not_found) return refuse_model(request_.model);
  if (refusal != ErrorCode::none) return Verdict::refuse(refusal);
  if (!inference_ && !model_read_ && (pool == nullptr || !reads_model(*pool))) request_.clear();
  if (starved_) return Verdict::refuse(ErrorCode::memory_budget_exhausted);
  if (pool == nullptr) return Verdict::go_on();
  pool_id_ = pool->id;
  if (!head_.objective.empty() && pool->objectives != nullptr) {
    if (const int32_t* const priority = pool->objectives->find(head_.objective)) priority_ = *priority;
  }
  wants_token_ids_ = needs_token_ids(*pool);
  if (model_read_) name_model(*pool);
  prompt_tokens_ = estimate_tokens();
  // Only endpoints from Kubernetes objects are known to list all their models. Static endpoints may serve more.
  const bool refuses = model_read_ && snapshot->routes != nullptr && surely_unknown(*pool, target_model_);
  return refuses ? refuse_model(request_.model) : Verdict::go_on();
}

Verdict Intake::refuse_model(std::string_view model) const {
  return Verdict::refuse(ErrorCode::model_not_found, "The model " + cited_model(model) + " does not exist.", "model");
}

const endpoints::Pool* Intake::pick_pool(const endpoints::Snapshot& snapshot, const objects::RouteBackend* backend,
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
std::string_view Intake::model_for_pool() {
  if (!head_.model_rewrite.empty()) return head_.model_rewrite;
  if (!inference_ && !model_read_) scan_unknown_path();
  return request_.model;
}

// For a request without a model, where models tell the pools apart. Null: it names no response whose endpoint is known.
const endpoints::Pool* Intake::pool_of_response(const endpoints::Snapshot& snapshot) const {
  const uint64_t key = context_.responses == nullptr ? 0 : named_response();
  const auto owner = key == 0 ? std::nullopt : context_.responses->find(key, context_.loop.now());
  if (!owner) return nullptr;
  const auto at = std::find_if(snapshot.pools.begin(), snapshot.pools.end(), [&](const endpoints::Pool& pool) {
    return endpoint_at(pool, owner->slot, owner->incarnation) != nullptr;
  });
  return at == snapshot.pools.end() ? nullptr : &*at;
}

uint64_t Intake::named_response() const {
  if (request_.api == openai::Api::responses) return request_.previous_response;
  const std::string_view id = openai::response_id_in_path(head_.target());
  return id.empty() ? 0 : openai::response_key(id);
}

// ---- the name of the model ----

// For a request on an unknown path: reads its model if it may have to be renamed. True: it has one.
bool Intake::reads_model(const endpoints::Pool& pool) {
  if (head_.model_rewrite.empty() && !renames(pool)) return false;
  if (request_.model_value.empty()) scan_unknown_path();  // unless model_for_pool() has read it
  if (request_.model_value.empty()) return false;
  target_model_ = head_.model_rewrite.empty() ? request_.model : head_.model_rewrite;
  return model_read_ = true;
}

// Whether its stream may break and be continued, as far as is known by now, in a pool whose engines tell the ids.
bool Intake::needs_token_ids(const endpoints::Pool& pool) const {
  const ResumeOptions& resume = context_.options.resume;
  if (resume.token_ids.empty() || !resume.enabled || head_.never_resume || !inference_ || !model_read_) return false;
  const bool asked = std::any_of(resume.token_ids.begin(), resume.token_ids.end(),
                                 [&](const std::string& name) { return name == "*" || name == pool.name; });
  const bool plain = request_.stream && !request_.has_tools && !request_.multimodal && request_.n <= 1 &&
                     !request_.model_value.empty() &&
                     (request_.api == openai::Api::completions || request_.api == openai::Api::chat_completions);
  return asked && plain && body_.view().find(openai::ids_field) == std::string_view::npos;
}

// Decides target_model(). It is already the client's model or that of the header field x-gateway-model-name-rewrite;
// without that field, a rewrite of the pool may change it.
void Intake::name_model(const endpoints::Pool& pool) {
  if (head_.model_rewrite.empty() && !head_.websocket && renames(pool)) rewrite_model(pool);
  if (model_renamed() || wants_token_ids_) head_.change(uncompressed());
  model_listed_ = may_serve(pool, target_model_);
}

void Intake::rewrite_model(const endpoints::Pool& pool) {
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

// Answers GET and HEAD of /v1/models from what the reachable pools list; but not if nothing is listed and a single
// pool's endpoint can answer better.
Verdict Intake::answer_models(const endpoints::Snapshot& snapshot) const {
  if (!head_.target().starts_with("/v1/models"sv)) return Verdict::go_on();  // the usual case, checked cheaply
  const std::optional<std::string> wanted = models_asked_for(head_.method, http::path_of(head_.target()));
  if (!wanted) return Verdict::go_on();
  const std::vector<const endpoints::Pool*> pools = reachable_pools(snapshot, rule_);
  const std::vector<std::string_view> names = model_names(pools);
  if (names.empty() && pools.size() <= 1) return Verdict::go_on();
  OwnAnswer answer;
  if (wanted->empty()) {
    std::vector<openai::ModelInfo> models;
    for (const std::string_view name : names) models.push_back(model_info(pools, name));
    openai::append_models(answer.body, models);
  } else if (std::find(names.begin(), names.end(), *wanted) != names.end()) {
    openai::append_model(answer.body, model_info(pools, *wanted));
  } else {
    return refuse_model(*wanted);
  }
  answer.fields.add("content-type", "application/json");
  answer.fields.add("content-length", answer.body.size());
  return Verdict::answer(std::move(answer));
}

// ---- what others ask ----

std::string_view Intake::session() const {
  return head_.session.empty() ? request_.session : head_.session;
}

// A random number for a weighted choice: the same for all requests of a session, if the request names one.
uint64_t Intake::choice_number(uint64_t purpose) {
  const std::string_view of = session();
  return of.empty() ? context_.random.next() : session_number(of, purpose);
}

std::string_view Intake::fairness_id() const {
  const std::string* const id = context_.options.certificate_names_flow ? head_.certificate.get() : &head_.fairness_id;
  return id == nullptr || id->empty() ? admission::default_flow : std::string_view(*id);
}

RequestKind Intake::kind() const {
  if (!model_read_) return {.fairness_id = fairness_id(), .priority = priority_};
  return {request_.model, target_model_, fairness_id(), priority_};
}

RequestKind Intake::counted_kind() const {
  return {counted_model(), target_model_, fairness_id(), priority_};
}

uint64_t Intake::kind_number() const {
  return inference_ ? routing::kind_of(target_model_, static_cast<uint32_t>(request_.api)) : 0;
}

}  // namespace penstock::proxy
