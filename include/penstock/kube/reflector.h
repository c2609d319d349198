// Follows one collection of objects: lists it, watches it, and tells a sink of every change, through every way in which
// an API server, a proxy or a network ends a watch. Keeps what it delivered, so that an object whose deletion was
// missed is found by the next full list. Control thread.
//
// Two ways to the full truth: a streamed list (WatchList), or LIST in pages. Both are delivered as they come, and
// applied as a difference: when the last object has come, what was delivered earlier and is not among them is deleted.
// After that, watches resume from the last resourceVersion, and the full list comes again only when the server has
// forgotten that version, or every ten minutes on suspicion.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "penstock/base/random.h"
#include "penstock/kube/transport.h"

namespace penstock::kube {

// Every span of JSON given to a sink has this many readable bytes behind its end (of no meaning): enough for simdjson
// to parse it in place, with padded_string_view(json.data(), json.size(), json.size() + json_padding).
inline constexpr size_t json_padding = 64;

struct ObjectRef {
  std::string_view ns, name, uid;  // ns is empty for cluster-scoped objects
};

// On the control thread; must not block, nor destroy the reflector. May call stop().
class ObjectSink {
 public:
  // ADDED, MODIFIED or listed: the object's whole JSON, valid during the call. The same object may come again
  // unchanged. A new uid under a known name is preceded by on_deleted() of the old one.
  virtual void on_object(ObjectRef object, std::string_view json) = 0;
  // Once for each object delivered; of one that was never delivered, never.
  virtual void on_deleted(ObjectRef object) = 0;
  // After each full list was applied, deletions of the difference included.
  virtual void on_synced() = 0;
  // The server has answered again after it could not be reached, or failed.
  virtual void on_reached() {}

 protected:
  ~ObjectSink() = default;
};

struct Resource {
  std::string prefix;          // "/api/v1", "/apis/llm-d.ai/v1alpha2"
  std::string plural;          // "pods"
  std::string ns;              // empty: all namespaces, or cluster-scoped
  std::string label_selector;  // as in kubectl -l, not escaped
  std::string field_selector;
  bool confidential = false;  // no log line shows what its objects hold
};

struct ReflectorLimits {
  uint64_t page_size = 500;                   // objects per page of a list
  size_t list_bytes_max = 256 << 20;          // of one page (resourceVersion 0 brings everything)
  size_t event_bytes_max = 16 << 20;          // of one line of a watch
  Duration list_silence = seconds(60);        // without a byte of a list, or of any answer
  Duration watch_timeout_min = seconds(240);  // asked of the server, jittered
  Duration watch_timeout_max = seconds(300);
  Duration watch_overrun = seconds(30);        // a server that does not end it then
  Duration watch_silence = seconds(150);       // without a byte of a watch
  Duration watch_list_patience = seconds(10);  // streamed list: no byte and not ended
  Duration watch_list_total = seconds(60);     // streamed list: not ended at all
  Duration no_stream_pause = seconds(3600);    // lists are not streamed after a server has refused it
  Duration short_watch = seconds(1);           // one that ends earlier and brought nothing has failed
  Duration cut_retry_max = milliseconds(100);  // pause after the first cut of a healthy watch
  Duration backoff_first = milliseconds(800), backoff_most = seconds(30);  // each up to twice that, by jitter
  Duration backoff_reset = seconds(120);                                   // this long without failure: starts over
  Duration hurry_max = milliseconds(200);                                  // what is left of such a pause by hurry()
  Duration retry_after_most = seconds(60);                                 // a longer Retry-After is cut to this
  int forbidden_soon = 4;  // so many 403s in a row are followed by the back-off only
  Duration forbidden_retry_min = seconds(30), forbidden_retry_max = seconds(60);  // and the others by this
  Duration absent_retry = seconds(30);                                            // up to 1.5 times that, by jitter
  int absent_confirmations = 3;                                       // 404s in a row before known objects are given up
  int framing_failures = 3;                                           // in a row at the same version: full list
  Duration relist_min = seconds(480), relist_max = seconds(720);      // the safety relist
  Duration suspicion_min = seconds(30), suspicion_max = seconds(60);  // the same, after the server may have been away
  Duration suspicion_pause = seconds(300);                            // between two such, of watches that were cut
  Duration get_pause = seconds(1);                                    // between two get_now() of one object
  size_t gets_in_flight = 8;                                          // get_now() beyond that are refused
  Duration get_timeout = seconds(5);
  Duration log_pause = seconds(30);  // between two lines of the same kind
};

enum class ReflectorState : uint8_t { stopped, listing, streaming, watching, waiting, forbidden, absent };

// Why a watch or list ended and was started again.
enum class Restart : uint8_t {
  timeout,  // the server ended the watch as agreed
  cut,      // the connection broke
  connect,  // no connection
  tls,
  credentials,
  stalled,        // no byte for too long
  overrun,        // the server did not end it when asked to
  too_short,      // ended at once without any event
  expired,        // 410, in the stream or as a status
  too_large,      // 504: the server has not seen that version yet
  overloaded,     // 429
  unauthorized,   // 401
  forbidden,      // 403
  absent,         // 404
  server_error,   // 5xx and whatever else
  framing,        // not what the protocol says
  no_watch_list,  // the server does not stream lists
};
inline constexpr size_t restart_count = 17;

// Why the full list was asked for.
enum class Relist : uint8_t { initial, expired, too_large, safety, framing, absent, asked };
inline constexpr size_t relist_count = 7;

const char* name(ReflectorState state);
const char* name(Restart reason);
const char* name(Relist reason);

struct ReflectorStatus {
  bool synced = false;  // a full list was applied at least once
  ReflectorState state = ReflectorState::stopped;
  bool asking = false;  // a full list is under way
  // Since start() when it has not happened yet. An idle watch brings a bookmark about every minute, so that both rise
  // to some 70 s in good health.
  double seconds_since_byte = 0;
  double seconds_since_sync = 0;  // since what we hold was last known to be current: a list applied, a byte of a watch
  std::array<uint64_t, restart_count> restarts{};
  std::array<uint64_t, relist_count> relists{};
  uint64_t events = 0, undecodable = 0;
  uint64_t gets = 0, gets_refused = 0;
  size_t objects = 0;
  std::string last_error;  // empty: the last attempt went well
};

class ReflectorImpl;

class Reflector {
 public:
  // `name` is for log lines. All references must outlive it.
  Reflector(net::EventLoop& loop, Transport& transport, Random& random, std::string name, Resource resource,
            ObjectSink& sink, const ReflectorLimits& limits = {});
  ~Reflector();
  Reflector(const Reflector&) = delete;

  // Nothing is delivered from inside start().
  void start();
  // Forgets what was delivered, without telling the sink.
  void stop();
  // A full list as soon as possible.
  void refresh();
  // The server is known to answer: a pause that follows a failure to reach it ends at once, but for a little jitter.
  void hurry();
  // Reads one object now, past the watch, because something says that what we hold is stale (nobody answers at a pod's
  // address). Its result goes to the sink as usual, unless the watch has brought something newer meanwhile. False: not
  // done, because it was just done, too many are under way, or a full list is being read.
  bool get_now(std::string_view ns, std::string_view name);

  ReflectorStatus status() const;

 private:
  std::unique_ptr<ReflectorImpl> impl_;
};

}  // namespace penstock::kube
