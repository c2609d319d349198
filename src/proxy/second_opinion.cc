#include "second_opinion.h"

#include <charconv>
#include <string>

#include "penstock/base/log.h"

namespace penstock::proxy {

Duration retry_after_of(const http::Head& answer) {
  constexpr uint32_t most = 24 * 3600;
  const std::string_view text = answer.get(http::Field::retry_after);
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return Duration{0};
  return seconds(std::min(number, most));
}

bool SecondOpinion::may_ask(uint16_t status) const {
  return state_ == State::none || (state_ == State::asked && status == 404 && refusal_.status == 404);
}

bool SecondOpinion::ask(endpoints::EndpointState& refuser, const routing::Refusal& refusal,
                        routing::Reservation& reservation) {
  if (!routing::take_second_opinion(refuser, context_.loop.now(), context_.options.second_opinions)) {
    context_.observer.limit_hit("second_opinions");
    return false;
  }
  if (state_ == State::none) {
    keep(reservation);
    refusal_ = refusal;
  }
  state_ = State::asked;
  return true;
}

void SecondOpinion::keep(routing::Reservation& reservation) {
  if (state_ == State::none) reservation_ = std::move(reservation);
}

void SecondOpinion::refused_again() {
  if (state_ != State::asked) return;
  state_ = State::given;
  reservation_.release();
}

void SecondOpinion::contradicted(const endpoints::EndpointState& by, std::string_view model, std::string_view api) {
  if (state_ != State::asked) return;
  state_ = State::given;
  endpoints::EndpointState& refuser = *reservation_.endpoint();
  const routing::Verdict verdict =
      routing::report_pair(refuser, refusal_, context_.loop.now(), context_.options.ejection);
  if (verdict != routing::Verdict::none) announce(verdict, refuser, by, model, api);
}

endpoints::EndpointState* SecondOpinion::take_refuser() {
  if (state_ != State::asked) return nullptr;
  state_ = State::given;
  return reservation_.endpoint();
}

// Each ejection is logged once.
void SecondOpinion::announce(routing::Verdict verdict, const endpoints::EndpointState& refuser,
                             const endpoints::EndpointState& by, std::string_view model, std::string_view api) {
  const Instant now = context_.loop.now();
  const auto for_ms = [&](int64_t until_ns) { return (until_ns - now.time_since_epoch().count()) / 1'000'000; };
  const std::string failure = "status_" + std::to_string(refusal_.status);
  switch (verdict) {
    case routing::Verdict::ejected:
      log::warn("endpoint is ejected", {{"endpoint", refuser.name},
                                        {"url", refuser.url},
                                        {"last_failure", failure},
                                        {"answered_well_by", by.name},
                                        {"for_ms", for_ms(refuser.health.ejected_until_ns)}});
      context_.observer.endpoint_ejected(refuser, Ejection::refuses_all);
      return;
    case routing::Verdict::ejected_for_kind:
      log::warn("endpoint is ejected for one kind of request",
                {{"endpoint", refuser.name},
                 {"url", refuser.url},
                 {"model", model},
                 {"api", api},
                 {"last_failure", failure},
                 {"answered_well_by", by.name},
                 {"for_ms", for_ms(routing::refuses_until_ns(refuser, refusal_.kind, now))}});
      context_.observer.endpoint_ejected(refuser, Ejection::refuses_kind);
      return;
    case routing::Verdict::busy:
      log::info(
          "endpoint is busy",
          {{"endpoint", refuser.name}, {"last_failure", failure}, {"for_ms", for_ms(refuser.health.busy_until_ns)}});
      return;
    case routing::Verdict::none:
      return;
  }
}

}  // namespace penstock::proxy
