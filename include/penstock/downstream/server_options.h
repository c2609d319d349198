// What a Server allows its clients, and how long it waits for them. Plain values, replaced as a whole by a reload: what
// is a limit of one HTTP/2 connection keeps the value that it began with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "penstock/base/time.h"
#include "penstock/http/parser.h"

namespace penstock::downstream {

// A head that is incomplete counts so many times, because its buffer grows by doubling.
constexpr size_t head_growth = 2;

struct Http2Options {
  // Connections that begin with the preface of HTTP/2 speak it. Only for a Service that uses nothing but Responder.
  bool enabled = false;
  uint32_t streams = 128;  // requests at a time on one connection; more are refused (REFUSED_STREAM)
  // Bytes of a body that may be on their way to us, of one request and of the connection. They wait nowhere: what
  // arrives is taken at once or refused.
  size_t stream_window = 1024 * 1024, connection_window = 4 * 1024 * 1024;
  // Requests that a client may break off, by resetting them or by making us reset them: so many at once, and a tenth of
  // that each second. And frames that neither ask nor answer anything (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty
  // ones), beside some for each frame that does.
  uint32_t resets = 200, idle_frames = 2000;
};

struct ServerOptions {
  http::ParserLimits parser;
  // 0: none. header_timeout is for the whole head; the others are for pauses.
  Duration header_timeout = seconds(30), body_timeout = seconds(60), idle_timeout = seconds(600),
           write_timeout = seconds(60);
  // Bytes per second that a client must send of a body, and take of an answer that waits for it; 0: any rate will do.
  // A client may fall short for `rate_grace`: each byte buys the time that it takes at this rate, up to the grace. Time
  // during which no byte waits for the client does not count, so an answer that is slow itself hurts nobody.
  uint64_t min_rate = 0;
  Duration rate_grace = seconds(60);
  // Most bytes of the memory budget for heads that have not arrived completely, of this server. If more is needed, the
  // oldest of them gives way.
  size_t unfinished_heads = SIZE_MAX;
  Duration linger_timeout = seconds(5);  // how long input is discarded after a refused request
  // Drain: a client whose last answer promised keep-alive has this long to send another request.
  Duration parting_silence = seconds(1);
  size_t linger_bytes_max = 128 * 1024 * 1024;
  Duration half_close_probe = milliseconds(50);  // how long after its FIN a client without an answer is probed
  Http2Options http2;
};

// With Duration::max(), which timers take for never, where a timeout is 0.
inline ServerOptions for_timers(ServerOptions options) {
  for (Duration* timeout :
       {&options.header_timeout, &options.body_timeout, &options.idle_timeout, &options.write_timeout}) {
    if (*timeout == Duration{0}) *timeout = Duration::max();
  }
  return options;
}

}  // namespace penstock::downstream
