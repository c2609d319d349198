#include "endpoint_poller.h"

#include "penstock/base/assert.h"
#include "penstock/base/log.h"
#include "penstock/http/writer.h"
#include "penstock/openai/models.h"

namespace penstock::discovery {

using endpoints::Readiness;

EndpointPoller::EndpointPoller(Directory& directory, EndpointSpec spec, endpoints::EndpointState& state,
                               const net::Address& address)
    : directory_(directory), spec_(std::move(spec)), scanner_(engine_named(spec_.engine)) {
  target_ = {
      .key = state.slot, .incarnation = state.incarnation, .address = address, .open_connections = &state.connections};
  view_.state = &state;
  view_.readiness = Readiness::not_ready;  // until it has answered once
  status_.endpoint = spec_.name;
}

EndpointPoller::~EndpointPoller() {
  if (attempt_ != nullptr) attempt_->cancel();
}

PollStatus EndpointPoller::status() const {
  return status_;
}

void EndpointPoller::poll(Instant now, bool traffic) {
  if (task_ != Task::none) return;
  const PollOptions& options = directory_.options_;
  const bool ready = view_.readiness == Readiness::ready;
  if (now >= next_health_) {
    next_health_ = now + (ready ? options.health_interval : options.health_interval / 4);
    return start(Task::health, options.health_path);
  }
  if (!ready) return;
  if (now >= next_models_) {
    next_models_ = now + options.models_interval;
    return start(Task::models, "/v1/models");
  }
  // The idle interval is cut short as soon as traffic flows again.
  const Duration interval = traffic ? options.interval : options.idle_interval;
  if (now < next_metrics_ - options.idle_interval + interval) return;
  next_metrics_ = now + options.idle_interval;
  start(Task::metrics, options.metrics_path);
}

void EndpointPoller::start(Task task, const std::string& path) {
  task_ = task;
  status_code_ = 0;
  body_.clear();
  scanner_.reset();
  requests_at_start_ = view_.state->load.requests.load(std::memory_order_relaxed);
  request_.clear();
  http::HeadWriter head(request_);
  head.request_line("GET", path);
  head.field("host", view_.state->host_header);
  head.field("user-agent", "penstock");
  head.end();
  upstream::Request request;
  request.pieces[0] = request_;
  request.connect_timeout = request.first_byte_timeout = request.chunk_idle_timeout = directory_.options_.timeout;
  request.fresh = retried_;
  attempt_ = &directory_.client_.start(target_, request, *this);
}

void EndpointPoller::on_response_head(http::Head& head) {
  status_code_ = head.status;
}

void EndpointPoller::on_response_data(std::string_view decoded) {
  if (task_ == Task::metrics && status_code_ == 200) scanner_.feed(decoded);
  if (task_ == Task::models && status_code_ == 200 && body_.size() + decoded.size() <= models_bytes_max)
    body_ += decoded;
}

void EndpointPoller::on_response_end() {
  attempt_ = nullptr;
  retried_ = false;
  const Task task = task_;
  task_ = Task::none;
  switch (task) {
    case Task::metrics:
      metrics_done();
      break;
    case Task::models:
      models_done();
      break;
    // Any answer but a server error shows a living server: not every engine has the health path.
    case Task::health:
      status_code_ < 500 ? alive() : not_alive(/*certain=*/true);
      break;
    case Task::none:
      PENSTOCK_ASSERT(false);
  }
  poll(directory_.loop_.now(), /*traffic=*/false);  // a new endpoint's models and metrics follow its health at once
}

void EndpointPoller::on_response_failed(upstream::Failure failure, bool received, bool reused) {
  attempt_ = nullptr;
  const Task task = task_;
  task_ = Task::none;
  if (reused && !received && !retried_) {
    // The server closed the idle connection; that says nothing about its health. Once more, on a fresh one.
    retried_ = true;
    (task == Task::health ? next_health_ : task == Task::models ? next_models_ : next_metrics_) = {};
    return poll(directory_.loop_.now(), true);
  }
  retried_ = false;
  if (task == Task::metrics) ++status_.scrape_errors;
  if (task == Task::health) ++status_.probe_errors;
  not_alive(failure == upstream::Failure::connect_refused || failure == upstream::Failure::connect_failed);
}

void EndpointPoller::metrics_done() {
  ++status_.scrapes;
  probed_ = true;
  if (status_code_ != 200 || !scanner_.finish(view_.metrics)) {
    ++status_.scrape_errors;
    return;
  }
  const Instant now = directory_.loop_.now();
  view_.metrics.known = true;
  view_.metrics.scraped_at = now;
  view_.metrics.requests_at_scrape = requests_at_start_;
  status_.last_success = now;
  status_.ever = true;
  failures_in_a_row_ = 0;
  directory_.changed(/*at_once=*/false);
}

void EndpointPoller::models_done() {
  if (status_code_ != 200) return;
  auto models = openai::parse_models(body_);
  if (!models.ok() || *models == view_.models) return;
  view_.models = std::move(*models);
  directory_.changed(/*at_once=*/true);
}

void EndpointPoller::alive() {
  failures_in_a_row_ = 0;
  view_.state->health.probe_failed.store(false, std::memory_order_relaxed);
  set_readiness(Readiness::ready);
}

void EndpointPoller::not_alive(bool certain) {
  probed_ = true;
  if (!certain && ++failures_in_a_row_ < directory_.options_.probe_failures) return;
  view_.state->health.probe_failed.store(true, std::memory_order_relaxed);
  set_readiness(Readiness::not_ready);
}

void EndpointPoller::set_readiness(Readiness readiness) {
  if (view_.readiness == readiness) return;
  view_.readiness = readiness;
  const bool ready = readiness == Readiness::ready;
  if (ready) {
    next_models_ = next_metrics_ = {};
    directory_.events_.on_caches_lost(*view_.state);
  }
  log::info(ready ? "endpoint is ready" : "endpoint is not ready", {{"endpoint", spec_.name}, {"url", spec_.url}});
  directory_.changed(/*at_once=*/true);
}

}  // namespace penstock::discovery
