// The state machine behind Reflector. begin() looks at what is wanted (the full truth, or to go on from version_) and
// starts the call for it; every way in which that call ends leads to begin() again, at once or after a pause.
//   reflector.cc         the flow: what to ask next, how calls end, pauses
//   reflector_answers.cc what answers other than 200 mean
//   reflector_data.cc    lists and watch events: what reaches the sink
//   reflector_get.cc     get_now()
#pragma once

#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "backoff.h"
#include "decode.h"
#include "held_objects.h"
#include "line_buffer.h"
#include "penstock/kube/reflector.h"
#include "penstock/net/timer.h"

namespace penstock::kube {

class ReflectorImpl final : CallEvents {
 public:
  ReflectorImpl(net::EventLoop& loop, Transport& transport, Random& random, std::string name, Resource resource,
                ObjectSink& sink, const ReflectorLimits& limits);
  ~ReflectorImpl() { stop(); }

  void start();
  void stop();
  void refresh();
  void hurry();
  bool get_now(std::string_view ns, std::string_view name);
  ReflectorStatus status() const;

 private:
  enum class Job : uint8_t { none, list, stream, watch };
  // From which version on a list may be: whatever a cache has, at least what we have seen, or the latest there is.
  enum class ListFrom : uint8_t { cache, seen, latest };
  struct Get final : CallEvents {
    Get(ReflectorImpl& impl, std::string_view in, std::string_view named) : owner(impl), ns(in), name(named) {}
    void on_status(int code, std::optional<Duration>) override { status = code; }
    void on_bytes(std::string_view bytes) override {
      if (body.size() + bytes.size() <= owner.limits_.event_bytes_max) body.append(bytes);
    }
    void on_done(Failure failure, std::string_view) override { owner.on_get_done(*this, failure); }

    ReflectorImpl& owner;
    std::string ns, name, body;
    int status = 0;
    uint64_t round = 0;
    bool superseded = false;  // the watch has brought an event of this object
    CallId call = 0;
  };

  // reflector.cc
  void begin();
  void start_list(bool first_page);
  void start_watch(Job job);
  void start_call(Job job, std::string path);
  void list_instead(std::string_view why);
  void end_call();
  void want_full(Relist reason, ListFrom from);
  void arm_safety() { loop_.arm(safety_, jittered(limits_.relist_min, limits_.relist_max)); }
  void restart(Restart reason, std::string_view why);  // after a back-off
  void restart_in(Duration pause, Restart reason, std::string_view why, ReflectorState state = ReflectorState::waiting);
  void count(Restart reason, std::string_view why);
  void on_retry();
  void on_watchdog();
  void on_safety();
  void on_status(int status, std::optional<Duration> retry_after) override;
  void on_bytes(std::string_view bytes) override;
  void on_done(Failure failure, std::string_view text) override;
  void on_failure(Failure failure, std::string_view text);
  void on_watch_end();
  void suspect();
  std::string path_of(std::string_view ns) const;
  Duration jittered(Duration least, Duration most) { return Backoff::between(least, most, random_); }

  // reflector_answers.cc
  void on_refusal(int status, std::optional<Duration> retry_after);
  void on_expired(const std::string& why);
  void on_too_large(const std::string& why);
  void on_unauthorized(const std::string& why);
  void on_forbidden(const std::string& why);
  void on_absent(const std::string& why);
  void on_error_event(std::string_view object);

  // reflector_data.cc
  void on_list_page();
  void take_lines();
  void on_line(std::string_view line);
  void on_change(const WatchEvent& event);
  void on_bookmark(const Metadata& metadata);
  bool deliver(const Metadata& metadata, std::string_view json);
  void remove(std::string_view ns, std::string_view name, std::string_view uid);
  void finish_full(std::string version);
  void undecodable(std::string_view what);
  void framing_failed(std::string_view why);

  // reflector_get.cc
  void on_get_done(Get& get, Failure failure);
  void supersede_gets(std::string_view ns, std::string_view name);

  net::EventLoop& loop_;
  Transport& transport_;
  Random& random_;
  const std::string name_;
  const Resource resource_;
  ObjectSink& sink_;
  const ReflectorLimits limits_;

  ReflectorState state_ = ReflectorState::stopped;
  Job job_ = Job::none;
  CallId call_ = 0;
  int http_status_ = 0;
  std::optional<Duration> retry_after_;
  std::string body_;  // of a list, or of a refusal
  LineBuffer lines_;
  Decoder decoder_;
  HeldObjects objects_;

  std::string version_;  // to resume from; empty: there is none
  bool full_wanted_ = true;
  bool full_optional_ = false;  // only to be safe: a failure leads back to the watch
  ListFrom list_from_ = ListFrom::cache;
  std::string continue_, first_page_version_;
  bool paged_ = true;   // false after pages have expired twice in a row
  uint64_t round_ = 0;  // of listing
  uint64_t life_ = 0;   // rises when the call or everything ends: whoever called the sink looks at it again
  Instant no_stream_until_{};
  bool fresh_connection_ = false;
  bool server_was_away_ = false;
  bool unreached_ = false;      // calls failed as they do while the server is away, and none has gone well since
  bool may_hurry_ = false;      // so did the last one, and the server has not said how long to wait
  Instant retry_at_{};          // when the pause ends
  bool not_installed_ = false;  // the last that was heard of the resource
  Instant suspected_at_{};      // when that was last guessed from a watch that ended; zero: never

  // Of the running call.
  Instant call_started_{}, last_byte_{}, deadline_{};
  uint64_t call_events_ = 0;
  bool moved_ = false;  // the version has changed

  int unauthorized_ = 0, forbidden_ = 0, absent_ = 0, framing_ = 0, expired_ = 0;  // in a row
  Backoff backoff_;
  net::Timer retry_, watchdog_, safety_;

  std::list<std::unique_ptr<Get>> gets_;
  std::unordered_map<std::string, Instant> last_gets_;

  // For status().
  bool synced_ = false;
  Instant started_{}, byte_at_{}, current_at_{};
  ReflectorStatus counts_;
  std::array<Instant, restart_count> logged_{};
  Instant undecodable_logged_{};
  bool failure_logged_ = false;
};

}  // namespace penstock::kube
