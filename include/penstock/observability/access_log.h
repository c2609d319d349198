// The access log: one line per exchange. Each shard formats its lines into its own byte ring (one producer, one
// consumer, no lock); one writer thread empties all rings into the file with large writes. A shard never waits for the
// disk: if its ring is full, the line is dropped and counted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "penstock/base/log.h"
#include "penstock/base/result.h"
#include "penstock/base/stats.h"
#include "penstock/proxy/observer.h"

namespace penstock::observability {

struct AccessLogOptions {
  bool enabled = true;
  log::Format format = log::Format::text;
  std::string path = "-";       // "-": standard output
  bool query = false;           // paths with their query
  size_t shards = 1;            // fixed when opened
  size_t ring_bytes = 1 << 20;  // per shard; power of two; fixed when opened
};

class AccessLog;

// A shard's end of it. Only that shard's thread calls write().
class AccessLogWriter {
 public:
  AccessLogWriter(AccessLog& log, size_t ring_bytes);

  void write(const proxy::ExchangeRecord& record);

  uint64_t lines() const { return lines_.get(); }
  uint64_t dropped() const { return dropped_.get(); }

 private:
  friend class AccessLog;
  static constexpr size_t line_max = 8192;

  bool push(std::string_view line);
  // Writer thread: the bytes that wait, in up to two pieces; `second` is the part after the ring wraps around.
  size_t waiting(std::span<const char>* first, std::span<const char>* second) const;
  void consume(size_t bytes) { tail_.store(tail_.load(std::memory_order_relaxed) + bytes, std::memory_order_release); }

  AccessLog& log_;
  const size_t ring_bytes_;
  std::unique_ptr<char[]> ring_;
  Counter lines_, dropped_;
  char line_[line_max];
  alignas(64) std::atomic<size_t> head_{0};  // bytes ever pushed
  size_t seen_tail_ = 0;                     // the producer's last known value of tail_
  alignas(64) std::atomic<size_t> tail_{0};  // bytes ever taken
};

// Owns the writer thread and the file. For the control thread, except where another thread is named.
class AccessLog {
 public:
  // Starts the writer thread. Fails when the file cannot be opened.
  static Result<std::unique_ptr<AccessLog>> open(const AccessLogOptions& options);
  ~AccessLog();  // stop()
  AccessLog(const AccessLog&) = delete;

  AccessLogWriter& shard(size_t index) { return *shards_[index]; }

  // reopen() opens the file again (after rotation); configure() may also change file and format. On failure nothing
  // changes, and the old file stays in use. Lines that already wait may still go to the old file.
  Result<bool> reopen() { return configure(options_); }
  Result<bool> configure(const AccessLogOptions& options);

  // Writes the waiting lines and ends the thread. A file that accepts no bytes is abandoned after a second. Idempotent.
  void stop();

  // Any thread.
  uint64_t lines() const;    // taken from shards
  uint64_t dropped() const;  // ring full, or the file refused them
  uint64_t write_errors() const { return write_errors_.get(); }

 private:
  friend class AccessLogWriter;
  explicit AccessLog(const AccessLogOptions& options, int fd);

  void run();
  bool drain();  // true when there was something
  void write_out(AccessLogWriter& shard);
  void tell_of_loss(const char* why);
  void tell_of_recovery();
  bool can_write();
  void take_new_file();
  void use_file(int fd);
  void wake();
  void wait(int timeout_ms);

  AccessLogOptions options_;
  std::atomic<bool> enabled_;
  std::atomic<log::Format> format_;
  std::atomic<bool> query_;
  std::vector<std::unique_ptr<AccessLogWriter>> shards_;
  int fd_ = -1;  // these: writer thread's
  bool may_block_ = false, stalled_ = false;
  bool losing_ = false, told_ = false;  // lines are being lost; a warning about it was logged
  uint64_t lost_before_ = 0;            // lost_lines_ when that began
  Instant tell_next_{};
  int wake_fd_;
  std::atomic<int> next_fd_{-1};   // handed over by configure()
  std::atomic<bool> idle_{false};  // the writer sleeps until it is woken, at most a second
  std::atomic<bool> stopping_{false};
  Counter write_errors_, lost_lines_;  // writer thread's
  std::thread thread_;
};

}  // namespace penstock::observability
