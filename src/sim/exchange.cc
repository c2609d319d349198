#include "sim/exchange.h"

#include <algorithm>

#include "penstock/base/text.h"
#include "penstock/http/writer.h"
#include "sim/pages.h"
#include "sim/server.h"

namespace penstock::sim {
namespace {

using downstream::After;

// How much of a stream is formatted before it is offered to the connection.
constexpr size_t kFlushBytes = 128 * 1024;
constexpr size_t kChoicesMax = 2048;
constexpr std::string_view kJson = "application/json", kText = "text/plain; charset=utf-8";

struct Path {
  std::string_view path;
  http::Method method;
  Route route;
};
constexpr Path kPaths[] = {
    {"/v1/chat/completions", http::Method::post, {Page::inference, Api::chat}},
    {"/v1/completions", http::Method::post, {Page::inference, Api::completions}},
    {"/v1/responses", http::Method::post, {Page::inference, Api::responses}},
    {"/v1/messages", http::Method::post, {Page::inference, Api::messages}},
    {"/v1/embeddings", http::Method::post, {Page::inference, Api::embeddings}},
    {"/v1/rerank", http::Method::post, {Page::inference, Api::rerank}},
    {"/v1/score", http::Method::post, {Page::inference, Api::score}},
    {"/metrics", http::Method::get, {Page::metrics}},
    {"/health", http::Method::get, {Page::health}},
    {"/ping", http::Method::get, {Page::health}},
    {"/ping", http::Method::post, {Page::health}},
    {"/v1/models", http::Method::get, {Page::models}},
    {"/version", http::Method::get, {Page::version}},
    {"/reset_prefix_cache", http::Method::post, {Page::reset_cache}},
    {"/rerank", http::Method::post, {Page::inference, Api::rerank}},
    {"/v2/rerank", http::Method::post, {Page::inference, Api::rerank}},
    {"/score", http::Method::post, {Page::inference, Api::score}},
    {"/tokenize", http::Method::post, {Page::local, Api::tokenize}},
    {"/detokenize", http::Method::post, {Page::local, Api::detokenize}},
    {"/v1/load_lora_adapter", http::Method::post, {Page::local, Api::load_lora}},
    {"/v1/unload_lora_adapter", http::Method::post, {Page::local, Api::unload_lora}},
};

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

bool generates(Api api) {
  return api == Api::chat || api == Api::completions || api == Api::responses || api == Api::messages;
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

Route route_of(std::string_view path, http::Method method) {
  const http::Method wanted = method == http::Method::head ? http::Method::get : method;
  Route route;
  for (const Path& known : kPaths) {
    if (path != known.path) continue;
    if (known.method == wanted) return known.route;
    route.page = Page::wrong_method;
  }
  return route;
}

Exchange::Exchange(SimServer& server)
    : server_(server), body_(server.budget()), delay_(net::Timer::of<&Exchange::on_delay>(this)) {}

Exchange::~Exchange() {
  for (auto& choice : choices_) server_.engine().abort(*choice);
}

void Exchange::begin(downstream::Connection& connection, const http::Head& head) {
  connection_ = &connection;
  route_ = route_of(http::path_of(head.target), head.method);
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
    if (fault.ok()) fault_ = *fault;
    else bad_fault_ = fault.error().text;
  }
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
      append_tokens(body, request.prompts[0].text, server_.options().max_model_len);
      return reply(200, kJson, body);
    case Api::detokenize:
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
  writer_.start(shape);
  stream_ = request.stream && generates(route_.api);
}

void Exchange::submit(Request& request) {
  n_ = generates(route_.api) ? request.n : 1;
  const uint64_t salt = mix(lora_ < 0 ? 0 : hash_of(server_.catalog().lora_name(static_cast<size_t>(lora_))),
                            request.cache_salt.empty() ? 0 : hash_of(request.cache_salt));
  for (size_t p = 0; p < request.prompt_count; ++p) {
    for (uint32_t k = 0; k < n_; ++k) {
      Choice& choice = add_choice();
      if (k + 1 < n_) choice.stream = request.prompts[p].stream;
      else std::swap(choice.stream, request.prompts[p].stream);
      if (request.echo) choice.echo = request.prompts[p].text;
      const uint32_t room = server_.options().max_model_len - choice.stream.tokens();
      const uint32_t wanted = request.max_tokens.value_or(std::min(room, server_.options().max_tokens_default));
      choice.max_tokens = generates(route_.api) ? wanted : 0;
      choice.min_tokens = request.min_tokens;
      choice.ignore_eos = request.ignore_eos;
      choice.reason_at_max = request.max_tokens ? FinishReason::length : FinishReason::stop;
      choice.text_seed = mix(request.seed, k);
      choice.cache_salt = salt;
      choice.lora = lora_;
      choice.events = this;
      server_.engine().submit(choice, server_.loop().now());
    }
  }
  unfinished_ = choice_count_;
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
  choice.sent = 0;
  choice.echo_sent = choice.ended = choice.end_sent = false;
  return choice;
}

void Exchange::on_token(Sequence& sequence, const Piece& piece) {
  static_cast<Choice&>(sequence).text.append(piece.data(), piece.size());
  if (stream_) server_.mark_dirty(*this);
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

// ---- from the engine to the connection ----

void Exchange::on_drained() {
  flush();
}

void Exchange::flush() {
  while (connection_ != nullptr && !held_ && !connection_->congested()) {
    std::string& out = server_.scratch();
    out.clear();
    size_t head_size = 0;
    const bool complete = format(out, head_size);
    if (out.empty() || !transmit(out, head_size)) return;
    if (complete) return finish(After::keep_alive);
  }
}

// Appends what can be sent now; true when that ends the answer.
bool Exchange::format(std::string& out, size_t& head_size) {
  if (!stream_) {
    if (unfinished_ > 0) return false;
    std::string& body = server_.scratch_body();
    body.clear();
    format_whole(body);
    const size_t length = body.size();
    append_head(out, 200, kJson, &length);
    head_size = out.size();
    out += body;
    return true;
  }
  if (!head_sent_) {
    append_head(out, 200, "text/event-stream; charset=utf-8", nullptr);
    head_size = out.size();
    head_sent_ = true;
  }
  return format_stream(out);
}

bool Exchange::format_stream(std::string& out) {
  if (!opened_) {
    const auto has_text = [](const auto& choice) { return !choice->text.empty() || choice->ended; };
    if (std::none_of(choices_.begin(), choices_.begin() + static_cast<ptrdiff_t>(choice_count_), has_text))
      return false;
    writer_.open(out, static_cast<uint32_t>(choice_count_), tally());
    opened_ = true;
  }
  for (size_t i = 0; i < choice_count_; ++i) {
    if (!format_choice(out, *choices_[i])) return false;
  }
  for (size_t i = 0; i < choice_count_; ++i) {
    if (!choices_[i]->end_sent) return false;
  }
  writer_.close(out, tally(), choices_[0]->text, choices_[0]->reason);
  return true;
}

// False when there is enough to send for now.
bool Exchange::format_choice(std::string& out, Choice& choice) {
  if (choice.end_sent || (choice.text.empty() && !choice.ended)) return true;
  if (!choice.echo.empty() && !choice.echo_sent) writer_.echo(out, choice.index, choice.echo);
  choice.echo_sent = true;
  const size_t chunk = writer_.shape().chunk_bytes;
  Tally so_far = writer_.shape().continuous_usage ? tally() : Tally{};
  while (true) {
    const std::string_view rest = std::string_view(choice.text).substr(choice.sent);
    const bool last = choice.ended && rest.size() <= chunk;
    if (!last && rest.size() < chunk) return true;
    const std::string_view text = rest.substr(0, chunk);
    choice.sent += text.size();
    so_far.completion_tokens = static_cast<uint32_t>(choice.sent / bytes_per_token);
    if (last) {
      writer_.end_choice(out, choice.index, text, choice.reason, so_far);
      choice.end_sent = true;
      return true;
    }
    writer_.text(out, choice.index, text, so_far);
    if (out.size() > kFlushBytes) return false;
  }
}

void Exchange::format_whole(std::string& out) {
  const Tally tally = this->tally();
  if (generates(route_.api)) {
    std::vector<ChoiceView> views;
    views.reserve(choice_count_);
    for (size_t i = 0; i < choice_count_; ++i)
      views.push_back({choices_[i]->echo, choices_[i]->text, choices_[i]->reason});
    return writer_.whole(out, views, tally);
  }
  std::vector<uint64_t> digests;
  for (size_t i = 0; i < choice_count_; ++i) digests.push_back(choices_[i]->stream.digest());
  if (route_.api == Api::embeddings)
    return append_embeddings(out, writer_.shape(), digests, {dimensions_, base64_}, tally);
  if (route_.api == Api::rerank) return append_rerank(out, writer_.shape(), digests, documents_, top_n_, tally);
  append_scores(out, writer_.shape(), digests, tally);
}

// A prompt counts once, however many answers it gets.
Tally Exchange::tally() const {
  Tally tally;
  for (size_t i = 0; i < choice_count_; ++i) {
    tally.completion_tokens += choices_[i]->generated();
    if (i % n_ != 0) continue;
    tally.prompt_tokens += choices_[i]->prompt_tokens();
    tally.cached_tokens += choices_[i]->cached_tokens();
  }
  return tally;
}

void Exchange::append_head(std::string& out, uint16_t status, std::string_view content_type, const size_t* length) {
  http::HeadWriter head(out);
  head.status_line(status);
  head.field("date", server_.date());
  head.field("server", "uvicorn");
  if (length != nullptr) head.field("content-length", *length);
  if (!content_type.empty()) head.field("content-type", content_type);
  head.field("x-request-id", request_id_);
  if (!server_.options().name.empty()) head.field("x-sim-name", server_.options().name);
  const bool framed = length != nullptr || connection_->client_minor_version() >= 1;
  if (length == nullptr && framed) head.field("transfer-encoding", "chunked");
  if (!connection_->can_keep_alive() || !framed) head.field("connection", "close");
  else if (connection_->client_minor_version() == 0) head.field("connection", "keep-alive");
  head.end();
}

// ---- sending, and failing on purpose ----

// False when the exchange has ended or nothing more may be sent.
bool Exchange::transmit(std::string_view bytes, size_t head_size) {
  const Fault::Kind kind = fault_.kind;
  if (kind == Fault::Kind::reset_after || kind == Fault::Kind::stall_after || kind == Fault::Kind::truncate_chunk) {
    return transmit_faulty(bytes, head_size);
  }
  if (connection_->send_raw(bytes)) return true;
  die();
  return false;
}

bool Exchange::transmit_faulty(std::string_view bytes, size_t head_size) {
  const size_t body = bytes.size() - head_size;
  size_t taken = static_cast<size_t>(std::min<uint64_t>(body, fault_.value));
  bool now = fault_.kind != Fault::Kind::truncate_chunk && taken == fault_.value;
  if (fault_.kind == Fault::Kind::truncate_chunk) {
    // In the middle of what there is, but not between two chunks.
    now = body > 0;
    taken = (body + 1) / 2;
    if (taken > 4 && bytes.substr(0, head_size + taken).ends_with("\r\n")) taken -= 4;
  } else {
    fault_.value -= taken;
  }
  if (!connection_->send_raw(bytes.substr(0, head_size + taken))) {
    die();
    return false;
  }
  if (now) strike();
  return !now;
}

void Exchange::strike() {
  if (fault_.kind == Fault::Kind::truncate_chunk) return finish(After::close);
  held_ = true;
  if (fault_.kind == Fault::Kind::stall_after) return;
  resetting_ = true;
  on_delay();
}

void Exchange::on_delay() {
  if (!resetting_) {  // the head was slow enough
    held_ = false;
    return flush();
  }
  // A reset would destroy what the client has not been sent yet.
  if (connection_->queued() > 0) return server_.loop().arm(delay_, milliseconds(1));
  die();
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
  bad_fault_.clear();
  stream_ = head_sent_ = opened_ = held_ = resetting_ = head_only_ = false;
  server_.give_back(*this);
}

}  // namespace penstock::sim
