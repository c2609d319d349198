// Answers that refuse, as a status or as an event inside a watch.
#include "encoding.h"
#include "penstock/base/log.h"
#include "penstock/base/text.h"
#include "reflector_impl.h"

namespace penstock::kube {

void ReflectorImpl::on_refusal(int status, std::optional<Duration> retry_after) {
  body_.reserve(body_.size() + json_padding);
  const std::optional<StatusObject> answer = decoder_.status(body_);
  std::string why = "HTTP " + std::to_string(status) + " ";
  why += answer && !answer->message.empty() ? answer->message : std::string(cut_utf8(trimmed(body_), 200));
  if (answer && !retry_after) retry_after = answer->retry_after;
  const bool too_large = answer && answer->version_too_large;
  if (job_ == Job::stream && (status == 400 || status == 422)) return list_instead(why);
  if (status == 410) return on_expired(why);
  if (status == 401) return on_unauthorized(why);
  if (status == 404) return on_absent(why);
  if (too_large) return on_too_large(why);
  if (status == 403) return on_forbidden(why);
  // A version that the server does not accept is of no more use.
  if (status == 400 && job_ == Job::watch) want_full(Relist::expired, ListFrom::latest);
  const Restart reason = status == 429 ? Restart::overloaded : Restart::server_error;
  if (!retry_after) return restart(reason, why);
  restart_in(std::min(*retry_after, limits_.retry_after_most) + jittered(Duration{0}, limits_.cut_retry_max), reason,
             why);
}

// The server has forgotten the version. That is normal after it has restarted; again and again it is not.
void ReflectorImpl::on_expired(const std::string& why) {
  if (job_ == Job::list && !continue_.empty() && expired_ > 0) paged_ = false;  // pages take longer than history lasts
  want_full(Relist::expired, ListFrom::latest);
  if (++expired_ > 2) return restart(Restart::expired, why);
  count(Restart::expired, why);
  end_call();
  begin();
}

// This server has not yet seen the version that another one gave us, or never will (restored from a backup).
void ReflectorImpl::on_too_large(const std::string& why) {
  const bool again = job_ == Job::list && list_from_ == ListFrom::latest;
  want_full(Relist::too_large, ListFrom::latest);
  if (again || ++expired_ > 2) return restart(Restart::too_large, why);
  count(Restart::too_large, why);
  end_call();
  begin();
}

void ReflectorImpl::on_unauthorized(const std::string& why) {
  transport_.refresh_credentials();
  if (++unauthorized_ > 1) return restart(Restart::unauthorized, why);
  count(Restart::unauthorized, why);
  end_call();
  begin();
}

// A server that has just started refuses everybody until it has read its roles; and at an installation the role may
// come a moment after us.
void ReflectorImpl::on_forbidden(const std::string& why) {
  const bool soon = ++forbidden_ <= limits_.forbidden_soon;
  restart_in(
      soon ? backoff_.next(loop_.now(), random_) : jittered(limits_.forbidden_retry_min, limits_.forbidden_retry_max),
      Restart::forbidden, why, ReflectorState::forbidden);
  may_hurry_ = soon;
}

// Nobody knows such objects here: their CRD is not installed. A server that is starting may say so too, for a short
// time, of a CRD that it will know, so what was installed is not given up at the first such answer.
void ReflectorImpl::on_absent(const std::string& why) {
  const bool installed = (synced_ && !not_installed_) || objects_.size() > 0;
  if (++absent_ < limits_.absent_confirmations && installed) return restart(Restart::absent, why);
  const bool news = !not_installed_ || objects_.size() > 0;
  if (news) log::info("kubernetes: the resource is not installed, taken as empty", {{"resource", name_}});
  restart_in(Backoff::between(limits_.absent_retry, limits_.absent_retry * 3 / 2, random_), Restart::absent, why,
             ReflectorState::absent);
  want_full(Relist::absent, ListFrom::latest);
  current_at_ = loop_.now();
  not_installed_ = true;
  if (!news) return;
  const uint64_t life = life_;
  for (const HeldObjects::Object& object : objects_.take_others(++round_)) {
    sink_.on_deleted({object.ns, object.name, object.uid});
    if (life_ != life) return;
  }
  synced_ = true;
  sink_.on_synced();
}

void ReflectorImpl::on_error_event(std::string_view object) {
  const std::optional<StatusObject> status = decoder_.status(object);
  if (!status) return framing_failed("an ERROR event without a Status");
  const std::string why = "in the stream: " + std::to_string(status->code) + " " + status->message;
  if (status->code == 410 || status->reason == "Expired" || status->reason == "Gone") return on_expired(why);
  if (status->version_too_large) return on_too_large(why);
  const Restart reason = status->code == 429 ? Restart::overloaded : Restart::server_error;
  // A server whose etcd does not report progress (before 3.4.25 and 3.5.8) says 500 to each stream, and serves lists.
  if (!status->retry_after && job_ == Job::stream && reason == Restart::server_error) return list_instead(why);
  if (!status->retry_after) return restart(reason, why);
  restart_in(std::min(*status->retry_after, limits_.retry_after_most), reason, why);
}

}  // namespace penstock::kube
