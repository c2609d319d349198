#pragma once
// The engine of the load tools: one thread, epoll, many keep-alive connections to loopback addresses.
// A JobSource says what to send and when; the engine sends it, reads the answer (a body or a stream of
// server-sent events) and keeps the histograms. In open loop latency runs from the moment a request was
// due, not from when a connection was free for it, so that a slow server cannot hide its queue.

#include <netinet/in.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "perf/common/framing.h"
#include "perf/common/histogram.h"
#include "perf/common/posix.h"

namespace penstock::perf {

// What is sent: `text` (owned), then `shared` (kept by the source), as one request.
struct Job {
  uint64_t due_ns = 0;
  std::string text;
  std::string_view shared;
  uint32_t tag = 0;
};

enum class Failure : uint8_t { none, connect, reset, status, truncated, unfinished };
inline constexpr const char* failure_names[] = {"none", "connect", "reset", "status", "truncated", "unfinished"};
inline constexpr size_t failure_count = 6;

struct Result {
  Failure failure = Failure::none;
  int status = 0;
  uint32_t tag = 0;
  bool streamed = false;
  uint64_t events = 0;
  uint64_t ttft_ns = 0;
  uint64_t latency_ns = 0;
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
  uint32_t completion_tokens = 0;
  std::string_view endpoint;  // the answer's x-penstock-endpoint
};

class JobSource {
 public:
  virtual ~JobSource() = default;
  // True and the job when one may start at `now`.
  virtual bool next(uint64_t now, Job& job) = 0;
  // When to ask again if nothing ends before (UINT64_MAX: only then).
  virtual uint64_t next_due() const = 0;
  // No job will come any more.
  virtual bool exhausted() const = 0;
  virtual void finished(const Result& result) = 0;
  virtual void tick(uint64_t now) { static_cast<void>(now); }
};

struct LoadOptions {
  std::vector<sockaddr_in> targets;  // connections are spread over them evenly
  uint32_t connections = 64;
  double seconds = 10;  // no job starts after this
  double warmup = 0;    // nothing is recorded before this
  double drain = 0;     // how long unfinished answers may go on after the end
  bool read_usage = false;
  std::vector<int> watch;  // processes whose CPU time is taken over the recorded window
};

struct LoadReport {
  Histogram latency;
  Histogram ttft;
  Histogram gap;    // between two events of a stream
  Histogram added;  // from the back end's send to our read
  uint64_t requests = 0;
  uint64_t events = 0;
  uint64_t bytes = 0;
  uint64_t failures[failure_count] = {};
  uint64_t open_at_end = 0;  // streams that the end of the run cut; not an error
  uint64_t in_flight_at_start = 0;
  double window_s = 0;
  ProcessSample before;
  ProcessSample after;

  uint64_t errors() const;
  std::string json(const std::string& extra = {}) const;
  std::string text() const;
};

class LoadClient {
 public:
  LoadClient(const LoadOptions& options, JobSource& source);
  ~LoadClient();
  LoadClient(const LoadClient&) = delete;
  LoadClient& operator=(const LoadClient&) = delete;

  // Opens every connection and leaves it idle; false when one could not be opened.
  bool open_all();
  void run();
  // Keeps what is open for a while, only noticing what the other side does.
  void hold(double seconds);
  const LoadReport& report() const { return report_; }

 private:
  struct Connection;
  struct Reader;

  void start_jobs(uint64_t now);
  void assign(Connection* c, Job job);
  Connection* idle_connection();
  Connection* open_connection();
  void handle(Connection* c, uint32_t events);
  void send_more(Connection* c);
  void read_all(Connection* c);
  void take_event(Connection* c, std::string_view event);
  void take_body(Connection* c, std::string_view span);
  void read_usage(Connection* c, std::string_view text);
  void finish(Connection* c, Failure failure);
  void drop(Connection* c);
  void begin_window(uint64_t now);
  void end_window(uint64_t now);
  void turn(uint64_t wake_at);

  LoadOptions options_;
  JobSource& source_;
  LoadReport report_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Connection*> idle_;  // oldest first: every connection gets its turn
  std::vector<Connection*> unopened_;
  std::deque<Job> waiting_;
  uint64_t busy_ = 0;
  uint32_t connecting_ = 0;
  size_t next_target_ = 0;
  uint64_t retry_at_ = 0;  // after a failed connect, try again from here on
  uint64_t window_start_ = 0;
  uint64_t read_at_ = 0;  // clock of the current receive
  int epoll_ = -1;
  bool recording_ = false;
  std::unique_ptr<char[]> buffer_;
};

}  // namespace penstock::perf
