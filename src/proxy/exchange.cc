#include "exchange.h"

#include <strings.h>

#include <algorithm>
#include <charconv>

#include "penstock/base/assert.h"
#include "penstock/http/writer.h"
#include "penstock/openai/error_body.h"
#include "penstock/openai/models.h"
#include "penstock/openai/splice.h"

namespace penstock::proxy {

namespace {

AttemptFailure attempt_failure_of(upstream::Failure failure, bool in_body) {
  switch (failure) {
    case upstream::Failure::connect_refused: return AttemptFailure::connect_refused;
    case upstream::Failure::connect_timeout: return AttemptFailure::connect_timeout;
    case upstream::Failure::connect_failed: return AttemptFailure::connect_failed;
    case upstream::Failure::reset: return in_body ? AttemptFailure::reset_in_body : AttemptFailure::reset_before_response;
    case upstream::Failure::closed: return in_body ? AttemptFailure::closed_in_body : AttemptFailure::closed_before_response;
    case upstream::Failure::first_byte_timeout: return AttemptFailure::first_byte_timeout;
    case upstream::Failure::idle_timeout: return AttemptFailure::idle_timeout;
    case upstream::Failure::bad_response: return AttemptFailure::bad_response;
  }
  return AttemptFailure::bad_response;
}

ErrorCode error_after(AttemptFailure failure) {
  switch (failure) {
    case AttemptFailure::connect_refused:
    case AttemptFailure::connect_timeout:
    case AttemptFailure::connect_failed: return ErrorCode::connect_failed;
    case AttemptFailure::first_byte_timeout:
    case AttemptFailure::idle_timeout: return ErrorCode::endpoint_timeout;
    case AttemptFailure::bad_response: return ErrorCode::bad_endpoint_response;
    case AttemptFailure::status_502:
    case AttemptFailure::status_503:
    case AttemptFailure::status_504: return ErrorCode::endpoints_unavailable;
    default: return ErrorCode::endpoint_closed;
  }
}

// A failure that says the endpoint itself is in trouble at once, as against one that may be this request's.
routing::FailureKind kind_of(AttemptFailure failure) {
  switch (failure) {
    case AttemptFailure::connect_refused:
    case AttemptFailure::connect_timeout:
    case AttemptFailure::connect_failed:
    case AttemptFailure::reset_before_response:
    case AttemptFailure::closed_before_response: return routing::FailureKind::hard;
    default: return routing::FailureKind::soft;
  }
}

bool has_content_encoding(const http::Head& head) {
  constexpr std::string_view name = "content-encoding";
  for (const http::Header& header : head.headers()) {
    if (header.name.size() == name.size() && strncasecmp(header.name.data(), name.data(), name.size()) == 0) return true;
  }
  return false;
}

}  // namespace

Exchange::Exchange(Gateway& gateway, Context& context)
    : gateway_(gateway),
      context_(context),
      total_deadline_(net::Timer::of<&Exchange::on_total_deadline>(this)),
      body_(context.budget),
      sse_(*this),
      answer_body_(context.budget) {}

Exchange::~Exchange() { PENSTOCK_ASSERT(stage_ == Stage::free); }

// The journey, as straight-line code:
//
//   head = read_head(client)                  begin(), called when the head is complete
//   body = read_body(client)                  whole, within limits: it is hashed, and needed for retries
//   request = parse(body)                     model, prompt, stream ... where the path is known and the body is JSON
//   admit(request)
//   do {
//     endpoint = route(request)               reserves load on the endpoint in the same instant
//     answer = connect(endpoint, head, body)
//   } while (answer failed before its first body byte, and another endpoint may do better)
//   relay(answer, client)
//   finish(outcome)
//
// Cancellation: on_gone() may come at any stage; it cancels the attempt and finishes.
void Exchange::advance() {
  Progress progress = Progress::ready;
  while (progress == Progress::ready) {
    switch (stage_) {
      case Stage::read_body:
        progress = read_body();
        if (progress == Progress::ready) stage_ = Stage::parse;
        break;
      case Stage::parse:
        progress = parse();
        if (progress == Progress::ready) stage_ = Stage::admit;
        break;
      case Stage::admit:
        progress = admit();
        if (progress == Progress::ready) stage_ = Stage::route;
        break;
      case Stage::route:
        progress = route();
        if (progress == Progress::ready) stage_ = Stage::connect;
        break;
      case Stage::connect:
        progress = connect();
        if (progress == Progress::ready) stage_ = Stage::await_answer;
        break;
      case Stage::await_answer:  // on_response_head and what follows
      case Stage::relay:         // on_response_raw ... on_response_end
        return;
      case Stage::free: PENSTOCK_ASSERT(false);
    }
  }
}

// ---- read head ----

bool Exchange::begin(downstream::Connection& client, const http::Head& head) {
  PENSTOCK_ASSERT(stage_ == Stage::free);
  stage_ = Stage::read_body;
  client_ = &client;
  began_ = request_read_ = context_.loop.now();
  began_wall_us_ = context_.loop.clock().wall_time_us();
  context_.observer.exchange_started();
  client_ip_ = client.client_ip();
  head_.assign(head, client_ip_, context_.random);
  head_request_ = head.method == http::Method::head;
  announced_body_ = head.content_length;
  ErrorCode refusal;
  if (!head_acceptable(head, &refusal)) {
    refuse(refusal);
    return false;
  }
  if (context_.options.total_timeout > Duration{0}) context_.loop.arm(total_deadline_, context_.options.total_timeout);
  return true;
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

// ---- read body ----

void Exchange::on_body(std::string_view bytes) {
  request_bytes_ += bytes.size();
  if (request_bytes_ > context_.options.body_bytes_max) {
    context_.observer.limit_hit("body_bytes");
    return refuse(ErrorCode::body_too_large);
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

void Exchange::on_request_failed(const downstream::RequestFailure& failure) { refuse(proxy::error_of(failure)); }

Exchange::Progress Exchange::read_body() { return request_complete_ ? Progress::ready : Progress::pending; }

// ---- parse ----

// Paths we do not know, and bodies that are not JSON, travel unread: an endpoint is chosen by load alone.
Exchange::Progress Exchange::parse() {
  if (answers_itself()) {
    answer_models();
    return Progress::ended;
  }
  const openai::Api api = head_.method == "POST" ? openai::api_of(head_.path) : openai::Api::other;
  request_.clear();
  if (api == openai::Api::other || !head_.json || body_.empty()) return Progress::ready;
  const openai::ScanFailure failure = context_.scanner.scan(api, body_.view(), request_);
  if (failure.error == openai::ScanError::not_json) {
    request_.clear();
    return Progress::ready;
  }
  if (failure.error != openai::ScanError::none) {
    refuse(ErrorCode::invalid_body, failure.message, failure.param);
    return Progress::ended;
  }
  inference_ = true;
  target_model_ = head_.model_rewrite.empty() ? request_.model : head_.model_rewrite;
  prompt_tokens_ = request_.prompt_token_ids > 0 ? request_.prompt_token_ids
                                                 : context_.tokens.estimate(target_model_, request_.prompt_bytes);
  return Progress::ready;
}

// The list of models is the pool's, not one endpoint's, as soon as the endpoints have told their own.
bool Exchange::answers_itself() {
  if (head_.method != "GET" || http::path_of(head_.path) != "/v1/models") return false;
  const endpoints::Pool* pool = gateway_.pool();
  if (pool == nullptr) return false;
  for (const endpoints::EndpointView& endpoint : pool->endpoints) {
    if (!endpoint.models.empty()) return true;
  }
  return false;
}

void Exchange::answer_models() {
  std::vector<openai::ModelInfo> models;
  for (const endpoints::EndpointView& endpoint : gateway_.pool()->endpoints) {
    for (const std::string& name : endpoint.models) {
      const bool known = std::any_of(models.begin(), models.end(), [&](const auto& m) { return m.id == name; });
      if (!known) models.push_back({.id = name, .owned_by = "penstock"});
    }
  }
  std::string body;
  openai::append_models(body, models);
  std::string answer;
  http::HeadWriter head(answer);
  const bool keep_alive = client_->can_keep_alive();
  head.status_line(200);
  head.field("content-type", "application/json");
  head.field("content-length", body.size());
  head.field("x-request-id", head_.request_id);
  head.field("connection", keep_alive ? "keep-alive" : "close");
  head.end();
  answer += body;
  status_ = 200;
  response_bytes_ = body.size();
  if (!client_->send(answer)) return lose_client();
  downstream::Connection& client = *client_;
  client_ = nullptr;
  finish(Outcome::ok);
  client.finish_response(keep_alive ? downstream::After::keep_alive : downstream::After::close);
}

// ---- admit ----

Exchange::Progress Exchange::admit() {
  if (gateway_.in_flight() > context_.options.requests_max) {
    context_.observer.limit_hit("requests_per_shard");
    refuse(ErrorCode::too_many_requests);
    return Progress::ended;
  }
  context_.retries.on_request(context_.loop.now());
  return Progress::ready;
}

// ---- route ----

routing::Features Exchange::features() {
  routing::Features features;
  features.model = target_model_;
  features.session = head_.session.empty() ? request_.session : head_.session;
  features.fairness_id = head_.fairness_id;
  features.streaming = request_.stream;
  features.prompt_tokens = prompt_tokens_;
  features.max_tokens = request_.max_tokens.value_or(0);
  features.slo_ttft_ms = head_.slo_ttft_ms;
  features.slo_tpot_ms = head_.slo_tpot_ms;
  features.block_tokens = context_.options.prefix.block_tokens;
  if (!inference_ || !context_.hash_prompts) return features;
  context_.prompt.clear();
  for (const openai::Range& range : request_.prompt) context_.prompt.push_back(range.in(body_.view()));
  routing::hash_prompt(target_model_, request_.cache_salt, context_.prompt, context_.options.prefix, context_.chain);
  features.blocks = context_.chain;
  return features;
}

Exchange::Progress Exchange::route() {
  net::Clock& clock = context_.loop.clock();
  const Instant before = clock.now();
  const Instant now = context_.loop.now();
  const routing::Features wanted = features();
  routing::Explanation why;
  routing::Decision decision;
  if (const endpoints::Pool* pool = gateway_.pool()) {
    decision = context_.router.decide(wanted, *pool, now, {tried_.data(), tried_count_},
                                      head_.explain ? &why : context_.observer.explanation_slot());
  }
  if (decision.endpoint != nullptr) {
    endpoint_ = decision.endpoint;
    matched_blocks_ = decision.matched_blocks;
    prompt_blocks_ = static_cast<uint32_t>(wanted.blocks.size());
    const uint32_t cached = std::min(prompt_tokens_, matched_blocks_ * wanted.block_tokens);
    const uint32_t output = request_.max_tokens.value_or(context_.options.output_tokens_guess);
    reservation_ = routing::Reservation(*endpoint_, prompt_tokens_ - cached, prompt_tokens_, output, now);
    if (!wanted.blocks.empty()) context_.index.record(wanted.blocks, endpoint_->slot);
  }
  const Duration cost = clock.now() - before;
  route_cost_ += cost;
  context_.observer.decision_made(cost, decision.endpoint != nullptr, decision.endpoint, target_model_);
  if (decision.endpoint == nullptr) {
    refuse(tried_count_ > 0 ? last_failure_ : ErrorCode::no_endpoint);
    return Progress::ended;
  }
  if (head_.explain) explanation_ = why.to_header();
  ++attempts_;
  return Progress::ready;
}

// ---- connect and send ----

void Exchange::build_attempt() {
  const std::string_view body = body_.view();
  std::string_view before = body, value, after;
  if (inference_ && target_model_ != request_.model) {
    const openai::Spliced spliced = openai::splice_model(body, request_.model_value, target_model_);
    spliced_model_ = spliced.value;
    before = spliced.before;
    value = spliced_model_;
    after = spliced.after;
  }
  attempt_head_.clear();
  const bool has_body = !body.empty() || head_.method == "POST" || head_.method == "PUT" || head_.method == "PATCH";
  append_request_head(attempt_head_, head_, endpoint_->host_header, has_body, before.size() + value.size() + after.size());
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
  if (attempt_ != nullptr) return Progress::ready;  // on_connected() has come
  build_attempt();
  attempt_began_ = attempt_sent_ = context_.loop.now();
  if (!running_) {
    running_ = true;
    context_.observer.running_changed(request_.model, +1);
  }
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
  const bool worth_another = head.status == 502 || head.status == 503 || head.status == 504;
  if (worth_another) {
    const auto failure = head.status == 502   ? AttemptFailure::status_502
                         : head.status == 503 ? AttemptFailure::status_503
                                              : AttemptFailure::status_504;
    if (try_again(failure, routing::FailureKind::soft)) return;
  } else if (head.status >= 500) {
    penalise(routing::FailureKind::soft);
  } else {
    routing::report_success(*endpoint_, context_.loop.now(), context_.options.ejection);
  }
  stage_ = Stage::relay;
  first_byte_ = context_.loop.now();
  status_ = head.status;
  framing_ = framing_for(head, head_request_, client_->client_minor_version());
  answer_keep_alive_ = client_->can_keep_alive() && framing_ != Framing::until_close;
  append_answer_head(answer_head_, head,
                     {.framing = framing_,
                      .keep_alive = answer_keep_alive_,
                      .client_minor_version = client_->client_minor_version(),
                      .endpoint = endpoint_->address,
                      .request_id = head_.request_id,
                      .explanation = explanation_});
  const std::string_view type = head.get(http::Field::content_type);
  const bool readable = head.status < 300 && !has_content_encoding(head);
  observe_sse_ = readable && type.starts_with("text/event-stream");
  observe_json_ = readable && inference_ && !observe_sse_ && type.starts_with("application/json");
}

void Exchange::on_response_data(std::string_view decoded) {
  response_bytes_ += decoded.size();
  observe_answer(decoded);
  if (framing_ == Framing::until_close) {
    static_cast<void>(relay({}, decoded, {}));
  } else if (framing_ == Framing::chunked) {
    char size_line[20];
    char* end = std::to_chars(size_line, size_line + 16, decoded.size(), 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    static_cast<void>(relay({size_line, static_cast<size_t>(end - size_line)}, decoded, "\r\n"));
  }
}

void Exchange::on_response_raw(std::string_view raw) {
  if (framing_ == Framing::same) static_cast<void>(relay({}, raw, {}));
}

// Watches the answer go by, for metrics and for what routing learns; never changes a byte of it.
void Exchange::observe_answer(std::string_view decoded) {
  if (observe_sse_) return sse_.feed(decoded);
  if (!observe_json_) return;
  constexpr size_t observed_bytes_max = 1024 * 1024;
  if (answer_body_.size() + decoded.size() > observed_bytes_max || !answer_body_.append(decoded, 0)) {
    observe_json_ = false;
    answer_body_.reset();
  }
}

void Exchange::on_sse_event(std::string_view name, std::string_view data) {
  const Instant now = context_.loop.now();
  if (answer_.on_event(name, data) == openai::AnswerObserver::Kind::done) return;
  if (chunks_++ > 0) context_.observer.inter_token(now - last_chunk_);
  last_chunk_ = now;
}

// Sends a piece of the answer, the head in front of the first. False: the exchange has ended.
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

// From here on there is no retry, so what was kept for one can go.
void Exchange::first_byte_relayed() {
  answer_started_ = true;
  first_byte_ = context_.loop.now();
  reservation_.first_token();
  answer_head_.clear();
  answer_head_.shrink_to_fit();
  if (attempt_ == nullptr || attempt_->request_sent()) body_.reset();
}

void Exchange::on_drained() {
  if (attempt_ != nullptr) attempt_->resume();
}

void Exchange::on_response_end() {
  attempt_ = nullptr;
  if (framing_ == Framing::chunked) {
    if (!relay({}, "0\r\n\r\n", {})) return;
  } else if (!answer_started_ && !relay({}, {}, {})) {
    return;
  }
  if (observe_json_) answer_.on_answer(answer_body_.view());
  downstream::Connection& client = *client_;
  client_ = nullptr;
  const bool keep_alive = answer_keep_alive_;
  finish(status_ >= 500 ? Outcome::endpoint_error : Outcome::ok);
  client.finish_response(keep_alive ? downstream::After::keep_alive : downstream::After::close);
}

// ---- failures ----

void Exchange::on_response_failed(upstream::Failure failure, bool received, bool reused) {
  const bool whole_chunks = attempt_->between_chunks();
  attempt_ = nullptr;
  const bool silent = !received && (failure == upstream::Failure::reset || failure == upstream::Failure::closed);
  if (reused && silent && !answer_started_) {
    // The endpoint closed an idle connection just as we used it. It has not seen the request: the same endpoint, on a
    // fresh connection, is no second attempt.
    context_.observer.attempt_failed(AttemptFailure::reuse_race, true);
    fresh_connection_ = true;
    stage_ = Stage::connect;
    return advance();
  }
  const AttemptFailure reason = attempt_failure_of(failure, answer_started_);
  if (answer_started_) return break_stream(reason, whole_chunks);
  if (try_again(reason, kind_of(reason))) return;
  refuse(last_failure_);
}

void Exchange::penalise(routing::FailureKind kind) {
  const bool ejected = routing::report_failure(*endpoint_, kind, context_.loop.now(), context_.options.ejection);
  if (!ejected) return;
  context_.client.drop_idle(endpoint_->slot);
  context_.observer.endpoint_ejected(*endpoint_);
}

// An attempt failed before the first body byte: moves to the next-best endpoint if attempts and budget allow.
// False: it may not, and nothing of the attempt was undone but its penalty. True: the exchange goes on or has ended.
bool Exchange::try_again(AttemptFailure failure, routing::FailureKind kind) {
  penalise(kind);
  last_failure_ = error_after(failure);
  const bool again = attempts_ < context_.options.attempts_max && context_.retries.try_take(context_.loop.now());
  context_.observer.attempt_failed(failure, again);
  if (!again) return false;
  if (attempt_ != nullptr) attempt_->cancel();
  attempt_ = nullptr;
  reservation_.release();
  tried_[tried_count_++] = endpoint_;
  fresh_connection_ = false;
  answer_head_.clear();
  stage_ = Stage::route;
  advance();
  return true;
}

// The endpoint failed after the client has begun to receive: all that is left is to make sure that the client cannot
// take the torso for a whole answer. A stream at an event boundary also gets an error event, which OpenAI clients raise.
void Exchange::break_stream(AttemptFailure failure, bool whole_chunks) {
  penalise(routing::FailureKind::soft);
  context_.observer.attempt_failed(failure, false);
  reason_ = to_string(failure);
  const bool can_insert = framing_ == Framing::same ? whole_chunks : framing_ != Framing::none;
  if (observe_sse_ && can_insert && sse_.at_boundary()) static_cast<void>(client_->send(error_event()));
  downstream::Connection& client = *client_;
  client_ = nullptr;
  finish(Outcome::stream_broken);
  client.finish_response(downstream::After::close);
}

std::string Exchange::error_event() const {
  const ErrorInfo& info = info_of(ErrorCode::stream_broken);
  std::string event = "data: ";
  openai::append_error(event, info.message, info.type, {}, info.name);
  event += "\n\n";
  if (framing_ == Framing::until_close) return event;
  std::string chunk;
  http::append_chunk(chunk, event);
  return chunk;
}

void Exchange::on_gone(downstream::Gone why) {
  client_ = nullptr;
  reason_ = why == downstream::Gone::write_timeout ? "write_timeout" : why == downstream::Gone::cut ? "cut" : "client_gone";
  finish(why == downstream::Gone::write_timeout ? Outcome::timed_out_client
         : why == downstream::Gone::cut         ? Outcome::draining
                                                : Outcome::client_gone);
}

void Exchange::lose_client() {
  client_->abandon();
  client_ = nullptr;
  reason_ = "client_gone";
  finish(Outcome::client_gone);
}

void Exchange::on_total_deadline() {
  if (!answer_started_) return refuse(ErrorCode::endpoint_timeout);
  break_stream(AttemptFailure::total_timeout, attempt_->between_chunks());
}

// ---- the ends ----

void Exchange::refuse(ErrorCode code, std::string_view message, std::string_view param) {
  PENSTOCK_ASSERT(!answer_started_);
  const ErrorInfo& info = info_of(code);
  status_ = info.status;
  reason_ = info.name;
  const bool keep_alive = client_->can_keep_alive();
  const bool sent = client_->send(error_answer(code, message, param, head_.request_id, keep_alive, head_request_));
  downstream::Connection& client = *client_;
  client_ = nullptr;
  finish(info.outcome);
  if (!sent) return client.abandon();
  client.finish_response(keep_alive ? downstream::After::keep_alive : downstream::After::close);
}

void Exchange::finish(Outcome outcome) {
  PENSTOCK_ASSERT(stage_ != Stage::free && client_ == nullptr);
  const Instant now = context_.loop.now();
  if (attempt_ != nullptr) attempt_->cancel();
  attempt_ = nullptr;
  if (running_) context_.observer.running_changed(request_.model, -1);
  const std::optional<openai::Usage>& usage = answer_.usage();
  if (inference_ && usage.has_value()) context_.tokens.learn(target_model_, request_.prompt_bytes, usage->prompt_tokens);
  report(outcome, now);
  reset();
  gateway_.release(*this);
}

void Exchange::report(Outcome outcome, Instant now) {
  ExchangeRecord record;
  record.started_wall_us = began_wall_us_;
  record.total = now - began_;
  if (answer_started_) record.time_to_first_token = first_byte_ - began_;
  record.stage[static_cast<size_t>(proxy::Stage::read)] = request_read_ - began_;
  record.stage[static_cast<size_t>(proxy::Stage::route)] = route_cost_;
  record.stage[static_cast<size_t>(proxy::Stage::connect)] = connect_time_;
  if (answer_started_) {
    record.stage[static_cast<size_t>(proxy::Stage::first_byte)] = first_byte_ - attempt_sent_;
    record.stage[static_cast<size_t>(proxy::Stage::relay)] = now - first_byte_;
  }
  record.outcome = outcome;
  record.status = status_;
  record.method = head_.method;
  record.target = head_.path;
  record.client = client_ip_;
  record.request_id = head_.request_id;
  record.reason = reason_;
  record.inference = inference_;
  record.streaming = observe_sse_;
  if (inference_) {
    record.model = request_.model;
    record.target_model = target_model_;
    record.api = openai::to_string(request_.api);
  }
  record.endpoint = endpoint_;
  record.attempts = attempts_;
  record.request_bytes = request_bytes_;
  record.response_bytes = response_bytes_;
  if (const auto& usage = answer_.usage(); usage.has_value()) {
    record.has_usage = true;
    record.prompt_tokens = usage->prompt_tokens;
    record.completion_tokens = usage->completion_tokens;
    record.cached_tokens = usage->cached_tokens;
  }
  record.chunks = chunks_;
  record.finish_reason = answer_.finish_reason();
  record.matched_blocks = matched_blocks_;
  record.prompt_blocks = prompt_blocks_;
  record.block_bytes = context_.options.prefix.block_tokens * context_.options.prefix.bytes_per_token;
  context_.observer.finished(record);
}

// Back to the state of a new exchange; what memory stays is small.
void Exchange::reset() {
  stage_ = Stage::free;
  total_deadline_.cancel();
  reservation_.release();
  body_.reset();
  answer_body_.reset();
  request_.clear();
  sse_.reset();
  answer_.reset();
  for (std::string* text : {&target_model_, &spliced_model_, &explanation_, &answer_head_, &attempt_head_, &client_ip_}) {
    text->clear();
  }
  head_.clear();
  head_request_ = request_complete_ = inference_ = fresh_connection_ = false;
  answer_started_ = answer_keep_alive_ = observe_sse_ = observe_json_ = running_ = false;
  endpoint_ = nullptr;
  attempts_ = tried_count_ = matched_blocks_ = prompt_blocks_ = chunks_ = 0;
  announced_body_ = request_bytes_ = response_bytes_ = 0;
  last_failure_ = ErrorCode::no_endpoint;
  framing_ = Framing::same;
  status_ = 0;
  reason_ = {};
  route_cost_ = connect_time_ = Duration{0};
}

}  // namespace penstock::proxy
