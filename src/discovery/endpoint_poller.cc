#include "endpoint_poller.h"

#include <algorithm>
#include <utility>

#include "penstock/base/assert.h"
#include "penstock/base/log.h"
#include "penstock/http/writer.h"
#include "penstock/openai/models.h"

namespace penstock::discovery {

using endpoints::Readiness;

namespace {

// Of an endpoint that several pools list. It drains everywhere as soon as anybody says so.
Readiness merged(Readiness a, Readiness b) {
  if (a == Readiness::draining || b == Readiness::draining) return Readiness::draining;
  return a == Readiness::ready ? a : b;
}

// vLLM says the time of the answer, anew each time: the first one counts, and is no news afterwards.
void keep_created(const std::vector<endpoints::ServedModel>& known, std::vector<endpoints::ServedModel>& said) {
  for (size_t i = 0; i < said.size(); ++i) {
    if (known[i].created != 0) said[i].created = known[i].created;
  }
}

// While a prompt is computed elsewhere the decoding server does not know the request: it has no queue for that.
bool only_decodes(const EndpointSpec& spec) {
  const std::string* const role = spec.labels == nullptr ? nullptr : objects::find_label(*spec.labels, "llm-d.ai/role");
  return role != nullptr && *role == "decode";
}

// Why a probe failed, for the log.
std::string_view text_of(upstream::Failure failure) {
  switch (failure) {
    case upstream::Failure::connect_refused:
      return "connection refused";
    case upstream::Failure::connect_timeout:
      return "no connection in time";
    case upstream::Failure::connect_failed:
      return "cannot connect";
    case upstream::Failure::tls_failed:
      return "TLS failed";
    case upstream::Failure::no_socket:
      return "no descriptor left in the gateway";
    case upstream::Failure::reset:
    case upstream::Failure::closed:
      return "connection ended before the answer did";
    case upstream::Failure::first_byte_timeout:
    case upstream::Failure::idle_timeout:
      return "no answer in time";
    case upstream::Failure::bad_response:
      return "the answer is not HTTP";
  }
  return "no answer";
}

}  // namespace

EndpointPoller::EndpointPoller(Directory& directory, const std::string& engine, endpoints::EndpointState& state,
                               const net::Address& address)
    : directory_(directory),
      configured_engine_(engine),
      engine_(directory.options_.engines, engine),
      scanner_(engine_.engine(), directory.options_.custom),
      deadline_(net::Timer::of<&EndpointPoller::on_deadline>(this)) {
  target_ = {.key = state.slot,
             .incarnation = state.incarnation,
             .address = address,
             .open_connections = &state.connections,
             .tls_name = state.tls_name ? &*state.tls_name : nullptr,
             .tls_trust = &state.tls_trust};
  view_.state = &state;
  status_.endpoint = state.name;
  status_.since = directory.loop_.now();
}

EndpointPoller::~EndpointPoller() {
  stop_polling();
}

// ---- what is said of it ----

void EndpointPoller::listed(const EndpointSpec& spec, uint64_t round) {
  own_key_ = spec.api_key;
  const bool first = round_ != round;
  round_ = round;
  heard_ = first || !heard_ || !spec.readiness ? spec.readiness : merged(*heard_, *spec.readiness);
}

void EndpointPoller::settle(bool slow_start) {
  if (said_ == heard_) return;
  said_ = heard_;
  status_.since = directory_.loop_.now();
  if (said_ == Readiness::ready) return begin_anew(slow_start);
  stop_polling();
  log::info(said_ == Readiness::draining ? "endpoint drains" : "endpoint is not ready",
            {{"endpoint", view_.state->name}, {"url", view_.state->url}});
  if (said_ != Readiness::draining) return;
  directory_.client_.drop_idle(view_.state->slot);
  directory_.events_.on_draining(*view_.state);
}

// The API server says that it is ready: so it is, whatever our last probe met. Another process than before, unless we
// saw it alive all the time.
void EndpointPoller::begin_anew(bool slow_start) {
  log::info("endpoint is ready", {{"endpoint", view_.state->name}, {"url", view_.state->url}});
  const bool same_process = alive_ == Alive::yes && !died_;
  failures_in_a_row_ = 0;
  unanswered_since_.reset();
  next_health_ = next_models_ = next_metrics_ = {};
  if (slow_start) start_slowly();
  if (same_process) {
    was_ready_ = true;
    return;
  }
  alive_ = Alive::unknown;
  view_.state->health.probe_failed.store(false, std::memory_order_relaxed);
  lose_caches();
}

// When it is ready for the first time, there is nothing yet that could be void.
void EndpointPoller::lose_caches() {
  died_ = false;
  if (std::exchange(was_ready_, true)) directory_.events_.on_caches_lost(*view_.state);
}

void EndpointPoller::start_slowly() {
  view_.state->health.recovered_at_ns.store(directory_.loop_.now().time_since_epoch().count(),
                                            std::memory_order_relaxed);
}

// What a server failed in before it died says nothing of the one that is back. If that fails as well, its next penalty
// is longer all the same.
void EndpointPoller::end_penalty() {
  const int64_t now_ns = directory_.loop_.now().time_since_epoch().count();
  std::atomic<int64_t>& until_ns = view_.state->health.ejected_until_ns;
  if (until_ns.load(std::memory_order_relaxed) <= now_ns) return;
  until_ns.store(now_ns, std::memory_order_relaxed);
  start_slowly();
}

void EndpointPoller::leave() {
  stop_polling();
  directory_.client_.drop_idle(view_.state->slot);
  if (said_ != Readiness::draining) directory_.events_.on_draining(*view_.state);
  directory_.events_.on_caches_lost(*view_.state);
}

void EndpointPoller::set_engine(const std::string& engine) {
  if (engine == configured_engine_) return;
  stop_polling();
  configured_engine_ = engine;
  engine_ = EngineChoice(directory_.options_.engines, engine);
  engine_changed();
  told_of_no_metrics_ = false;
  next_models_ = {};
}

// In the log, if it is known now and not what everybody expects.
void EndpointPoller::tell_engine() {
  if (!engine_.known() || engine_.engine().name == "vllm") return;
  log::info("endpoint runs another engine than vllm",
            {{"endpoint", view_.state->name}, {"url", view_.state->url}, {"engine", engine_.text()}});
}

void EndpointPoller::engine_changed() {
  scanner_ = MetricsScanner(engine_.engine(), directory_.options_.custom);
  view_.metrics = {};
  next_metrics_ = {};
}

void EndpointPoller::stop_polling() {
  if (attempt_ != nullptr) attempt_->cancel();
  attempt_ = nullptr;
  begin_task(Task::none);
  retried_ = false;
}

endpoints::EndpointView EndpointPoller::view(const EndpointSpec& spec) const {
  endpoints::EndpointView view = view_;
  view.last_resort = spec.last_resort;
  view.labels = spec.labels;
  if (only_decodes(spec)) view.metrics.not_counted_at_scrape = 0;
  if (!spec.readiness) {
    view.readiness = alive_ == Alive::yes ? Readiness::ready : Readiness::not_ready;
    view.last_resort = alive_ == Alive::unknown;  // not probed yet
  } else if (said_ == Readiness::draining) {
    view.readiness = Readiness::draining;
  } else if (alive_ == Alive::no && *spec.readiness == Readiness::ready) {
    view.readiness = Readiness::not_ready;
  } else {
    view.readiness = *spec.readiness;
  }
  return view;
}

PollStatus EndpointPoller::status() const {
  PollStatus out = status_;
  out.engine = engine_.text();
  if (!wanted() && out.health.text.empty()) {
    const bool drains = said_ == Readiness::draining;
    out.health = {drains ? "it drains" : "the API server says that it is not ready", status_.since};
  }
  return out;
}

// ---- polling ----

EndpointPoller::Task EndpointPoller::begin_task(Task task) {
  deadline_.cancel();
  directory_.scraping_ += (task == Task::metrics) - (task_ == Task::metrics);
  return std::exchange(task_, task);
}

Instant EndpointPoller::metrics_due(bool traffic) const {
  // The idle interval is cut short as soon as traffic flows again.
  return next_metrics_ - directory_.options_.idle_interval + directory_.scrape_interval(traffic);
}

Instant EndpointPoller::due(bool traffic) const {
  if (said_ == Readiness::draining) return Instant::max();
  if (alive_ != Alive::yes || !wanted()) return next_health_;
  return std::min({next_health_, next_models_, metrics_due(traffic)});
}

void EndpointPoller::poll(Instant now, bool traffic) {
  if (task_ != Task::none || said_ == Readiness::draining) return;
  const PollOptions& options = directory_.options_;
  if (now >= next_health_) {
    const bool impatient = wanted() && alive_ != Alive::yes;
    next_health_ = now + (impatient ? options.health_interval / 4 : options.health_interval);
    return start(Task::health);
  }
  if (alive_ != Alive::yes || !wanted()) return;
  if (now >= next_models_) {
    next_models_ = now + options.models_interval;
    return start(Task::models);
  }
  if (now < metrics_due(traffic)) return;
  next_metrics_ = now + options.idle_interval;
  start(Task::metrics);
}

std::string_view EndpointPoller::path_of(Task task) const {
  const PollOptions& options = directory_.options_;
  if (task == Task::metrics) return options.metrics_path;
  if (task == Task::models) return "/v1/models";
  return options.health_path.empty() ? std::string_view(engine_.health_path()) : options.health_path;
}

const ApiKey* EndpointPoller::api_key() const {
  return own_key_ != nullptr ? own_key_.get() : directory_.options_.api_key.get();
}

void EndpointPoller::start(Task task) {
  begin_task(task);
  task_began_ = directory_.loop_.now();
  status_code_ = 0;
  body_.clear();
  scanner_.reset();
  requests_at_start_ = view_.state->load.requests.load(std::memory_order_relaxed);
  decoding_at_start_ = view_.state->load.decoding.load(std::memory_order_relaxed);
  request_.clear();
  http::HeadWriter head(request_);
  head.request_line("GET", path_of(task));
  head.field("host", view_.state->host_header);
  head.field("user-agent", "penstock");
  if (const ApiKey* const key = api_key()) head.field("authorization", key->authorization);
  head.end();
  upstream::Request request;
  request.pieces[0] = request_;
  request.connect_timeout = request.first_byte_timeout = request.chunk_idle_timeout = directory_.options_.timeout;
  request.fresh = retried_;
  attempt_ = &directory_.client_.start(target_, request, *this);
  directory_.loop_.arm(deadline_, directory_.options_.timeout);
}

// What trickles in for so long is as good as no answer.
void EndpointPoller::on_deadline() {
  attempt_->cancel();
  on_response_failed(upstream::Failure::idle_timeout, /*received=*/true, /*reused=*/false);
}

void EndpointPoller::on_response_head(http::Head& head) {
  unanswered_since_.reset();
  status_code_ = head.status;
}

void EndpointPoller::on_response_data(std::string_view decoded) {
  if (task_ == Task::metrics && status_code_ == 200) scanner_.feed(decoded);
  if (task_ == Task::models && status_code_ == 200 && body_.size() + decoded.size() <= models_bytes_max)
    body_ += decoded;
}

void EndpointPoller::on_response_end(std::string_view /*trailers*/) {
  attempt_ = nullptr;
  retried_ = false;
  const Task task = begin_task(Task::none);
  switch (task) {
    case Task::metrics:
      metrics_done();
      break;
    case Task::models:
      models_done();
      break;
    case Task::health:
      health_done();
      break;
    case Task::none:
      PENSTOCK_ASSERT(false);
  }
  poll(directory_.loop_.now(), /*traffic=*/false);  // a new endpoint's models and metrics follow its health at once
}

void EndpointPoller::on_response_failed(upstream::Failure failure, bool received, bool reused) {
  attempt_ = nullptr;
  const Task task = begin_task(Task::none);
  if (reused && !received && !retried_) {
    // The server closed the idle connection; that says nothing about its health. Once more, on a fresh one.
    retried_ = true;
    (task == Task::health ? next_health_ : task == Task::models ? next_models_ : next_metrics_) = {};
    return poll(directory_.loop_.now(), true);
  }
  retried_ = false;
  if (task == Task::metrics) ++status_.scrape_errors;
  if (task == Task::health && wanted()) ++status_.probe_errors;  // a server that is starting is no error
  const bool certain = failure == upstream::Failure::connect_refused || failure == upstream::Failure::connect_failed ||
                       failure == upstream::Failure::tls_failed;
  const bool late = failure == upstream::Failure::first_byte_timeout || failure == upstream::Failure::idle_timeout;
  std::string why(text_of(failure));
  if (failure == upstream::Failure::tls_failed) why.append(": ").append(directory_.client_.tls_failure());
  note(task, why);
  if (task == Task::health && late) engine_.probe_timed_out();
  not_alive(certain, why);
  // Who has answered with errors is not alive either; one probe without an answer does not make it silent.
  if (alive_ == Alive::no) directory_.events_.on_unreachable(*view_.state);
  const bool silent = certain || failures_in_a_row_ >= directory_.options_.probe_failures;
  const bool waited_for = view_.state->load.requests.load(std::memory_order_relaxed) > 0;
  const auto since = failure == upstream::Failure::connect_refused ? std::nullopt : unanswered_since_;
  if (alive_ == Alive::no && silent && waited_for) directory_.events_.on_silent(*view_.state, since);
  unanswered_since_ = task_began_;
}

void EndpointPoller::note(Task task, const std::string& wrong) {
  Trouble& trouble = task == Task::metrics ? status_.metrics : task == Task::models ? status_.models : status_.health;
  if (wrong.empty()) {
    trouble = {};
    return;
  }
  if (trouble.text.empty()) trouble.since = directory_.loop_.now();
  trouble.text = "GET " + std::string(path_of(task)) + ": " + wrong;
}

std::string EndpointPoller::refusal() const {
  std::string out = "status " + std::to_string(status_code_);
  if (status_code_ != 401 && status_code_ != 403) return out;
  const ApiKey* const key = api_key();
  if (key == nullptr) return out + ": it wants a key (metrics.api_key_file, or api_key_file of the endpoint)";
  return out + ": it refuses the key in " + key->file;
}

void EndpointPoller::health_done() {
  const bool server_error = status_code_ >= 500;
  const bool lives = directory_.options_.health_path.empty() ? engine_.shows_life(status_code_) : !server_error;
  engine_.probe_answered();
  if (lives || server_error) failures_in_a_row_ = 0;
  note(Task::health, lives ? "" : refusal());
  lives ? alive() : not_alive(/*certain=*/server_error, "status " + std::to_string(status_code_));
}

void EndpointPoller::metrics_done() {
  ++status_.scrapes;
  const Signals found = status_code_ == 200 ? scanner_.finish(view_.metrics) : Signals{};
  const bool guessed = !engine_.known();
  if (status_code_ == 200 && engine_.metrics_read(static_cast<bool>(found))) {
    scanner_ = MetricsScanner(engine_.engine(), directory_.options_.custom);
    if (engine_.may_find_metrics()) {
      next_metrics_ = {};
      return;
    }
  }
  probed_ = true;
  if (guessed) tell_engine();
  if (found.implausible) not_believed();
  if (!found) return no_metrics();
  const Instant now = directory_.loop_.now();
  view_.metrics.known = true;
  view_.metrics.scraped_at = now;
  view_.metrics.requests_at_scrape = requests_at_start_;
  const bool counts = found.waiting && found.running;
  view_.metrics.not_counted_at_scrape =
      counts ? endpoints::not_counted(view_.metrics, requests_at_start_, decoding_at_start_) : 0;
  note(Task::metrics, "");
  status_.last_success = now;
  status_.ever = true;
  failures_in_a_row_ = 0;
  directory_.changed(/*at_once=*/false);
}

// Counted each time, said once.
void EndpointPoller::not_believed() {
  ++status_.implausible;
  if (std::exchange(told_of_implausible_, true)) return;
  log::warn("endpoint reports a KV cache that no engine has: its size is ignored",
            {{"endpoint", view_.state->name}, {"url", view_.state->url}, {"engine", engine_.text()}});
}

// Said once: then it is the wrong engine, or its metrics are turned off, and nothing but our own counts tells its load.
void EndpointPoller::no_metrics() {
  ++status_.scrape_errors;
  const std::string reason = status_code_ == 200 ? "no metric of its engine is there" : refusal();
  note(Task::metrics, reason);
  if (std::exchange(told_of_no_metrics_, true)) return;
  log::warn("endpoint has no metrics", {{"endpoint", view_.state->name},
                                        {"url", view_.state->url},
                                        {"engine", engine_.text()},
                                        {"path", directory_.options_.metrics_path},
                                        {"reason", reason}});
}

// Without a list it is taken to serve all models.
void EndpointPoller::no_models(const std::string& reason) {
  note(Task::models, reason);
  next_models_ = directory_.loop_.now() + directory_.options_.health_interval;  // a key may have come meanwhile
  if (std::exchange(told_of_no_models_, true)) return;
  log::warn("endpoint does not list its models",
            {{"endpoint", view_.state->name}, {"url", view_.state->url}, {"reason", reason}});
}

void EndpointPoller::models_done() {
  if (status_code_ == 404) return note(Task::models, "");  // some engines have no such list
  if (status_code_ != 200) return no_models(refusal());
  const auto listed = openai::parse_models(body_);
  if (!listed.ok()) return no_models("the answer is no list of models");
  note(Task::models, "");
  told_of_no_models_ = false;
  std::vector<std::string> models, adapters;
  std::vector<endpoints::ServedModel> served;
  for (const openai::ModelInfo& model : *listed) {
    models.push_back(model.id);
    if (!model.parent.empty()) adapters.push_back(model.id);
    served.push_back({model.created, model.max_model_len, model.owned_by, model.root, model.parent});
  }
  if (!listed->empty() && engine_.models_owned_by(listed->front().owned_by)) {
    engine_changed();
    tell_engine();
  }
  if (models == view_.models && view_.served != nullptr) keep_created(*view_.served, served);
  if (models == view_.models && view_.served != nullptr && served == *view_.served) return;
  view_.models = std::move(models);
  view_.adapters = std::move(adapters);
  view_.served = std::make_shared<const std::vector<endpoints::ServedModel>>(std::move(served));
  directory_.changed(/*at_once=*/true);
}

// A probe that takes as long as the interval leaves room for metrics and models before the next one.
void EndpointPoller::alive() {
  next_health_ = std::max(next_health_, directory_.loop_.now() + directory_.options_.health_interval / 2);
  view_.state->health.probe_failed.store(false, std::memory_order_relaxed);
  set_alive(Alive::yes);
}

void EndpointPoller::not_alive(bool certain, std::string_view reason) {
  probed_ = true;
  if (!certain && ++failures_in_a_row_ < directory_.options_.probe_failures) return;
  view_.state->health.probe_failed.store(true, std::memory_order_relaxed);
  set_alive(Alive::no, reason);
}

void EndpointPoller::set_alive(Alive alive, std::string_view reason) {
  if (alive_ == alive) return;
  const bool expected = said_ == Readiness::ready && alive_ == Alive::unknown && alive == Alive::yes;
  const bool returns = alive_ == Alive::no;
  alive_ = alive;
  if (!expected) status_.since = directory_.loop_.now();
  died_ |= alive == Alive::no;
  if (alive == Alive::no) engine_.forget();
  if (alive == Alive::yes) next_models_ = next_metrics_ = {};
  if (alive == Alive::yes && returns) end_penalty();
  if (expected || !wanted()) return;  // as the API server said, or it says no anyway: nobody sees a difference
  if (alive == Alive::yes) lose_caches();
  if (said_ && returns) start_slowly();
  if (alive == Alive::yes) {
    log::info("endpoint is ready", {{"endpoint", view_.state->name}, {"url", view_.state->url}});
  } else {
    log::warn("endpoint is not ready",
              {{"endpoint", view_.state->name}, {"url", view_.state->url}, {"reason", reason}});
  }
  directory_.changed(/*at_once=*/true);
}

}  // namespace penstock::discovery
