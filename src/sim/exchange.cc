#include "sim/exchange.h"

#include <algorithm>

#include "penstock/base/text.h"
#include "sim/pages.h"
#include "sim/server.h"

namespace penstock::sim {
namespace {

using downstream::After;

constexpr size_t kChoicesMax = 2048;
constexpr uint32_t kCompletionTokens = 16;  // vLLM's max_tokens for completions that set none
constexpr std::string_view kJson = "application/json", kText = "text/plain; charset=utf-8";

std::string_view id_prefix(Api api) {
  switch (api) {
    case Api::chat:
      return "chatcmpl-";
    case Api::completions:
      return "cmpl-";
    case Api::responses:
      return "resp_";
    case Api::messages:
      return "msg_";
    case Api::embeddings:
      return "embd-";
    case Api::rerank:
      return "rerank-";
    default:
      return "score-";
  }
}

// "application/json", with parameters or without.
bool is_json(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (content_type.ends_with(' ') || content_type.ends_with('\t')) content_type.remove_suffix(1);
  return same_ignoring_case(content_type, "application/json");
}

uint16_t status_of(const downstream::RequestFailure& failure) {
  if (failure.timed_out) return 408;
  return failure.error == http::ParseError::head_too_large ? 431 : 400;
}

// An id from a client becomes part of ids and of a header: only what can stand there unescaped.
bool usable_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
  });
}

}  // namespace

Exchange::Exchange(SimServer& server)
    : server_(server), body_(server.budget()), delay_(net::Timer::of<&Exchange::on_delay>(this)) {}

Exchange::~Exchange() {
  for (auto& choice : choices_) server_.engine().abort(*choice);
}

void Exchange::begin(downstream::Connection& connection, const http::Head& head) {
  connection_ = &connection;
  route_ = route_of(http::path_of(head.target), head.method, server_.options().tokenizer);
  head_only_ = head.method == http::Method::head;
  expected_body_ = head.has_content_length ? head.content_length : 0;
  const std::string_view id = head.get(http::Field::x_request_id);
  request_id_ = usable_id(id) ? std::string(id) : server_.new_id();
  json_body_ = is_json(head.get(http::Field::content_type));
  if (route_.page != Page::inference) return;
  fault_ = server_.faults().next_request();
  for (const http::Header& header : head.headers()) {
    if (header.field != http::Field::other || !same_ignoring_case(header.name, "x-sim-fail")) continue;
    const Result<Fault> fault = parse_fault(header.value);
    if (fault.ok()) fault_ = server_.faults().drawn(*fault);
    else bad_fault_ = fault.error().text;
  }
  if (!generates(route_.api) && strikes_at_token(fault_.kind)) fault_ = {};  // there are no tokens
}

void Exchange::on_body(std::string_view bytes) {
  if (body_.append(bytes, expected_body_)) return;
  reply_error(413, "The request body is too large for this server.", "", After::close);
}

void Exchange::on_request_failed(const downstream::RequestFailure& failure) {
  reply_error(status_of(failure),
              failure.timed_out ? "The request did not arrive in time." : http::to_string(failure.error), "",
              After::close);
}

void Exchange::on_request_end() {
  switch (route_.page) {
    case Page::not_found:
      return reply(404, kJson, "{\"detail\":\"Not Found\"}");
    case Page::wrong_method:
      return reply(405, kJson, "{\"detail\":\"Method Not Allowed\"}");
    case Page::health:
      return reply(200, kText, "");
    case Page::version:
      return reply(200, kJson, "{\"version\":\"0.11.0\"}");
    case Page::models: {
      std::string body;
      server_.catalog().append_models(body, server_.unix_time(), server_.options().max_model_len);
      return reply(200, kJson, body);
    }
    case Page::metrics:
      return reply(200, "text/plain; version=0.0.4; charset=utf-8", server_.metrics_text());
    case Page::reset_cache:
      if (!server_.reset_cache()) return reply_error(503, "Blocks of the cache are in use.");
      return reply(200, kText, "");
    case Page::inference:
    case Page::local:
      break;
  }
  if (!bad_fault_.empty()) return reply_error(400, bad_fault_, "x-sim-fail");
  if (fault_.kind == Fault::Kind::refuse) return die();
  if (fault_.kind == Fault::Kind::status)
    return reply_error(static_cast<uint16_t>(fault_.value), "This error was asked for.");
  if (!json_body_) return reply_error(400, "Unsupported Media Type: Only 'application/json' is allowed");
  Request& request = server_.scratch_request();
  const auto bad = server_.reader().read(route_.api, body_.view(), request);
  body_.reset();
  if (bad) return reply_error(400, bad->message, bad->param);
  if (route_.page == Page::local) return serve_local(request);
  start_inference(request);
}

// ---- answers from the body alone ----

void Exchange::serve_local(const Request& request) {
  std::string body;
  switch (route_.api) {
    case Api::tokenize:
      if (!accept_model(request)) return;
      append_tokens(body, request.prompts[0].text, server_.options().max_model_len, request.return_token_strs);
      return reply(200, kJson, body);
    case Api::detokenize:
      if (!accept_model(request)) return;
      append_detokenized(body, request.tokens);
      return reply(200, kJson, body);
    default:
      return change_loras(request);
  }
}

void Exchange::change_loras(const Request& request) {
  const bool load = route_.api == Api::load_lora;
  const std::string& name = request.lora_name;
  switch (load ? server_.catalog().load_lora(name) : server_.catalog().unload_lora(name)) {
    case Catalog::Change::done:
      return reply(200, kText,
                   "Success: LoRA adapter '" + name + (load ? "' added successfully." : "' removed successfully."));
    case Catalog::Change::exists:
      return reply_error(400, "The lora adapter '" + name + "' has already been loaded.", "lora_name");
    case Catalog::Change::unknown:
      return reply_error(404, "The lora adapter '" + name + "' cannot be found.", "lora_name");
    case Catalog::Change::full:
      return reply_error(400, "There is no slot left for another adapter.", "lora_name");
  }
}

// ---- inference: from the body to the engine ----

void Exchange::start_inference(Request& request) {
  if (!accept_model(request) || !accept_lengths(request) || !accept_load(request)) return;
  shape_answer(request);
  submit(request);
  if (fault_.kind == Fault::Kind::slow_header) {
    held_ = true;
    server_.loop().arm(delay_, milliseconds(fault_.value));
  }
  // A stream's head goes out before its first token, as it does from uvicorn.
  server_.mark_dirty(*this);
}

bool Exchange::accept_model(const Request& request) {
  const std::optional<int32_t> lora = server_.catalog().find(request.model);
  if (!lora) {
    reply_error(404, "The model `" + request.model + "` does not exist.", "model");
    return false;
  }
  lora_ = *lora;
  return true;
}

bool Exchange::accept_lengths(const Request& request) {
  if (request.prompt_count * request.n > kChoicesMax) {
    reply_error(400, "Too many prompts times n in one request.", "n");
    return false;
  }
  const uint32_t longest = server_.options().max_model_len;
  for (size_t i = 0; i < request.prompt_count; ++i) {
    const uint32_t prompt = request.prompts[i].stream.tokens();
    const uint32_t answer = generates(route_.api) ? request.max_tokens.value_or(1) : 0;
    if (uint64_t{prompt} + answer <= longest) continue;
    reply_error(400,
                "This model's maximum context length is " + std::to_string(longest) +
                    " tokens. However, you requested " + std::to_string(uint64_t{prompt} + answer) + " tokens (" +
                    std::to_string(prompt) + " in the prompt, " + std::to_string(answer) + " in the answer).",
                "max_tokens");
    return false;
  }
  return true;
}

bool Exchange::accept_load(const Request& request) {
  const size_t limit = server_.options().max_num_queued_reqs;
  const size_t wanted = request.prompt_count * (generates(route_.api) ? request.n : 1);
  if (limit == 0 || server_.engine().running() + server_.engine().waiting() + wanted <= limit) return true;
  reply_error(503, "The server has as many requests as it may have.");
  return false;
}

void Exchange::shape_answer(const Request& request) {
  AnswerShape shape;
  shape.api = route_.api;
  shape.chunked = connection_->client_minor_version() >= 1;
  shape.include_usage = request.include_usage;
  shape.continuous_usage = request.include_usage && request.continuous_usage;
  shape.id = std::string(id_prefix(route_.api)) + request_id_;
  shape.model = request.model.empty() ? server_.catalog().first_model() : request.model;
  shape.created = server_.unix_time();
  shape.chunk_bytes = server_.options().tokens_per_chunk * static_cast<uint32_t>(bytes_per_token);
  shape.token_ids = request.return_token_ids;
  if (shape.token_ids) {
    for (std::string_view text = request.prompts[0].text; !text.empty();) {
      const std::string_view token = text.substr(0, bytes_per_token);
      shape.prompt_ids.push_back(token_id_of(token));
      text.remove_prefix(token.size());
    }
  }
  writer_.start(shape);
  stream_ = request.stream && generates(route_.api);
}

void Exchange::submit(Request& request) {
  n_ = generates(route_.api) ? request.n : 1;
  const bool as_vllm = server_.options().max_tokens_default == 0;
  const uint32_t vllms_default = route_.api == Api::completions ? kCompletionTokens : UINT32_MAX;
  const uint64_t salt = mix(lora_ < 0 ? 0 : hash_of(server_.catalog().lora_name(static_cast<size_t>(lora_))),
                            request.cache_salt.empty() ? 0 : hash_of(request.cache_salt));
  for (size_t p = 0; p < request.prompt_count; ++p) {
    for (uint32_t k = 0; k < n_; ++k) {
      Choice& choice = add_choice();
      if (k + 1 < n_) choice.stream = request.prompts[p].stream;
      else std::swap(choice.stream, request.prompts[p].stream);
      if (request.echo) choice.echo = request.prompts[p].text;
      const uint32_t room = server_.options().max_model_len - choice.stream.tokens();
      const uint32_t usual = std::min(room, as_vllm ? vllms_default : server_.options().max_tokens_default);
      choice.max_tokens = generates(route_.api) ? request.max_tokens.value_or(usual) : 0;
      choice.min_tokens = request.min_tokens;
      choice.ignore_eos = request.ignore_eos;
      choice.reason_at_max = request.max_tokens || as_vllm ? FinishReason::length : FinishReason::stop;
      choice.text_seed = mix(request.seed, k);
      choice.cache_salt = salt;
      choice.lora = lora_;
      choice.events = this;
      server_.engine().submit(choice, server_.loop().now());
    }
  }
  unfinished_ = choice_count_;
  stop_ = std::move(request.stop);
  include_stop_ = request.include_stop;
  kept_back_ = 0;
  for (const std::string& stop : stop_) kept_back_ = include_stop_ ? 0 : std::max(kept_back_, stop.size() - 1);
  documents_ = std::move(request.documents);
  top_n_ = request.top_n;
  base64_ = request.base64;
  dimensions_ = request.dimensions == 0 ? server_.options().embedding_dimensions : request.dimensions;
}

Exchange::Choice& Exchange::add_choice() {
  if (choice_count_ == choices_.size()) {
    choices_.push_back(
        std::make_unique<Choice>(server_.options().engine.block_size, server_.options().kv_events.port.has_value()));
  }
  Choice& choice = *choices_[choice_count_];
  choice.reset();
  choice.index = static_cast<uint32_t>(choice_count_++);
  choice.echo.clear();
  choice.text.clear();
  choice.sent = choice.tokens_sent = 0;
  choice.echo_sent = choice.ended = choice.end_sent = false;
  choice.stop = SIZE_MAX;
  choice.cut_to.reset();
  return choice;
}

void Exchange::on_token(Sequence& sequence, const Piece& piece) {
  auto& choice = static_cast<Choice&>(sequence);
  choice.text.append(piece.data(), piece.size());
  if (!stop_.empty()) look_for_stop(choice);
  if (stream_ || strikes_at_token(fault_.kind)) server_.mark_dirty(*this);
}

// In what is new, and where it begins before that. The first one in the request's order ends the answer.
void Exchange::look_for_stop(Choice& choice) {
  if (choice.generated() <= choice.min_tokens) return;
  for (size_t i = 0; i < stop_.size(); ++i) {
    const size_t before = bytes_per_token + stop_[i].size() - 1;
    const size_t at = choice.text.find(stop_[i], choice.text.size() - std::min(choice.text.size(), before));
    if (at == std::string::npos) continue;
    choice.text.resize(include_stop_ ? at + stop_[i].size() : at);
    choice.stop = i;
    choice.stopped = true;
    return;
  }
}

void Exchange::on_finished(Sequence& sequence, FinishReason reason) {
  auto& choice = static_cast<Choice&>(sequence);
  choice.ended = true;
  choice.reason = reason;
  --unfinished_;
  server_.mark_dirty(*this);
}

void Exchange::give_up() {
  if (connection_ == nullptr) return;
  for (size_t i = 0; i < choice_count_; ++i) {
    if (choices_[i]->ended) continue;
    server_.engine().abort(*choices_[i]);
    on_finished(*choices_[i], FinishReason::abort);
  }
}

// ---- ends ----

void Exchange::reply(uint16_t status, std::string_view content_type, std::string_view body, After after) {
  std::string& out = server_.scratch();
  out.clear();
  const size_t length = body.size();
  append_head(out, status, content_type, &length);
  if (!head_only_) out += body;
  if (!connection_->send_raw(out)) return die();
  finish(after);
}

void Exchange::reply_error(uint16_t status, std::string_view message, std::string_view param, After after) {
  std::string body;
  append_error_body(body, status, message, param);
  reply(status, kJson, body, after);
}

// The connection may begin its next request, perhaps with this very object, from inside finish_response().
void Exchange::finish(After after) {
  downstream::Connection& connection = *connection_;
  const bool framed = !stream_ || writer_.shape().chunked;
  release();
  connection.finish_response(framed ? after : After::close);
}

void Exchange::die() {
  downstream::Connection& connection = *connection_;
  release();
  connection.abandon();
}

void Exchange::on_gone(downstream::Gone) {
  release();
}

void Exchange::release() {
  for (size_t i = 0; i < choice_count_; ++i) server_.engine().abort(*choices_[i]);
  delay_.cancel();
  unlink();
  body_.reset();
  connection_ = nullptr;
  choice_count_ = unfinished_ = 0;
  n_ = 1;
  fault_ = {};
  lora_ = -1;
  documents_.clear();
  stop_.clear();
  bad_fault_.clear();
  stream_ = head_sent_ = opened_ = held_ = resetting_ = head_only_ = false;
  server_.give_back(*this);
}

}  // namespace penstock::sim
