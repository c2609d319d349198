#include "sim/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

namespace penstock::sim {
namespace {

// Steps per engine turn: an engine that takes no time must not keep the loop from its sockets.
constexpr uint32_t kStepsPerTurn = 256;
constexpr size_t kLoraSeriesMax = 64;

downstream::ServerOptions server_options(const Options& options) {
  downstream::ServerOptions out;
  out.idle_timeout = from_seconds(options.keep_alive_s);
  // uvicorn has no other timeouts: slow clients are waited for.
  out.header_timeout = out.body_timeout = out.write_timeout = seconds(24 * 3600);
  out.parting_silence = Duration::zero();  // and closes idle connections as soon as it is to end
  return out;
}

EngineOptions engine_options(const Options& options) {
  EngineOptions out = options.engine;
  out.loras = Catalog::lora_slots;
  out.max_loras = options.max_loras;
  return out;
}

}  // namespace

SimServer::SimServer(net::EventLoop& loop, net::BlockPool& pool, const Options& options)
    : loop_(loop),
      pool_(pool),
      options_(options),
      catalog_(options.models, options.loras),
      engine_(engine_options(options)),
      faults_(options.faults, options.engine.seed),
      reader_({.block_size = options.engine.block_size,
               .keep_bytes = options.kv_events.port.has_value(),
               .bos = options.bos}),
      ids_(static_cast<uint64_t>(loop.clock().wall_time_us()) ^ (static_cast<uint64_t>(getpid()) << 48)),
      step_(net::Timer::of<&SimServer::on_step>(this)),
      drain_deadline_(net::Timer::of<&SimServer::on_drain_deadline>(this)),
      server_(loop, pool, *this, server_options(options)) {
  if (options.kv_events.port) {
    kv_publisher_ = std::make_unique<KvPublisher>(loop, pool, catalog_, options.kv_events, options.engine.block_size);
    engine_.set_block_events(kv_publisher_.get());
  }
  server_.set_placement([this](int fd, size_t) { return place(fd); });
}

SimServer::~SimServer() {
  shutting_down_ = true;
  server_.stop_listening();
  server_.cut_all();
}

Result<net::Address> SimServer::listen() {
  const Result<net::Address> at = net::Address::resolve(options_.host, options_.port);
  if (!at.ok()) return at.error();
  if (kv_publisher_ != nullptr) {
    if (std::string problem = kv_publisher_->listen(options_.host); !problem.empty()) return Message{problem};
  }
  return server_.listen(*at, /*reuse_port=*/false);
}

// True when the connection was refused here.
bool SimServer::place(int fd) {
  if (!faults_.refuse_connection()) return false;
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd);
  return true;
}

// ---- requests ----

downstream::RequestHandler* SimServer::on_request(downstream::Responder& client, http::Head& head) {
  if (free_exchanges_.empty()) {
    exchanges_.push_back(std::make_unique<Exchange>(*this));
    free_exchanges_.push_back(exchanges_.back().get());
  }
  Exchange* exchange = free_exchanges_.back();
  free_exchanges_.pop_back();
  exchange->begin(static_cast<downstream::Connection&>(client), head);
  return exchange;
}

void SimServer::give_back(Exchange& exchange) {
  free_exchanges_.push_back(&exchange);
}

void SimServer::on_bad_head(downstream::Responder& client, const downstream::RequestFailure&) {
  constexpr std::string_view answer =
      "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 30\r\n"
      "connection: close\r\n\r\nInvalid HTTP request received.";
  auto& connection = static_cast<downstream::Connection&>(client);
  if (!connection.send_raw(answer)) return connection.abandon();
  connection.finish_response(downstream::After::close);
}

// ---- the engine's turns ----

void SimServer::mark_dirty(Exchange& exchange) {
  if (!exchange.linked()) dirty_.push_back(exchange);
  if (engine_turn_planned_) return;
  engine_turn_planned_ = true;
  loop_.defer([this] { run_engine(); });
}

void SimServer::on_step() {
  if (engine_turn_planned_) return;
  engine_turn_planned_ = true;
  loop_.defer([this] { run_engine(); });
}

void SimServer::run_engine() {
  engine_.advance(loop_.now(), kStepsPerTurn);
  engine_turn_planned_ = false;
  if (kv_publisher_ != nullptr) kv_publisher_->flush();
  if (catalog_.loras() > 0) note_loras();
  // Answers that end here may let the next request of their connection begin: its engine turn is planned anew.
  IntrusiveList<Exchange, DirtyTag> due;
  due.take_all(dirty_);
  while (Exchange* exchange = due.pop_front()) exchange->flush();
  const std::optional<Instant> next = engine_.next_event();
  if (next) loop_.arm_at(step_, *next);
  else step_.cancel();
}

void SimServer::note_loras() {
  std::string running, waiting;
  for (size_t slot = 0; slot < catalog_.loras(); ++slot) {
    const auto lora = static_cast<int32_t>(slot);
    const auto append = [&](std::string& names) { (names += names.empty() ? "" : ",") += catalog_.lora_name(slot); };
    if (engine_.lora_running(lora) > 0) append(running);
    if (engine_.lora_waiting(lora) > 0) append(waiting);
  }
  const auto known = std::find_if(lora_series_.begin(), lora_series_.end(), [&](const LoraSeries& series) {
    return series.running == running && series.waiting == waiting;
  });
  const double now = static_cast<double>(loop_.clock().wall_time_us()) / 1e6;
  if (known != lora_series_.end()) {
    known->last_held = now;
    return;
  }
  if (lora_series_.size() == kLoraSeriesMax) {
    lora_series_.erase(std::min_element(lora_series_.begin(), lora_series_.end(),
                                        [](const auto& a, const auto& b) { return a.last_held < b.last_held; }));
  }
  lora_series_.push_back({running, waiting, now});
}

std::string SimServer::metrics_text() {
  std::string out;
  append_metrics(out, engine_,
                 {.model_name = catalog_.first_model(),
                  .max_loras = catalog_.loras() > 0 ? options_.max_loras : 0,
                  .lora_series = &lora_series_});
  return out;
}

bool SimServer::reset_cache() {
  const bool done = engine_.reset_cache();
  if (kv_publisher_ != nullptr) kv_publisher_->flush();
  return done;
}

const std::string& SimServer::date() {
  const int64_t second = unix_time();
  if (second == date_second_) return date_;
  date_second_ = second;
  const time_t time = static_cast<time_t>(second);
  tm parts{};
  gmtime_r(&time, &parts);
  char text[40];
  date_.assign(text, strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
  return date_;
}

std::string SimServer::new_id() {
  constexpr char hex[] = "0123456789abcdef";
  std::string id(32, '0');
  uint64_t bits[2] = {ids_.next(), ids_.next()};
  for (size_t i = 0; i < 32; ++i) id[i] = hex[bits[i / 16] >> (4 * (i % 16)) & 15];
  return id;
}

// ---- the end ----

void SimServer::shut_down() {
  if (shutting_down_) return loop_.stop();
  shutting_down_ = true;
  if (options_.on_sigterm == OnSigterm::abort) {
    for (const auto& exchange : exchanges_) exchange->give_up();
  }
  log::info("draining", {{"connections", server_.connections()}, {"running", engine_.running()}});
  server_.stop_listening();
  loop_.arm(drain_deadline_, from_seconds(options_.drain_timeout_s));
  server_.drain();
  stop_when_drained();
}

void SimServer::on_drain_deadline() {
  log::warn("drain took too long", {{"connections", server_.connections()}});
  loop_.stop();
}

void SimServer::on_connections_changed(int delta) {
  if (delta < 0 && shutting_down_) stop_when_drained();
}

void SimServer::stop_when_drained() {
  if (server_.connections() == 0) loop_.stop();
}

}  // namespace penstock::sim
