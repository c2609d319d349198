// One HTTP call to the API server, as the state machines see it: start, bytes as they come, an end. The seam that tests
// replace; the real one is libcurl's multi interface on the control thread's event loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/base/result.h"
#include "penstock/base/time.h"
#include "penstock/kube/config.h"
#include "penstock/net/event_loop.h"

namespace penstock::kube {

struct Call {
  std::string method = "GET";
  std::string path;                // "/api/v1/pods?limit=500": with the query, already escaped
  std::string content_type, body;  // body is sent only when there is a content type
  Duration timeout{0};             // for the whole call; 0: none (a watch)
  bool fresh_connection = false;   // do not trust idle connections (after a stall)
};

enum class Failure : uint8_t {
  none,         // the answer ended as HTTP says it does
  connect,      // no connection: refused, unreachable, name not found, connect timeout
  tls,          // the handshake or a certificate
  cut,          // the connection broke or ended too early
  timeout,      // Call::timeout
  credentials,  // a file or plugin that should give them does not; nothing was sent
  protocol,     // the peer does not speak HTTP
};
const char* name(Failure failure);

// All on the loop's thread, never from inside start() or cancel().
class CallEvents {
 public:
  // The head of the answer, once, before any bytes. `retry_after` is set when the header was there.
  virtual void on_status(int status, std::optional<Duration> retry_after) = 0;
  // A piece of the body, valid during the call.
  virtual void on_bytes(std::string_view bytes) = 0;
  // The last event. `text` says why when `failure` is not none.
  virtual void on_done(Failure failure, std::string_view text) = 0;

 protected:
  ~CallEvents() = default;
};

using CallId = uint64_t;  // 0: none; never used twice

class Transport {
 public:
  virtual ~Transport() = default;
  // `events` must live until on_done or cancel().
  virtual CallId start(Call call, CallEvents& events) = 0;
  // No further event of that call. Ids of calls that have ended are ignored. May be called from inside an event.
  virtual void cancel(CallId id) = 0;
  // The server said 401: what is cached (an exec plugin's answer) is not used again.
  virtual void refresh_credentials() = 0;
};

struct CurlLimits {
  Duration connect_timeout = seconds(10);
  Duration keepalive_idle = seconds(15), keepalive_interval = seconds(5);
  int keepalive_probes = 3;
  Duration user_timeout = seconds(30);     // unacknowledged bytes for so long: the path is dead
  Duration idle_connection = seconds(60);  // how long one may have been idle to be used again
  Duration exec_time_limit = seconds(30);  // of a credential plugin
  size_t exec_output_max = 1024 * 1024;
  Duration exec_retry = seconds(5);    // after a plugin that failed
  Duration exec_leeway = seconds(10);  // credentials count as expired this much early
};

// HTTP/1.1 over libcurl: its sockets are in an epoll set of our own that the loop's ring watches, its timer is the
// loop's. One connection per running call, idle ones are used again. Token, CA and certificate files are read again for
// every call, so rotation needs nothing else. SIGPIPE must be ignored by the process. Names are resolved by libcurl's
// short-lived helper threads (not for IP addresses, which is what a pod gets).
// Cancels all calls when destroyed; not to be destroyed from inside an event of its own.
Result<std::unique_ptr<Transport>> make_curl_transport(net::EventLoop& loop, ClientConfig config,
                                                       const CurlLimits& limits = {});

}  // namespace penstock::kube
