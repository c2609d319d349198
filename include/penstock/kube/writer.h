// Writes back to the API server: status by server-side apply, and Events. Everything is queued, only changes are
// written, one call at a time. Whoever may not write loses nothing but that: one warning, then a try every ten minutes.
// Control thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "penstock/base/random.h"
#include "penstock/kube/transport.h"

namespace penstock::kube {

struct WriterOptions {
  std::string field_manager = "penstock";
  std::string reporting_controller = "penstock.dev/penstock";
  std::string reporting_instance;     // the pod's name; at most 128 bytes are sent
  Duration pause = milliseconds(50);  // between two writes
  Duration call_timeout = seconds(10);
  Duration backoff_first = milliseconds(800), backoff_most = seconds(30);
  Duration retry_after_most = seconds(60);
  Duration forbidden_retry = seconds(600);  // after 403, for that kind of write
  Duration event_repeat = seconds(600);     // the same event is not written again within this time
  // What was written and has to be written again, because somebody else has changed it: the pause before the third
  // time, which doubles from then on.
  Duration again_first = seconds(1), again_most = seconds(300);
  size_t patches_max = 2000, events_max = 256;  // waiting; beyond that the oldest event, or the new patch, is dropped
  size_t answer_bytes_max = 64 * 1024;          // how much of an answer is kept
};

// What an operator should know about an object. Texts longer than the API allows are cut.
struct Event {
  std::string api_version, kind, ns, name, uid;  // regarding; ns empty: cluster-scoped, the event goes to "default"
  bool warning = false;
  std::string reason;  // CamelCase, one word
  std::string action;  // what we did or tried, CamelCase
  std::string note;    // a sentence
};

struct WriterStatus {
  uint64_t patches_written = 0, patches_unchanged = 0, patches_coalesced = 0, patches_dropped = 0;
  uint64_t events_written = 0, events_repeated = 0, events_dropped = 0;
  uint64_t failures = 0;  // answers and connections that failed, retried or not
  size_t patches_waiting = 0, events_waiting = 0;
  bool patches_forbidden = false, events_forbidden = false;
  std::string last_error;
};

class WriterImpl;

class Writer {
 public:
  Writer(net::EventLoop& loop, Transport& transport, Random& random, WriterOptions options);
  ~Writer();
  Writer(const Writer&) = delete;

  // `path` is the object's status subresource ("/apis/G/V/namespaces/NS/PLURAL/NAME/status"; "?fieldManager=NAME"
  // behind it: for another manager than the options'), `body` the JSON to apply: apiVersion, kind, metadata.name (and
  // namespace), status. The last body for a path wins; one equal to what was last written is not written again, unless
  // `seen`, the version of the object that was found to say something else, is newer than what that write made: then
  // somebody has changed it since. `ours` is what of the body is ours to say ("": all of it): where the same has to be
  // written again and again, because it does not last, the pauses grow.
  void apply_status(std::string path, std::string body, std::string ours = "", std::string seen = "");
  // The object is gone, or its status is as wanted: forget what was written and what waits.
  void forget(std::string_view path);
  // What we write there does not last.
  bool contested(std::string_view path) const;
  void event(Event event);

  WriterStatus status() const;

 private:
  std::unique_ptr<WriterImpl> impl_;
};

}  // namespace penstock::kube
