#include "penstock/kube/reflector.h"

#include "encoding.h"
#include "penstock/base/log.h"
#include "query.h"
#include "reflector_impl.h"

namespace penstock::kube {
namespace {

constexpr size_t refusal_bytes_max = 64 * 1024;

Restart restart_of(Failure failure) {
  switch (failure) {
    case Failure::connect:
      return Restart::connect;
    case Failure::tls:
      return Restart::tls;
    case Failure::credentials:
      return Restart::credentials;
    case Failure::protocol:
      return Restart::framing;
    case Failure::timeout:
      return Restart::stalled;
    case Failure::none:
    case Failure::cut:
      break;
  }
  return Restart::cut;
}

// What belongs to normal life and needs no line in the log.
bool worth_a_line(Restart reason) {
  return reason != Restart::timeout && reason != Restart::no_watch_list && reason != Restart::overrun;
}

}  // namespace

ReflectorImpl::ReflectorImpl(net::EventLoop& loop, Transport& transport, Random& random, std::string name,
                             Resource resource, ObjectSink& sink, const ReflectorLimits& limits)
    : loop_(loop),
      transport_(transport),
      random_(random),
      name_(std::move(name)),
      resource_(std::move(resource)),
      sink_(sink),
      limits_(limits),
      lines_(limits.event_bytes_max),
      backoff_(limits.backoff_first, limits.backoff_most, limits.backoff_reset),
      retry_(net::Timer::of<&ReflectorImpl::on_retry>(this)),
      watchdog_(net::Timer::of<&ReflectorImpl::on_watchdog>(this)),
      safety_(net::Timer::of<&ReflectorImpl::on_safety>(this)) {}

void ReflectorImpl::start() {
  if (state_ != ReflectorState::stopped) return;
  started_ = byte_at_ = current_at_ = loop_.now();
  want_full(Relist::initial, ListFrom::cache);
  begin();
}

void ReflectorImpl::stop() {
  end_call();
  for (auto& get : gets_) transport_.cancel(std::exchange(get->call, 0));
  gets_.clear();
  retry_.cancel();
  safety_.cancel();
  objects_.clear();
  version_.clear();
  synced_ = not_installed_ = may_hurry_ = false;
  state_ = ReflectorState::stopped;
}

void ReflectorImpl::refresh() {
  const bool idle = state_ == ReflectorState::forbidden || state_ == ReflectorState::absent;
  if (state_ == ReflectorState::stopped || job_ == Job::list || job_ == Job::stream) return;
  if (!full_wanted_) want_full(Relist::asked, ListFrom::seen);
  if (job_ != Job::watch && !idle) return;  // after the pause
  end_call();
  retry_.cancel();
  begin();
}

void ReflectorImpl::hurry() {
  if (!may_hurry_ || job_ != Job::none) return;
  const Instant soon = loop_.now() + jittered(Duration{0}, limits_.hurry_max);
  if (soon >= retry_at_) return;
  retry_at_ = soon;
  loop_.arm_at(retry_, soon);
}

// ---- what to ask next ----

void ReflectorImpl::begin() {
  if (!full_wanted_ && !version_.empty()) return start_watch(Job::watch);
  full_wanted_ = true;
  if (loop_.now() >= no_stream_until_) return start_watch(Job::stream);
  start_list(true);
}

std::string ReflectorImpl::path_of(std::string_view ns) const {
  std::string path = resource_.prefix;
  if (!ns.empty()) append_escaped(path += "/namespaces/", ns);
  return path.append("/").append(resource_.plural);
}

void ReflectorImpl::start_list(bool first_page) {
  Query query(path_of(resource_.ns));
  query.add("labelSelector", resource_.label_selector);
  query.add("fieldSelector", resource_.field_selector);
  if (paged_) query.add("limit", std::to_string(limits_.page_size));
  if (first_page) {
    ++round_;
    continue_.clear();
    first_page_version_.clear();
    if (list_from_ == ListFrom::cache) query.add("resourceVersion", "0");
    if (list_from_ == ListFrom::seen && !version_.empty()) {
      query.add("resourceVersion", version_);
      query.add("resourceVersionMatch", "NotOlderThan");  // without it, a limit would mean exactly that old version
    }
  } else {
    query.add("continue", continue_);
  }
  state_ = ReflectorState::listing;
  start_call(Job::list, query.take());
}

// A stream is a watch that first brings everything there is, as of now.
void ReflectorImpl::start_watch(Job job) {
  const auto ask = duration_cast<seconds>(jittered(limits_.watch_timeout_min, limits_.watch_timeout_max));
  Query query(path_of(resource_.ns));
  query.add("labelSelector", resource_.label_selector);
  query.add("fieldSelector", resource_.field_selector);
  query.add("watch", "1");
  query.add("allowWatchBookmarks", "true");
  query.add("timeoutSeconds", std::to_string(ask.count()));
  if (job == Job::stream) {
    ++round_;
    query.add("sendInitialEvents", "true");
    query.add("resourceVersionMatch", "NotOlderThan");
  } else {
    query.add("resourceVersion", version_);
  }
  state_ = job == Job::stream ? ReflectorState::streaming : ReflectorState::watching;
  start_call(job, query.take());
  deadline_ = call_started_ + ask + limits_.watch_overrun;
}

void ReflectorImpl::start_call(Job job, std::string path) {
  ++life_;
  job_ = job;
  http_status_ = 0;
  retry_after_.reset();
  body_.clear();
  lines_.clear();
  call_events_ = 0;
  moved_ = false;
  call_started_ = last_byte_ = loop_.now();
  Call call;
  call.path = std::move(path);
  call.fresh_connection = std::exchange(fresh_connection_, false);
  call_ = transport_.start(std::move(call), *this);
  loop_.arm(watchdog_, Duration{0});  // finds out itself when it is due
}

// The server does not stream lists: pages serve as well.
void ReflectorImpl::list_instead(std::string_view why) {
  no_stream_until_ = loop_.now() + limits_.no_stream_pause;
  count(Restart::no_watch_list, why);
  end_call();
  begin();
}

void ReflectorImpl::end_call() {
  ++life_;
  if (call_ != 0) transport_.cancel(std::exchange(call_, 0));
  job_ = Job::none;
  watchdog_.cancel();
}

void ReflectorImpl::want_full(Relist reason, ListFrom from) {
  // A resource that stays absent is not news each time.
  if (reason != Relist::absent || !full_wanted_) ++counts_.relists[static_cast<size_t>(reason)];
  full_wanted_ = true;
  full_optional_ = reason == Relist::safety;
  list_from_ = from;
  if (from == ListFrom::latest) version_.clear();
}

void ReflectorImpl::restart(Restart reason, std::string_view why) {
  restart_in(backoff_.next(loop_.now(), random_), reason, why);
  may_hurry_ = reason == Restart::connect || reason == Restart::cut || reason == Restart::server_error;
  unreached_ |= may_hurry_;
}

void ReflectorImpl::restart_in(Duration pause, Restart reason, std::string_view why, ReflectorState state) {
  state_ = state;
  count(reason, why);
  end_call();
  if (full_wanted_ && full_optional_ && !version_.empty()) {
    full_wanted_ = false;
    arm_safety();
  }
  may_hurry_ = false;
  retry_at_ = loop_.now() + pause;
  loop_.arm_at(retry_, retry_at_);
}

void ReflectorImpl::count(Restart reason, std::string_view why) {
  const auto index = static_cast<size_t>(reason);
  ++counts_.restarts[index];
  if (!worth_a_line(reason)) return;
  counts_.last_error = std::string(name(reason)) + (why.empty() ? "" : ": ") + std::string(cut_utf8(why, 300));
  if (state_ == ReflectorState::absent) return;  // normal life too, and said already
  const Instant now = loop_.now();
  if (logged_[index] != Instant{} && now - logged_[index] < limits_.log_pause) return;
  logged_[index] = now;
  failure_logged_ = true;
  log::warn("kubernetes: a list or watch failed, trying again",
            {{"resource", name_}, {"reason", name(reason)}, {"error", cut_utf8(why, 300)}});
}

// ---- timers ----

void ReflectorImpl::on_retry() {
  begin();
}

// One timer for every limit of a call: it looks at what is due, and comes again when the next may be.
void ReflectorImpl::on_watchdog() {
  const Instant now = loop_.now();
  Duration silence = limits_.watch_silence;
  if (job_ == Job::stream) silence = limits_.watch_list_patience;
  if (job_ == Job::list || http_status_ == 0) silence = limits_.list_silence;
  const bool silent = now - last_byte_ >= silence;
  const bool never_ends = job_ == Job::stream && now - call_started_ >= limits_.watch_list_total;
  if (job_ == Job::stream && http_status_ == 200 && (silent || never_ends)) {
    // An old server that takes it for a plain watch.
    return list_instead({});
  }
  if (silent || never_ends) {
    fresh_connection_ = true;
    // The silence was pause enough.
    return restart_in(jittered(Duration{0}, limits_.cut_retry_max), Restart::stalled, "no byte for too long");
  }
  Instant next = last_byte_ + silence;
  if (job_ == Job::stream) next = std::min(next, call_started_ + limits_.watch_list_total);
  if (job_ == Job::watch && now >= deadline_) {
    count(Restart::overrun, {});
    end_call();
    return begin();
  }
  if (job_ == Job::watch) next = std::min(next, deadline_);
  loop_.arm_at(watchdog_, next);
}

void ReflectorImpl::on_safety() {
  if (!full_wanted_) want_full(Relist::safety, ListFrom::seen);
  if (job_ != Job::watch) return;  // a pause is under way: after it
  end_call();
  begin();
}

// ---- the call's events ----

void ReflectorImpl::on_status(int status, std::optional<Duration> retry_after) {
  http_status_ = status;
  retry_after_ = retry_after;
  last_byte_ = byte_at_ = loop_.now();
  loop_.arm(watchdog_, Duration{0});  // other limits hold from now on
  if (status != 200) return;
  unauthorized_ = forbidden_ = absent_ = 0;
  // A server restored from a backup may take a version of its lost future, and then say nothing: look soon.
  if (std::exchange(server_was_away_, false)) {
    loop_.arm(safety_, jittered(limits_.suspicion_min, limits_.suspicion_max));
  }
  counts_.last_error.clear();
  if (std::exchange(failure_logged_, false)) log::info("kubernetes: the server answers again", {{"resource", name_}});
  if (std::exchange(unreached_, false)) sink_.on_reached();
}

void ReflectorImpl::on_bytes(std::string_view bytes) {
  last_byte_ = byte_at_ = loop_.now();
  if (http_status_ == 200 && job_ != Job::list) {
    lines_.append(bytes);
    return take_lines();
  }
  const size_t most = http_status_ == 200 ? limits_.list_bytes_max : refusal_bytes_max;
  if (body_.size() + bytes.size() <= most) {
    body_.append(bytes);
  } else if (http_status_ == 200) {
    restart(Restart::framing, "a list is too long");
  }
}

void ReflectorImpl::on_done(Failure failure, std::string_view text) {
  call_ = 0;
  watchdog_.cancel();
  if (failure != Failure::none) return on_failure(failure, text);
  if (http_status_ != 200) return on_refusal(http_status_, retry_after_);
  if (job_ == Job::list) return on_list_page();
  on_watch_end();
}

void ReflectorImpl::on_failure(Failure failure, std::string_view text) {
  const Duration lasted = loop_.now() - call_started_;
  if (failure == Failure::cut) suspect();
  if (failure == Failure::cut && job_ == Job::watch && http_status_ == 200 && lasted >= limits_.short_watch) {
    // It was healthy until now: what cut it is probably over already.
    return restart_in(jittered(Duration{0}, limits_.cut_retry_max), Restart::cut, text);
  }
  server_was_away_ |= failure == Failure::connect;
  restart(restart_of(failure), text);
}

void ReflectorImpl::on_watch_end() {
  if (lines_.partial()) return on_failure(Failure::cut, "the answer ended in the middle of an event");
  if (job_ == Job::stream) return restart(Restart::too_short, "a streamed list ended before it was complete");
  const bool too_short = loop_.now() - call_started_ < limits_.short_watch && !moved_;
  if (too_short) return restart(Restart::too_short, "the watch ended at once");
  const bool early = loop_.now() - call_started_ < limits_.watch_timeout_min;
  if (early) suspect();  // nobody asked for an end so soon: the server went down in good order
  count(Restart::timeout, {});
  end_call();
  begin();
}

// A watch ended that should have gone on. The server may have been down in between, and may be another one now; but a
// proxy that cuts every minute must not make us list every minute.
void ReflectorImpl::suspect() {
  const Instant now = loop_.now();
  if (suspected_at_ != Instant{} && now - suspected_at_ < limits_.suspicion_pause) return;
  suspected_at_ = now;
  server_was_away_ = true;
}

// ---- status ----

ReflectorStatus ReflectorImpl::status() const {
  ReflectorStatus status = counts_;
  const Instant now = loop_.now();
  status.synced = synced_;
  status.asking = job_ == Job::list || job_ == Job::stream;
  // While the server is away, or has only just been asked again, the last that was heard counts.
  status.state = not_installed_ ? ReflectorState::absent : state_;
  status.objects = objects_.size();
  if (state_ == ReflectorState::stopped) return status;
  status.seconds_since_byte = to_seconds(now - byte_at_);
  status.seconds_since_sync = to_seconds(now - current_at_);
  return status;
}

const char* name(ReflectorState state) {
  constexpr const char* names[] = {"stopped", "listing", "streaming", "watching", "waiting", "forbidden", "absent"};
  return names[static_cast<size_t>(state)];
}

const char* name(Restart reason) {
  constexpr const char* names[] = {"timeout",    "cut",          "connect",   "tls",     "credentials",
                                   "stalled",    "overrun",      "too_short", "expired", "too_large",
                                   "overloaded", "unauthorized", "forbidden", "absent",  "server_error",
                                   "framing",    "no_watch_list"};
  static_assert(std::size(names) == restart_count);
  return names[static_cast<size_t>(reason)];
}

const char* name(Relist reason) {
  constexpr const char* names[] = {"initial", "expired", "too_large", "safety", "framing", "absent", "asked"};
  static_assert(std::size(names) == relist_count);
  return names[static_cast<size_t>(reason)];
}

Reflector::Reflector(net::EventLoop& loop, Transport& transport, Random& random, std::string name, Resource resource,
                     ObjectSink& sink, const ReflectorLimits& limits)
    : impl_(std::make_unique<ReflectorImpl>(loop, transport, random, std::move(name), std::move(resource), sink,
                                            limits)) {}
Reflector::~Reflector() = default;

void Reflector::start() {
  impl_->start();
}
void Reflector::stop() {
  impl_->stop();
}
void Reflector::refresh() {
  impl_->refresh();
}
void Reflector::hurry() {
  impl_->hurry();
}
bool Reflector::get_now(std::string_view ns, std::string_view name) {
  return impl_->get_now(ns, name);
}
ReflectorStatus Reflector::status() const {
  return impl_->status();
}

}  // namespace penstock::kube
