#include "penstock/kube/writer.h"

#include <algorithm>
#include <deque>
#include <map>

#include "backoff.h"
#include "decode.h"
#include "encoding.h"
#include "event_body.h"
#include "penstock/base/log.h"
#include "penstock/base/number_text.h"
#include "penstock/base/text.h"
#include "penstock/kube/reflector.h"
#include "query.h"

namespace penstock::kube {
namespace {

constexpr Duration backoff_reset = seconds(120);
constexpr size_t repeats_max = 4096;
constexpr int forbidden_soon = 4;  // so many 403s in a row are followed by the back-off only
constexpr int contested_from = 4;  // so often the same had to be written again

}  // namespace

// One call at a time. Patches first: they are what users look at.
class WriterImpl final : CallEvents {
 public:
  WriterImpl(net::EventLoop& loop, Transport& transport, Random& random, WriterOptions options)
      : loop_(loop),
        transport_(transport),
        random_(random),
        options_(std::move(options)),
        backoff_(options_.backoff_first, options_.backoff_most, backoff_reset),
        timer_(net::Timer::of<&WriterImpl::next>(this)) {}
  ~WriterImpl() { transport_.cancel(call_); }

  void apply_status(std::string path, std::string body, std::string ours, std::string seen);
  void forget(std::string_view path);
  bool contested(std::string_view path) const;
  void event(Event event);
  WriterStatus status() const;

 private:
  enum class Kind : uint8_t { none, patch, event };
  struct Patch {
    std::string wanted, written, ours;
    std::string version;  // of the object, as the last write left it; "": not known
    std::string seen;     // when it was last found to need the write
    Instant not_before{};
    bool waiting = false;  // its path stands in patch_queue_
    // What was written is there no more.
    bool undone() const { return !version.empty() && smaller_number(version, seen); }
  };
  // What was last written, and how often it had to be written again. Outlives the Patch.
  struct History {
    std::string ours;
    Instant last{};  // when it was last needed again
    int again = 0;
    bool effective = true;  // the last write changed something
  };
  struct WaitingEvent {
    std::string path, body;
  };
  struct Refusals {
    int in_a_row = 0;  // 403s
    bool told = false;
    Instant until{};  // nothing is tried before
  };

  void next();
  Instant event_due(const WaitingEvent& event) const;
  void start_patch(std::deque<std::string>::iterator at);
  void start_event(std::deque<WaitingEvent>::iterator at);
  void enqueue(const std::string& path, Patch& patch);
  Duration again_pause(int again) const;
  bool lasts(const History& history) const;
  Duration pause_before(const std::string& path, const Patch& patch);
  void note_written(std::string_view version);
  void start(Kind kind, Call call);
  void on_status(int status, std::optional<Duration> retry_after) override;
  void on_bytes(std::string_view bytes) override;
  void on_done(Failure failure, std::string_view text) override;
  void succeeded();
  std::string version_of_answer();
  void on_refusal();
  void forbidden();
  void note_allowed();
  void try_again(Duration pause, const std::string& why);
  void give_up(const std::string& why);
  void put_back();
  void note(const std::string& why);
  void arm(Duration pause);

  net::EventLoop& loop_;
  Transport& transport_;
  Random& random_;
  const WriterOptions options_;
  Refusals patches_refused_;
  std::map<std::string, Refusals, std::less<>> events_refused_;  // by path: a namespace each
  std::map<std::string, Patch, std::less<>> patches_;
  std::map<std::string, History, std::less<>> histories_;
  std::deque<std::string> patch_queue_;
  std::deque<WaitingEvent> event_queue_;
  std::map<std::string, Instant, std::less<>> repeats_;  // when an event was last wanted and let through
  Instant pause_until_{};
  uint64_t event_number_ = 0;

  Kind kind_ = Kind::none;  // of the running call
  CallId call_ = 0;
  std::string patch_path_, patch_body_, patch_ours_, patch_seen_;
  WaitingEvent event_;
  int http_status_ = 0;
  std::optional<Duration> retry_after_;
  std::string answer_;
  bool unauthorized_ = false;
  Decoder decoder_;
  Backoff backoff_;
  WriterStatus counts_;
  net::Timer timer_;
};

void WriterImpl::apply_status(std::string path, std::string body, std::string ours, std::string seen) {
  auto found = patches_.find(path);
  if (found == patches_.end()) {
    if (patches_.size() >= options_.patches_max) {
      ++counts_.patches_dropped;
      return note("too many objects have a status to be written");
    }
    found = patches_.emplace(path, Patch{}).first;
  }
  Patch& patch = found->second;
  patch.seen = std::move(seen);
  const bool writing = kind_ == Kind::patch && patch_path_ == path, waits = writing || patch.waiting;
  if (body == (writing ? patch_body_ : waits ? patch.wanted : patch.written) && (waits || !patch.undone())) {
    if (writing) patch.wanted = std::move(body);
    ++counts_.patches_unchanged;
    return;
  }
  if (patch.waiting) ++counts_.patches_coalesced;
  const bool new_words = patch.ours != ours;
  patch.wanted = std::move(body);
  patch.ours = std::move(ours);
  if (writing) return;  // when that has ended, the queue looks again
  if (!patch.waiting) return enqueue(path, patch);
  if (new_words) patch.not_before = Instant{};
  arm(Duration{0});
}

void WriterImpl::enqueue(const std::string& path, Patch& patch) {
  patch.waiting = true;
  const Duration pause = pause_before(path, patch);
  patch.not_before = loop_.now() + pause;
  patch_queue_.push_back(path);
  arm(pause);
}

// ---- what does not last ----

// The second time at once: an accident. Then 1 s, 2 s, 4 s...
Duration WriterImpl::again_pause(int again) const {
  if (again <= 1) return Duration{0};
  return std::min(options_.again_most, options_.again_first * (1 << std::min(again - 2, 20)));
}

// What has stayed for a good while was not undone by somebody who will always do it.
bool WriterImpl::lasts(const History& history) const {
  const Duration pause = again_pause(history.again);
  return loop_.now() - history.last >
         std::max<Duration>(seconds(60), std::min<Duration>(pause * 4, pause + seconds(60)));
}

// How long to wait before this is written. Counts.
Duration WriterImpl::pause_before(const std::string& path, const Patch& patch) {
  const auto found = histories_.find(path);
  if (found == histories_.end() || found->second.ours != patch.ours) return Duration{0};
  History& history = found->second;
  if (lasts(history)) history.again = 0;
  history.last = loop_.now();
  return again_pause(++history.again);
}

// `version`: of the object now. Where it has not changed, the server had what we wrote all the time.
void WriterImpl::note_written(std::string_view version) {
  if (histories_.size() >= options_.patches_max) {
    std::erase_if(histories_, [&](const auto& entry) { return lasts(entry.second); });
  }
  History& history = histories_[patch_path_];
  if (history.ours != patch_ours_) history = {patch_ours_, loop_.now(), 0};
  history.effective = version.empty() || version != patch_seen_;
}

bool WriterImpl::contested(std::string_view path) const {
  const auto found = histories_.find(path);
  if (found == histories_.end()) return false;
  const History& history = found->second;
  return history.again >= contested_from && history.effective && !lasts(history);
}

void WriterImpl::forget(std::string_view path) {
  const auto found = patches_.find(path);
  if (found == patches_.end()) return;
  std::erase(patch_queue_, path);
  patches_.erase(found);
}

void WriterImpl::event(Event event) {
  const Instant now = loop_.now();
  const std::string key =
      event.uid + '/' + event.kind + '/' + event.ns + '/' + event.name + '/' + event.reason + '/' + event.note;
  if (repeats_.size() >= repeats_max) {
    std::erase_if(repeats_, [&](const auto& entry) { return now - entry.second >= options_.event_repeat; });
  }
  if (repeats_.size() >= repeats_max) repeats_.clear();
  const auto [found, fresh] = repeats_.try_emplace(key, now);
  if (!fresh && now - found->second < options_.event_repeat) {
    ++counts_.events_repeated;
    return;
  }
  found->second = now;
  if (event_queue_.size() >= options_.events_max) {
    event_queue_.pop_front();
    ++counts_.events_dropped;
  }
  if (event.ns.empty()) event.ns = "default";
  const int64_t wall_us = loop_.clock().wall_time_us();
  WaitingEvent waiting;
  append_escaped(waiting.path = "/apis/events.k8s.io/v1/namespaces/", event.ns);
  waiting.path += "/events";
  waiting.body = event_body(event, options_, wall_us, ++event_number_);
  event_queue_.push_back(std::move(waiting));
  arm(Duration{0});
}

WriterStatus WriterImpl::status() const {
  WriterStatus status = counts_;
  status.patches_waiting = patch_queue_.size() + (kind_ == Kind::patch ? 1 : 0);
  status.events_waiting = event_queue_.size() + (kind_ == Kind::event ? 1 : 0);
  return status;
}

void WriterImpl::arm(Duration pause) {
  const Instant when = std::max(loop_.now() + pause, pause_until_);
  if (!timer_.armed() || when < timer_.deadline()) loop_.arm_at(timer_, when);
}

void WriterImpl::next() {
  if (kind_ != Kind::none) return;
  if (loop_.now() < pause_until_) return loop_.arm_at(timer_, pause_until_);
  const auto due = [&](const std::string& path) { return patches_.find(path)->second.not_before; };
  const auto first = std::min_element(patch_queue_.begin(), patch_queue_.end(),
                                      [&](const auto& a, const auto& b) { return due(a) < due(b); });
  const Instant patch_at = first == patch_queue_.end() ? Instant::max() : std::max(due(*first), patches_refused_.until);
  if (patch_at <= loop_.now()) return start_patch(first);
  const auto event = std::min_element(event_queue_.begin(), event_queue_.end(),
                                      [&](const auto& a, const auto& b) { return event_due(a) < event_due(b); });
  const Instant event_at = event == event_queue_.end() ? Instant::max() : event_due(*event);
  if (event_at <= loop_.now()) return start_event(event);
  if (const Instant wake = std::min(patch_at, event_at); wake != Instant::max()) loop_.arm_at(timer_, wake);
}

// Events of a namespace where we may not write wait; others go past them.
Instant WriterImpl::event_due(const WaitingEvent& event) const {
  const auto refused = events_refused_.find(event.path);
  return refused == events_refused_.end() ? Instant{} : refused->second.until;
}

void WriterImpl::start_patch(std::deque<std::string>::iterator at) {
  patch_path_ = std::move(*at);
  patch_queue_.erase(at);
  Patch& patch = patches_.find(patch_path_)->second;
  patch.waiting = false;
  patch_body_ = patch.wanted;
  patch_ours_ = patch.ours;
  patch_seen_ = patch.seen;
  Query query(patch_path_);
  if (patch_path_.find('?') == std::string::npos) query.add("fieldManager", options_.field_manager);
  query.add("force", "true");
  Call call;
  call.method = "PATCH";
  call.path = query.take();
  call.content_type = "application/apply-patch+yaml";  // JSON is YAML
  call.body = patch_body_;
  start(Kind::patch, std::move(call));
}

void WriterImpl::start_event(std::deque<WaitingEvent>::iterator at) {
  event_ = std::move(*at);
  event_queue_.erase(at);
  Call call;
  call.method = "POST";
  call.path = event_.path;
  call.content_type = "application/json";
  call.body = event_.body;
  start(Kind::event, std::move(call));
}

void WriterImpl::start(Kind kind, Call call) {
  kind_ = kind;
  http_status_ = 0;
  retry_after_.reset();
  answer_.clear();
  call.timeout = options_.call_timeout;
  call_ = transport_.start(std::move(call), *this);
}

void WriterImpl::on_status(int status, std::optional<Duration> retry_after) {
  http_status_ = status;
  retry_after_ = retry_after;
}

void WriterImpl::on_bytes(std::string_view bytes) {
  answer_.append(bytes.substr(0, options_.answer_bytes_max - std::min(answer_.size(), options_.answer_bytes_max)));
}

void WriterImpl::on_done(Failure failure, std::string_view text) {
  call_ = 0;
  if (failure != Failure::none) {
    return try_again(backoff_.next(loop_.now(), random_), std::string(name(failure)) + ": " + std::string(text));
  }
  if (http_status_ >= 200 && http_status_ < 300) return succeeded();
  on_refusal();
}

void WriterImpl::succeeded() {
  backoff_.clear();
  unauthorized_ = false;
  counts_.last_error.clear();
  note_allowed();
  if (kind_ == Kind::event) {
    ++counts_.events_written;
  } else {
    ++counts_.patches_written;
    const std::string version = version_of_answer();
    note_written(version);
    if (const auto found = patches_.find(patch_path_); found != patches_.end()) {  // else forgotten meanwhile
      Patch& patch = found->second;
      patch.written = patch_body_;
      patch.version = version;
      if ((patch.wanted != patch_body_ || patch.undone()) && !patch.waiting) enqueue(patch_path_, patch);
    }
  }
  kind_ = Kind::none;
  pause_until_ = loop_.now() + options_.pause;
  arm(options_.pause);
}

std::string WriterImpl::version_of_answer() {
  answer_.reserve(answer_.size() + json_padding);
  Metadata metadata;
  return decoder_.metadata(answer_, metadata) ? std::string(metadata.version) : "";
}

void WriterImpl::on_refusal() {
  answer_.reserve(answer_.size() + json_padding);
  const std::optional<StatusObject> answer = decoder_.status(answer_);
  const std::string why = "HTTP " + std::to_string(http_status_) + " " +
                          (answer ? answer->message : std::string(cut_utf8(trimmed(answer_), 200)));
  if (http_status_ == 403) return forbidden();
  if (http_status_ == 401) {
    transport_.refresh_credentials();
    const bool at_once = !std::exchange(unauthorized_, true);
    return try_again(at_once ? Duration{0} : backoff_.next(loop_.now(), random_), why);
  }
  const bool busy = http_status_ == 409 || http_status_ == 429 || http_status_ >= 500;
  // A server answers 500 to a field that its resource definition does not have, or has with another type.
  const bool other_schema = http_status_ == 500 && why.find("failed to create typed patch object") != std::string::npos;
  if (!busy || other_schema) return give_up(why);
  std::optional<Duration> after = retry_after_;
  if (!after && answer) after = answer->retry_after;
  try_again(after ? std::min(*after, options_.retry_after_most) : backoff_.next(loop_.now(), random_), why);
}

// A server that has just started refuses everybody until it has read its roles. Who really has no right is told of it
// once, and tries again much later with whatever is wanted then. Either way the other kind of write goes on.
void WriterImpl::forbidden() {
  const bool patch = kind_ == Kind::patch;
  Refusals& refusals = patch ? patches_refused_ : events_refused_[event_.path];
  const bool soon = ++refusals.in_a_row <= forbidden_soon;
  if (!soon && !std::exchange(refusals.told, true)) {
    log::warn(patch ? "kubernetes: status is not written: forbidden" : "kubernetes: events are not written: forbidden",
              {{"path", patch ? patch_path_ : event_.path}});
  }
  (patch ? counts_.patches_forbidden : counts_.events_forbidden) |= !soon;
  refusals.until = loop_.now() + (soon ? backoff_.next(loop_.now(), random_) : options_.forbidden_retry);
  try_again(Duration{0}, "forbidden");
}

void WriterImpl::note_allowed() {
  if (kind_ == Kind::patch) {
    patches_refused_ = {};
    counts_.patches_forbidden = false;
  } else if (events_refused_.erase(event_.path) != 0) {
    counts_.events_forbidden = std::any_of(events_refused_.begin(), events_refused_.end(),
                                           [](const auto& entry) { return entry.second.told; });
  }
}

void WriterImpl::try_again(Duration pause, const std::string& why) {
  ++counts_.failures;
  note(why);
  put_back();
  kind_ = Kind::none;
  pause_until_ = loop_.now() + pause;
  timer_.cancel();
  arm(pause);
}

// The object is gone, or the server does not take what we write: trying again would not help.
void WriterImpl::give_up(const std::string& why) {
  ++counts_.failures;
  note(why);
  if (http_status_ != 404) {
    log::warn("kubernetes: the server refuses a write",
              {{"path", kind_ == Kind::patch ? patch_path_ : event_.path}, {"error", cut_utf8(why, 300)}});
  }
  if (kind_ == Kind::event) {
    ++counts_.events_dropped;
  } else {
    ++counts_.patches_dropped;
    const auto patch = patches_.find(patch_path_);
    // Another body than the refused one may fare better; the same is not tried again.
    if (patch != patches_.end()) {
      patch->second.written = patch_body_;
      patch->second.version.clear();
      if (patch->second.wanted != patch_body_) put_back();
    }
  }
  kind_ = Kind::none;
  pause_until_ = loop_.now() + options_.pause;
  arm(options_.pause);
}

void WriterImpl::put_back() {
  if (kind_ == Kind::event) return event_queue_.push_front(std::move(event_));
  const auto patch = patches_.find(patch_path_);
  if (patch == patches_.end() || patch->second.waiting) return;
  patch->second.waiting = true;
  patch->second.not_before = loop_.now();  // after those that wait
  patch_queue_.push_back(patch_path_);
}

void WriterImpl::note(const std::string& why) {
  counts_.last_error = cut_utf8(why, 300);
}

Writer::Writer(net::EventLoop& loop, Transport& transport, Random& random, WriterOptions options)
    : impl_(std::make_unique<WriterImpl>(loop, transport, random, std::move(options))) {}
Writer::~Writer() = default;

void Writer::apply_status(std::string path, std::string body, std::string ours, std::string seen) {
  if (ours.empty()) ours = body;
  impl_->apply_status(std::move(path), std::move(body), std::move(ours), std::move(seen));
}
bool Writer::contested(std::string_view path) const {
  return impl_->contested(path);
}
void Writer::forget(std::string_view path) {
  impl_->forget(path);
}
void Writer::event(Event event) {
  impl_->event(std::move(event));
}
WriterStatus Writer::status() const {
  return impl_->status();
}

}  // namespace penstock::kube
