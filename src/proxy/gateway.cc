#include "penstock/proxy/gateway.h"

#include "exchange.h"
#include "penstock/base/assert.h"
#include "penstock/base/log.h"
#include "penstock/proxy/error.h"
#include "pool_choice.h"
#include "slow_endpoints.h"

namespace penstock::proxy {

Gateway::Gateway(Context& context)
    : context_(context),
      resumes_(std::make_unique<ResumeQueue>(context.loop, context_.options.resume.at_once)),
      slow_(std::make_unique<SlowEndpoints>(context_.options.slow)),
      look_(net::Timer::of<&Gateway::look_at_streams>(this)) {}

Gateway::~Gateway() {
  PENSTOCK_ASSERT(in_flight_ == 0);
}

downstream::RequestHandler* Gateway::on_request(downstream::Responder& client, http::Head& head) {
  std::unique_ptr<Exchange> exchange;
  if (spare_.empty()) {
    exchange = std::make_unique<Exchange>(*this, context_);
  } else {
    exchange = std::move(spare_.back());
    spare_.pop_back();
  }
  ++in_flight_;
  Exchange* begun = exchange.release();  // comes back through release()
  return begun->begin(client, head) ? begun : nullptr;
}

void Gateway::release(Exchange& exchange) {
  --in_flight_;
  std::unique_ptr<Exchange> owned(&exchange);
  if (spare_.size() < spare_max) return spare_.push_back(std::move(owned));
  context_.loop.dispose(std::move(owned));
}

// A head that cannot be read makes no exchange, but is counted and logged like one.
void Gateway::on_bad_head(downstream::Responder& client, const downstream::RequestFailure& failure) {
  context_.observer.exchange_started();
  const ErrorInfo& info = info_of(error_of(failure));
  if (info.code == ErrorCode::header_too_large) context_.observer.limit_hit("header_bytes");
  if (failure.no_memory) context_.observer.limit_hit("memory");
  http::Fields fields;
  std::string body;
  append_error(fields, body, info.code, {});
  const auto form = failure.head_request ? downstream::BodyForm::none : downstream::BodyForm::sized;
  if (failure.head_request) body.clear();
  static_cast<void>(client.begin({.status = info.status, .fields = fields, .form = form}, body));
  ExchangeRecord record;
  record.started_wall_us = context_.loop.wall_time_us();
  record.outcome = info.outcome;
  record.status = info.status;
  record.reason = info.name;
  record.client = client.client_ip();
  record.protocol = to_string(client.protocol());
  const net::TlsInfo tls = client.tls();
  record.tls_version = to_string(tls.version);
  record.certificate = tls.peer_identity;
  context_.observer.finished(record);
}

void Gateway::on_pipeline_dropped() {
  context_.observer.limit_hit("memory");
}

void Gateway::on_limit(std::string_view limit) {
  context_.observer.limit_hit(limit);
}

void Gateway::on_idle_evicted() {
  context_.observer.idle_connection_evicted();
}

void Gateway::on_connections_changed(int delta) {
  context_.observer.client_connections_changed(delta);
}

// Each call may remove its own exchange from the list, but no other.
void Gateway::leave_silent(uint32_t slot, uint32_t incarnation, std::optional<Instant> unanswered_since) {
  unanswered_.for_each([&](Exchange& exchange) { exchange.on_silent(slot, incarnation); });
  if (!unanswered_since) return;
  relaying_.for_each([&](Exchange& exchange) { exchange.on_silent_stream(slot, incarnation, *unanswered_since); });
}

void Gateway::relays(Exchange& exchange) {
  relaying_.push_back(exchange);
  if (!look_.armed()) context_.loop.arm(look_, SlowEndpoints::period);
}

void Gateway::look_at_streams() {
  slow_->begin();
  relaying_.for_each([&](Exchange& exchange) { exchange.report_silence(*slow_); });
  for (const SlowEndpoints::Found& found : slow_->end()) {
    const endpoints::Pool* const pool = this->pool(found.pool);
    const endpoints::EndpointView* const view =
        pool != nullptr ? endpoint_at(*pool, found.slot, found.incarnation) : nullptr;
    if (view == nullptr) continue;
    eject_slow(*view->state, found.wedged ? Ejection::wedged : Ejection::slow, found.pause);
    unanswered_.for_each([&](Exchange& exchange) { exchange.on_slow(found.slot, found.incarnation); });
    relaying_.for_each([&](Exchange& exchange) { exchange.on_slow(found.slot, found.incarnation); });
  }
  if (!relaying_.empty()) context_.loop.arm(look_, SlowEndpoints::period);
}

// Each shard comes to its own verdict, but one of them ejects.
void Gateway::eject_slow(endpoints::EndpointState& endpoint, Ejection why, Duration pause) {
  const Instant now = context_.loop.now();
  if (!routing::report_slow(endpoint, now, context_.options.ejection)) return;
  const int64_t until_ns = endpoint.health.ejected_until_ns.load(std::memory_order_relaxed);
  log::warn("endpoint is ejected", {{"endpoint", endpoint.name},
                                    {"url", endpoint.url},
                                    {"last_failure", to_string(why)},
                                    {"pause_ms", to_ms(pause)},
                                    {"for_ms", (until_ns - now.time_since_epoch().count()) / 1'000'000}});
  context_.client.drop_idle(endpoint.slot);
  context_.observer.endpoint_ejected(endpoint, why);
}

// ---- held requests ----

void Gateway::room_made() {
  if (!context_.options.flow.enabled || context_.hold == nullptr || !context_.hold->occupied()) return;
  const endpoints::Snapshot* const snapshot = context_.snapshots.get();
  if (snapshot != nullptr) context_.hold->room_made(*snapshot, context_.loop.now());
}

void Gateway::wake() {
  context_.loop.post([this] { take_from_queue(); });
}

// Evictions come first: they make room for others.
void Gateway::take_from_queue() {
  while (RunningRequest* const evicted = context_.hold->take_evicted(*this)) {
    static_cast<EvictablePlacement*>(evicted)->events.on_evicted();
  }
  while (HeldRequest* const granted = context_.hold->take_granted(*this)) {
    static_cast<HeldPlacement*>(granted)->events.on_room();
  }
}

const endpoints::Pool* Gateway::pool(uint32_t id) {
  const endpoints::Snapshot* snapshot = context_.snapshots.get();
  if (snapshot == nullptr) return nullptr;
  for (const endpoints::Pool& pool : snapshot->pools) {
    if (pool.id == id) return &pool;
  }
  return nullptr;
}

void Gateway::report_unreachable(const endpoints::EndpointState& endpoint) {
  constexpr Duration pause = seconds(1);
  if (!context_.endpoint_unreachable) return;
  Place& place = places_[endpoint.slot];  // target_of() made it before the attempt to connect
  const Instant now = context_.loop.now();
  if (place.unreachable_at != Instant{} && now - place.unreachable_at < pause) return;
  place.unreachable_at = now;
  context_.endpoint_unreachable(endpoint);
}

const upstream::Target& Gateway::target_of(endpoints::EndpointState& endpoint) {
  if (places_.size() <= endpoint.slot) places_.resize(endpoint.slot + 1);
  Place& place = places_[endpoint.slot];
  upstream::Target& target = place.target;
  if (target.incarnation != endpoint.incarnation) {
    place.unreachable_at = {};
    target.key = endpoint.slot;
    target.incarnation = endpoint.incarnation;
    const auto address = net::Address::parse(endpoint.address);
    PENSTOCK_ASSERT(address.ok());  // discovery publishes resolved addresses only
    target.address = *address;
    target.open_connections = &endpoint.connections;
    target.tls_name = endpoint.tls_name ? &*endpoint.tls_name : nullptr;
    target.tls_trust = &endpoint.tls_trust;
  }
  return target;
}

}  // namespace penstock::proxy
