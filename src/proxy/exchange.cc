#include "exchange.h"

#include <algorithm>

#include "failures.h"
#include "penstock/base/assert.h"
#include "penstock/base/containers.h"
#include "penstock/base/text.h"
#include "penstock/openai/paths.h"
#include "penstock/openai/splice.h"
#include "penstock/routing/session_token.h"

namespace penstock::proxy {

namespace {

constexpr size_t small_body_max = 4 * 1024;
constexpr const char* compressed_body_message =
    "The body is compressed (Content-Encoding), and the gateway must be able to read it.";
constexpr size_t client_cache_lines = (sizeof(downstream::Connection) + 63) / 64;

}  // namespace

Exchange::Exchange(Gateway& gateway, Context& context)
    : gateway_(gateway),
      context_(context),
      watch_(context.budget),
      total_deadline_(net::Timer::of<&Exchange::on_total_deadline>(this)),
      body_(context.budget, net::BodyBuffer::Use::begins),
      hold_deadline_(net::Timer::of<&Exchange::on_hold_deadline>(this)),
      attempt_deadline_(net::Timer::of<&Exchange::on_attempt_deadline>(this)) {
  static_assert(sizeof(Exchange) <= 2048,
                "the allocator's next size class is a quarter larger, and every stream would pay for it");
}

Exchange::~Exchange() {
  PENSTOCK_ASSERT(step_ == Step::free);
}

// The journey, as straight-line code:
//
//   head = read_head(client)                  begin(), called when the head is complete
//   body = read_body(client)                  whole, within limits: it is hashed, and needed for retries
//   rule = choose_rule(head)                  if there are routes; applies the rule's changes to the head
//   request = parse(body)                     model, prompt, stream ... if the path is known and the body is JSON
//   pool = choose_pool(rule, request)         by rule or by model; then the model gets the name that this pool uses
//   admit(request)                            waits while every endpoint is saturated, if flow control is on
//   do {
//     endpoint = route(request)               reserves load on the endpoint in the same instant
//     answer = connect(endpoint, head, body)
//   } while (answer failed before its first body byte, and another endpoint may do better)
//   relay(answer, client)
//   finish(outcome)
//
// Cancellation: on_gone() may come at any step; it cancels the attempt and finishes.
void Exchange::advance() {
  Progress progress = Progress::ready;
  while (progress == Progress::ready) {
    switch (step_) {
      case Step::read_body:
        progress = read_body();
        if (progress == Progress::ready) step_ = Step::choose_rule;
        break;
      case Step::choose_rule:
        progress = choose_rule();
        if (progress == Progress::ready) step_ = Step::parse;
        break;
      case Step::parse:
        progress = parse();
        if (progress == Progress::ready) step_ = Step::choose_pool;
        break;
      case Step::choose_pool:
        progress = choose_pool();
        if (progress == Progress::ready) step_ = Step::admit;
        break;
      case Step::admit:
        progress = admit();
        if (progress == Progress::ready) step_ = Step::route;
        break;
      case Step::route:
        progress = route();
        if (progress == Progress::ready) step_ = Step::connect;
        break;
      case Step::connect:
        progress = connect();
        if (progress == Progress::ready) step_ = Step::await_answer;
        break;
      case Step::await_answer:  // on_response_head and what follows
      case Step::relay:         // on_response_raw ... on_response_end
        return;
      case Step::free:
        PENSTOCK_ASSERT(false);
    }
  }
}

// ---- read head ----

bool Exchange::begin(downstream::Connection& client, const http::Head& head) {
  PENSTOCK_ASSERT(step_ == Step::free);
  step_ = Step::read_body;
  client_ = &client;
  began_ = request_read_ = context_.loop.now();
  began_wall_us_ = context_.loop.wall_time_us();
  context_.observer.exchange_started();
  attempts_max_ = context_.options.attempts_max;
  request_head_ = &head;  // valid until the request has been read
  ErrorCode refusal = identify_client(head);
  head_request_ = head.method == http::Method::head;
  announced_body_ = head.content_length;
  if (refusal != ErrorCode::none || !head_acceptable(head, &refusal)) {
    refuse(refusal, refusal == ErrorCode::body_too_large ? body_limit_message() : std::string());
    return false;
  }
  if (context_.options.total_timeout > Duration{0}) context_.loop.arm(total_deadline_, context_.options.total_timeout);
  return true;
}

// Who the client is: for the access log, for limits.connections_per_client (peers themselves are counted when they
// connect), and for what it may be told.
ErrorCode Exchange::identify_client(const http::Head& head) {
  const Options& options = context_.options;
  const ClientIdentity who = identify(client_->peer(), head, options.clients);
  if (who.forwarded) client_ip_ = who.address->to_string();
  else client_ip_ = client_->client_ip();
  head_.assign(head, client_->client_ip(), context_.random, options.identity_headers, who.from_proxy);
  head_.explain = head_.explain && who.may_see(options.clients.explain);
  shows_endpoint_ = who.may_see(options.clients.endpoint_header);
  if (!who.forwarded || options.connections_per_client == 0 || context_.clients == nullptr) return ErrorCode::none;
  if (client_->client_ticket().take(*context_.clients, who.address->client(), options.connections_per_client)) {
    return ErrorCode::none;
  }
  context_.observer.limit_hit("connections_per_client");
  return ErrorCode::too_many_client_connections;
}

bool Exchange::head_acceptable(const http::Head& head, ErrorCode* refusal) const {
  if (head.method == http::Method::connect || head.method == http::Method::trace) {
    *refusal = ErrorCode::method_not_supported;
    return false;
  }
  if (head.content_length > context_.options.body_bytes_max) {
    context_.observer.limit_hit("body_bytes");
    *refusal = ErrorCode::body_too_large;
    return false;
  }
  return true;
}

std::string Exchange::body_limit_message() const {
  return "The request body is larger than limits.body_bytes allows (" +
         std::to_string(context_.options.body_bytes_max) + " bytes).";
}

// ---- read body ----

void Exchange::on_body(std::string_view bytes) {
  request_bytes_ += bytes.size();
  if (request_bytes_ > context_.options.body_bytes_max) {
    context_.observer.limit_hit("body_bytes");
    return refuse(ErrorCode::body_too_large, body_limit_message());
  }
  if (body_.append(bytes, announced_body_)) return;
  context_.observer.limit_hit("memory");
  refuse(ErrorCode::memory_budget_exhausted);
}

void Exchange::on_request_end() {
  request_complete_ = true;
  request_read_ = context_.loop.now();
  advance();
}

void Exchange::on_request_failed(const downstream::RequestFailure& failure) {
  if (failure.no_memory) context_.observer.limit_hit("memory");
  refuse(error_of(failure));
}

Exchange::Progress Exchange::read_body() {
  return request_complete_ ? Progress::ready : Progress::pending;
}

// ---- parse ----

// A JSON body on an inference path is read or refused, whatever type it is announced as (curl -d announces a form): a
// model server may read what this gateway does not. What is forwarded unread (forms with audio, bodies on paths that
// nobody knows) goes where load is least, and waits for room like all others (costs_work_). If a pool renames models,
// choose_pool() also reads the model of JSON bodies on other paths.
Exchange::Progress Exchange::parse() {
  const openai::PathInfo path = openai::path_info(head_.method, head_.target());
  costs_work_ = path.costs_work;
  path_allowed_ = allows(context_.options.paths, path, head_.target());
  if (!path.json || body_.empty()) return Progress::ready;
  const openai::ScanFailure failure = scan(path.api);
  if (starved_) return refused(ErrorCode::memory_budget_exhausted);
  // Not our errors: a server uses its own model if none is named, and itself refuses a request without a prompt.
  const bool lacks = failure.error == openai::ScanError::no_model || failure.error == openai::ScanError::no_prompt;
  if (failure.error != openai::ScanError::none && !lacks) {
    const bool packed = failure.error == openai::ScanError::not_json && head_.has("content-encoding");
    refuse(ErrorCode::invalid_body, packed ? compressed_body_message : failure.message, failure.param);
    return Progress::ended;
  }
  inference_ = path.api != openai::Api::other;
  model_read_ = !request_.model_value.empty();
  if (!model_read_) return Progress::ready;
  copy_text(target_model_, head_.model_rewrite.empty() ? request_.model : head_.model_rewrite);
  return Progress::ready;
}

openai::ScanFailure Exchange::scan(openai::Api api) {
  openai::ScanFailure failure = context_.scanner.scan(api, body_.view(), request_);
  starved_ = failure.error == openai::ScanError::no_memory;
  if (starved_) context_.observer.limit_hit("memory");
  if (failure.error == openai::ScanError::too_long) context_.observer.limit_hit("field_bytes");
  return failure;
}

uint32_t Exchange::estimate_tokens() const {
  // Base64 media are many bytes but few tokens, and only the engine knows how many. Assume a prompt of moderate length.
  // The same for what was not read.
  constexpr size_t media_bytes_max = 32 * 1024;
  if (!costs_work_) return 0;
  if (!inference_) return context_.tokens.estimate(target_model_, std::min(body_.view().size(), media_bytes_max));
  if (request_.prompt_token_ids > 0) return request_.prompt_token_ids;
  const size_t bytes = request_.multimodal ? std::min(request_.prompt_bytes, media_bytes_max) : request_.prompt_bytes;
  return context_.tokens.estimate(target_model_, bytes);
}

// ---- route ----

routing::Decision Exchange::decide(const routing::Features& wanted, Instant now, routing::Explanation* why) {
  const endpoints::Pool* pool = pool_id_.has_value() ? gateway_.pool(*pool_id_) : nullptr;
  if (pool == nullptr) return {.why_none = routing::NoEndpoint::pool_empty};
  return context_.router.decide(wanted, *pool, now, tried_, why);
}

// "" for a model that no endpoint lists: then any endpoint may be chosen, and its engine accepts or refuses the model.
std::string_view Exchange::routed_model() const {
  return model_listed_ ? std::string_view(target_model_) : "";
}

Exchange::Progress Exchange::route() {
  net::Clock& clock = context_.loop.clock();
  const Instant before = clock.now();
  const Instant now = context_.loop.now();
  if (attempts_ == 0) follow_response();
  const routing::Features wanted = features();
  routing::Explanation* const why = context_.observer.explanation_slot(now, head_.explain);
  const routing::Decision decision = decide(wanted, now, why);
  if (decision.told_blocks.has_value()) context_.observer.told_index_asked(*decision.told_blocks);
  if (decision.endpoint != nullptr) {
    endpoint_ = decision.endpoint;
    predicted_ = decision.predicted;
    predicted_at_ = now;
    reserve(decision, wanted, now);
    if (priority_ < 0) make_evictable();
    keep_plan(decision);
    context_.router.picked(wanted, decision, now);
    if (const auto& shadow = decision.shadow; shadow.has_value()) {
      context_.observer.shadow_decided(shadow->agrees, shadow->gain_seconds);
    }
    if (decision.split.has_value()) context_.observer.split_decided(*decision.split, routed_model());
    leave_queue(HoldOutcome::dispatched);
    if (head_.explain && why != nullptr) {
      explanation_ = std::make_unique<std::string>(why->to_header());  // before the observer takes it back
    }
  }
  const Duration cost = clock.now() - before;
  route_cost_ += cost;
  context_.observer.decision_made(cost, decision.endpoint != nullptr, decision.endpoint, routed_model());
  if (decision.endpoint == nullptr) {
    refuse_unrouted(decision.why_none);
    return Progress::ended;
  }
  ++attempts_;
  return Progress::ready;
}

// Reserves the request's load on the chosen endpoint at once, so that every shard sees it.
void Exchange::reserve(const routing::Decision& decision, const routing::Features& wanted, Instant now) {
  matched_blocks_ = decision.matched_blocks;
  prompt_blocks_ = static_cast<uint32_t>(wanted.blocks.size());
  prompt_block_tokens_ = wanted.block_tokens;
  const auto uncached = [&](uint32_t matched_blocks) {
    return prompt_tokens_ - std::min(prompt_tokens_, matched_blocks * wanted.block_tokens);
  };
  const uint32_t output = request_.max_tokens.value_or(context_.options.output_tokens_guess);
  const bool elsewhere = decision.prefill != nullptr;
  // Nothing is learnt of the pace from work that is only guessed.
  const bool observed = inference_ && request_.stream;
  reservation_ = routing::Reservation(*endpoint_, elsewhere ? 0 : uncached(matched_blocks_), prompt_tokens_, output,
                                      now, observed);
  if (elsewhere) {
    reservation_.prefilled_elsewhere();
    prefill_reservation_ = routing::Reservation(*decision.prefill, uncached(decision.prefill_matched_blocks),
                                                prompt_tokens_, 0, now, observed);
  }
  if (wanted.blocks.empty()) return;
  context_.index.record(wanted.blocks, endpoint_->slot);
  if (elsewhere) context_.index.record(wanted.blocks, decision.prefill->slot);
}

// ---- connect and send ----

void Exchange::build_attempt() {
  const std::string_view body = body_.view();
  std::string_view before = body, value, after;
  if (model_renamed()) {
    const openai::Spliced spliced = openai::splice_model(body, request_.model_value, target_model_);
    spliced_model_ = spliced.value;
    before = spliced.before;
    value = spliced_model_;
    after = spliced.after;
  }
  attempt_head_.clear();
  const bool has_body = !body.empty() || head_.method == "POST" || head_.method == "PUT" || head_.method == "PATCH";
  append_request_head(attempt_head_, head_, endpoint_->host_header, has_body,
                      before.size() + value.size() + after.size(), stage_fields_);
  // Sending one piece is cheaper than sending several, if the copy is small.
  if (body.size() <= small_body_max) {
    append_all(attempt_head_, before, value, after);
    before = value = after = {};
  }
  attempt_request_ = {
      .method = head_request_ ? http::Method::head : http::Method::other,
      .pieces = {attempt_head_, before, value, after},
      .connect_timeout = context_.options.connect_timeout,
      .first_byte_timeout = context_.options.first_byte_timeout,
      .chunk_idle_timeout = context_.options.chunk_idle_timeout,
      .fresh = fresh_connection_,
  };
}

Exchange::Progress Exchange::connect() {
  if (attempt_ != nullptr) return Progress::ready;  // on_connected() was called
  build_attempt();
  if (!ListNode<AttemptTag>::linked()) gateway_.unanswered_.push_back(*this);
  attempt_began_ = attempt_sent_ = context_.loop.now();
  if (!counted_running_) {
    counted_running_ = true;
    running_as_ = context_.observer.running_began(counted_kind());
  }
  if (attempt_limit_ > Duration{0}) context_.loop.arm(attempt_deadline_, attempt_limit_);
  attempt_ = &context_.client.start(gateway_.target_of(*endpoint_), attempt_request_, *this);
  return attempt_->reused() ? Progress::ready : Progress::pending;
}

void Exchange::on_connected() {
  attempt_sent_ = context_.loop.now();
  connect_time_ += attempt_sent_ - attempt_began_;
  advance();
}

// ---- the answer ----

void Exchange::on_response_head(http::Head& head) {
  context_.observer.endpoint_answered(*endpoint_, head.status);
  if (consider_refusal(head)) return;
  const std::optional<AttemptFailure> failure = failure_by_status(head);
  reads_refusal_ = failure == AttemptFailure::status_503 && can_read_refusal(head);  // then retry_refusal() decides
  if (failure && !reads_refusal_) {
    if (failure == AttemptFailure::server_full) heed_retry_after(head);
    if (try_again(*failure)) return;
  } else if (!failure && head.status >= 500) {
    penalise(routing::FailureKind::soft, "status_" + std::to_string(head.status));
  }
  step_ = Step::relay;
  first_byte_ = context_.loop.now();
  status_ = head.status;
  framing_ = framing_for(head, head_request_, client_->client_minor_version());
  restoring_ = restores_model(head);
  if (restoring_) begin_restoring(head);
  else if (reads_refusal_) begin_gathering(head);
  answer_keep_alive_ = client_->can_keep_alive() && framing_ != Framing::until_close;
  std::string session_token;
  if (context_.gives_session_tokens) routing::append_session_token(session_token, endpoint_->name);
  append_answer_head(answer_head_, head,
                     {.framing = framing_,
                      .keep_alive = answer_keep_alive_,
                      .client_minor_version = client_->client_minor_version(),
                      .endpoint = shown_endpoint(),
                      .request_id = head_.request_id,
                      .explanation = explanation_ != nullptr ? std::string_view(*explanation_) : "",
                      .session_token = session_token});
  if (!answer_changes_.empty()) change_answer_head(answer_head_, answer_changes_);
  if (framing_ != Framing::none) watch_.begin(head, inference_ ? request_.api : openai::Api::other, request_.n);
  if (request_.api == openai::Api::responses && context_.responses != nullptr) watch_.look_for_response();
  if (watch_.event_stream()) watch_.report_gaps(context_.observer.stream_began(kind()));
}

void Exchange::on_response_data(std::string_view decoded) {
  response_bytes_ += decoded.size();
  // Prefetch what relay() will write to, while this piece is examined.
  for (size_t line = 0; line < client_cache_lines; ++line) {
    __builtin_prefetch(reinterpret_cast<const char*>(client_) + line * 64, 1);
  }
  if (framing_ == Framing::whole) return gather(decoded);
  watch_.feed(decoded, context_.loop.now());
  if (watch_.has_response()) remember_response();
  if (watch_.failure()) return answer_failed(decoded.substr(0, watch_.good_bytes()));
  if (framing_ == Framing::until_close || framing_ == Framing::chunked) static_cast<void>(relay_reframed(decoded));
}

// The last bytes of an answer are its proper end, as far as HTTP can tell: they are withheld if it is none.
void Exchange::on_response_raw(std::string_view raw) {
  if (framing_ != Framing::same) return;
  if (attempt_->ends_here()) {
    watch_.end();
    if (watch_.failure()) return answer_failed({});
  }
  static_cast<void>(relay({}, raw, {}));
}

// Sends a piece of the answer; the head goes in front of the first one. False: the exchange has ended.
bool Exchange::relay(std::string_view before, std::string_view body, std::string_view after) {
  iovec pieces[4];
  size_t count = 0;
  const std::string_view head = answer_started_ ? std::string_view() : std::string_view(answer_head_);
  for (const std::string_view piece : {head, before, body, after}) {
    if (!piece.empty()) pieces[count++] = {const_cast<char*>(piece.data()), piece.size()};
  }
  if (!client_->send({pieces, count})) {
    lose_client();
    return false;
  }
  if (!answer_started_) first_byte_relayed();
  if (attempt_ != nullptr && client_->congested()) attempt_->pause();
  return true;
}

// From here on no retry is possible, so the memory that was kept for one is freed.
void Exchange::first_byte_relayed() {
  answer_started_ = true;
  ListNode<AttemptTag>::unlink();
  if (attempt_ != nullptr) gateway_.relaying_.push_back(*this);
  first_byte_ = context_.loop.now();
  if (status_ < 400) {
    reservation_.first_token(first_byte_);
    prefill_reservation_.first_token(first_byte_);
    if (evictable_ != nullptr) evictable_->prefilled();
    gateway_.room_made();
  }
  prefill_reservation_.release();
  recycle(answer_head_);
  const bool sent = attempt_ == nullptr || attempt_->request_sent();
  if (sent) body_.reset();
  if (attempt_ == nullptr || !watch_.event_stream()) return;
  attempt_->delay_acks();
  free_memory(answer_head_);  // not needed again; with thousands of streams it adds up
  if (sent) free_memory(attempt_head_);
}

void Exchange::on_drained() {
  if (attempt_ != nullptr) attempt_->resume();
}

void Exchange::on_response_end() {
  attempt_ = nullptr;
  attempt_deadline_.cancel();
  if (framing_ != Framing::whole) watch_.end();
  if (watch_.failure()) return answer_failed({});
  if (!relay_end()) return;
  if (watch_.has_response()) remember_response();
  // Only now, not at the head: an endpoint whose streams all break also sends good heads.
  if (status_ < 400) routing::report_success(*endpoint_, context_.loop.now(), context_.options.ejection);
  downstream::Connection& client = *client_;
  client_ = nullptr;
  const bool keep_alive = answer_keep_alive_;
  const bool refused = status_ >= 400 || watch_.ends_in_error();
  finish(status_ >= 500 ? Outcome::endpoint_error : refused ? Outcome::endpoint_4xx : Outcome::ok);
  client.finish_response(keep_alive ? downstream::After::keep_alive : downstream::After::close);
}

}  // namespace penstock::proxy
