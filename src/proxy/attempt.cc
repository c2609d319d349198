#include "attempt.h"

#include <utility>

#include "penstock/base/text.h"
#include "penstock/openai/splice.h"

namespace penstock::proxy {

void Attempt::Kept::recycle() {
  recycle_all(head, model);
}

Attempt::Attempt(Context& context, const Intake& intake, const To& to, Kept& kept, upstream::ResponseSink& sink)
    : kept_(kept),
      connection_(&context.client.start(to.target, compose(context, intake, to), sink)),
      began_(context.loop.now()),
      sent_(began_) {}

Attempt::~Attempt() {
  cancel();
}

void Attempt::cancel() {
  if (connection_ != nullptr) std::exchange(connection_, nullptr)->cancel();
}

upstream::Request Attempt::compose(const Context& context, const Intake& intake, const To& to) {
  if (to.instead) return compose_instead(context, intake, to);
  constexpr size_t small_body_max = 4 * 1024;
  const ForwardedHead& head = intake.head();
  const std::string_view body = intake.body().view();
  std::string_view before = body, value, after;
  if (intake.model_renamed() || intake.wants_token_ids()) {
    const openai::Spliced spliced = openai::splice_model(body, intake.request().model_value, intake.target_model());
    kept_.model = spliced.value;
    if (intake.wants_token_ids()) kept_.model += openai::asks_for_ids;
    before = spliced.before;
    value = kept_.model;
    after = spliced.after;
  }
  kept_.head.clear();
  const bool has_body = !body.empty() || head.method == "POST" || head.method == "PUT" || head.method == "PATCH";
  append_request_head(kept_.head, head, to.host_header, has_body, before.size() + value.size() + after.size(),
                      to.stage_fields);
  // Sending one piece is cheaper than sending several, if the copy is small.
  if (body.size() <= small_body_max) {
    append_all(kept_.head, before, value, after);
    before = value = after = {};
  }
  return {
      .method = intake.is_head() ? http::Method::head : http::Method::other,
      .pieces = {kept_.head, before, value, after},
      .connect_timeout = context.options.connect_timeout,
      .first_byte_timeout = context.options.first_byte_timeout,
      .chunk_idle_timeout = context.options.chunk_idle_timeout,
      .fresh = to.fresh,
      .upgrade = head.websocket,
  };
}

upstream::Request Attempt::compose_instead(const Context& context, const Intake& intake, const To& to) {
  const Instead& instead = *to.instead;
  kept_.head.clear();
  append_request_head(kept_.head, intake.head(), to.host_header, /*has_body=*/true, instead.body.size(),
                      instead.staged ? to.stage_fields : "", instead.target);
  return {
      .method = http::Method::other,
      .pieces = {kept_.head, instead.body},
      .connect_timeout = context.options.connect_timeout,
      .first_byte_timeout = instead.first_byte_timeout,
      .chunk_idle_timeout = context.options.chunk_idle_timeout,
      .fresh = to.fresh,
  };
}

// With thousands of streams it adds up.
void Attempt::first_byte_relayed(bool stream) {
  if (connection_ == nullptr || !stream) return;
  connection_->delay_acks();
  if (connection_->request_sent()) free_memory(kept_.head);
}

}  // namespace penstock::proxy
