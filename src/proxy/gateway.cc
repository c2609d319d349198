#include "penstock/proxy/gateway.h"

#include <algorithm>

#include "exchange.h"
#include "penstock/base/assert.h"
#include "penstock/proxy/error.h"

namespace penstock::proxy {

Gateway::Gateway(Context& context) : context_(context) {}

Gateway::~Gateway() {
  PENSTOCK_ASSERT(in_flight_ == 0);
}

downstream::RequestHandler* Gateway::on_request(downstream::Connection& connection, http::Head& head) {
  std::unique_ptr<Exchange> exchange;
  if (spare_.empty()) {
    exchange = std::make_unique<Exchange>(*this, context_);
  } else {
    exchange = std::move(spare_.back());
    spare_.pop_back();
  }
  ++in_flight_;
  Exchange* begun = exchange.release();  // comes back through release()
  return begun->begin(connection, head) ? begun : nullptr;
}

void Gateway::release(Exchange& exchange) {
  --in_flight_;
  std::unique_ptr<Exchange> owned(&exchange);
  if (spare_.size() < spare_max) return spare_.push_back(std::move(owned));
  context_.loop.dispose(std::move(owned));
}

// No exchange comes of a head that cannot be read, but its end is counted and logged like one.
void Gateway::on_bad_head(downstream::Connection& connection, const downstream::RequestFailure& failure) {
  context_.observer.exchange_started();
  const ErrorInfo& info = info_of(error_of(failure));
  if (info.code == ErrorCode::header_too_large) context_.observer.limit_hit("header_bytes");
  static_cast<void>(connection.send(error_answer(info.code, {}, {}, {}, /*keep_alive=*/false, /*head_only=*/false)));
  ExchangeRecord record;
  record.started_wall_us = context_.loop.clock().wall_time_us();
  record.outcome = info.outcome;
  record.status = info.status;
  record.reason = info.name;
  record.client = connection.client_ip();
  context_.observer.finished(record);
}

void Gateway::on_connections_changed(int delta) {
  context_.observer.client_connections_changed(delta);
}

const endpoints::Pool* Gateway::pool() {
  const endpoints::Snapshot* snapshot = context_.snapshots.get();
  return snapshot == nullptr || snapshot->pools.empty() ? nullptr : &snapshot->pools.front();
}

bool Gateway::lists(std::string_view model) {
  const endpoints::Pool* served_by = pool();
  if (served_by == nullptr) return false;
  return std::any_of(
      served_by->endpoints.begin(), served_by->endpoints.end(), [&](const endpoints::EndpointView& view) {
        return view.models.empty() || std::find(view.models.begin(), view.models.end(), model) != view.models.end();
      });
}

upstream::Target Gateway::target_of(endpoints::EndpointState& endpoint) {
  if (targets_.size() <= endpoint.slot) targets_.resize(endpoint.slot + 1);
  upstream::Target& target = targets_[endpoint.slot];
  if (target.incarnation != endpoint.incarnation) {
    target.key = endpoint.slot;
    target.incarnation = endpoint.incarnation;
    const auto address = net::Address::parse(endpoint.address);
    PENSTOCK_ASSERT(address.ok());  // discovery publishes resolved addresses only
    target.address = *address;
    target.open_connections = &endpoint.connections;
  }
  return target;
}

}  // namespace penstock::proxy
