// The exchange of a client that asks for a WebSocket, from the endpoint's 101 to the end of the session.
#include "exchange.h"
#include "penstock/http/websocket.h"

namespace penstock::proxy {

// HTTP ends here on both sides, and nothing leads back to it: neither connection is used again. So this happens only
// if client and endpoint have certainly agreed: the client has asked for a WebSocket, was asked for nothing else in its
// name, and the endpoint's answer belongs to that very request.
void Exchange::begin_tunnel(const http::Head& head) {
  if (!http::accepts_websocket(head, intake_->head().fields.get("sec-websocket-key").value_or(""))) {
    attempt_->cancel();
    return on_response_failed(upstream::Failure::bad_response, /*received=*/true, /*reused=*/false);
  }
  http::Fields fields;
  append_answer_fields(fields, head, /*keeps_length=*/false, answer_context());
  change_fields(fields, intake_->answer_changes());
  downstream::ClientTunnel* const client = client_->switch_protocols({.status = head.status, .fields = fields});
  if (client == nullptr) return lose_client();
  static_cast<void>(let_go_of_client());
  upstream::EndpointTunnel& endpoint = attempt_->connection().switch_protocols(client->connection().pool());
  end_attempt();
  total_deadline_.cancel();
  own_status_ = head.status;
  tunnel_ = std::make_unique<Tunnel>(context_, *client, endpoint, static_cast<TunnelOwner&>(*this));
  begin_relaying(/*good=*/true);
  tunnel_->start();
}

void Exchange::on_tunnel_ending() {
  cut_off(ErrorCode::shutting_down);
}

// The endpoint answers no health probe, and the session is silent.
void Exchange::break_tunnel(AttemptFailure failure) {
  count_break(failure);
  tunnel_end_ = ErrorCode::stream_broken;
  tunnel_->end(http::WebSocketClose::going_away);
}

void Exchange::end_tunnel(ErrorCode why) {
  reason_ = info_of(why).name.data();
  tunnel_end_ = why;
  tunnel_->end(why == ErrorCode::evicted ? http::WebSocketClose::try_again_later : http::WebSocketClose::going_away);
}

void Exchange::on_tunnel_over(TunnelOutcome how) {
  switch (how) {
    case TunnelOutcome::closed:
      placement_->succeeded();
      return finish(Outcome::ok);
    case TunnelOutcome::client_gone:  // counts as a success of the endpoint, as for streams that their clients stop
      placement_->succeeded();
      reason_ = "client_gone";
      return finish(Outcome::client_gone);
    case TunnelOutcome::client_stalled:
      reason_ = "write_timeout";
      return finish(Outcome::timed_out_client);
    case TunnelOutcome::client_too_slow:
      reason_ = "read_too_slow";
      return finish(Outcome::timed_out_client);
    case TunnelOutcome::idle:
      reason_ = "tunnel_idle";
      return finish(Outcome::timed_out_client);
    case TunnelOutcome::endpoint_closed:
      count_break(AttemptFailure::closed_in_body);
      return finish(Outcome::stream_broken);
    case TunnelOutcome::endpoint_reset:
      count_break(AttemptFailure::reset_in_body);
      return finish(Outcome::stream_broken);
    case TunnelOutcome::no_memory:
      reason_ = info_of(ErrorCode::memory_budget_exhausted).name.data();
      return finish(Outcome::overloaded);
    case TunnelOutcome::ended_by_gateway:
      if (reason_[0] == '\0') reason_ = info_of(tunnel_end_).name.data();
      return finish(info_of(tunnel_end_).outcome);
  }
}

}  // namespace penstock::proxy
