#include "penstock/observability/access_log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "access_line.h"
#include "penstock/base/assert.h"
#include "penstock/base/file.h"
#include "penstock/base/log.h"
#include "penstock/net/clock.h"

namespace penstock::observability {
namespace {

constexpr int batch_ms = 10;                  // lines gather for this long while traffic flows: few, large writes
constexpr int asleep_ms = 1000;               // how long a line waits when the writer is just going to sleep
constexpr Duration told_again = seconds(60);  // shortest time between two warnings about lost lines
constexpr int stalled_ms = 1000;              // how long one write may wait for a file that accepts nothing

Result<int> open_file(const std::string& path) {
  // Standard output is duplicated so that every descriptor here is ours to close.
  const int fd = path == "-" ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                             : ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return Message{"access log " + path + " cannot be opened: " + std::strerror(errno)};
  return fd;
}

}  // namespace

// ---- the shard's end ----

AccessLogWriter::AccessLogWriter(AccessLog& log, size_t ring_bytes)
    : log_(log), ring_bytes_(ring_bytes), ring_(std::make_unique<char[]>(ring_bytes)) {
  static_assert(line_max == access_line_max);
  PENSTOCK_ASSERT(std::has_single_bit(ring_bytes));
}

void AccessLogWriter::write(const proxy::ExchangeRecord& record) {
  if (!log_.enabled_.load(std::memory_order_relaxed)) return;
  if (!push(format_access_line(line_, log_.format_.load(std::memory_order_relaxed), record,
                               log_.query_.load(std::memory_order_relaxed)))) {
    dropped_.add();
    return;
  }
  lines_.add();
  // A line may miss a writer that is just going to sleep, which then finds it within asleep_ms: a fence for each line
  // would cost more than that is worth.
  if (log_.idle_.load(std::memory_order_relaxed)) log_.wake();
}

bool AccessLogWriter::push(std::string_view line) {
  const size_t head = head_.load(std::memory_order_relaxed);
  if (ring_bytes_ - (head - seen_tail_) < line.size()) {
    seen_tail_ = tail_.load(std::memory_order_acquire);
    if (ring_bytes_ - (head - seen_tail_) < line.size()) return false;
  }
  const size_t at = head & (ring_bytes_ - 1);
  const size_t until_end = std::min(line.size(), ring_bytes_ - at);
  std::memcpy(ring_.get() + at, line.data(), until_end);
  std::memcpy(ring_.get(), line.data() + until_end, line.size() - until_end);
  head_.store(head + line.size(), std::memory_order_release);
  return true;
}

size_t AccessLogWriter::waiting(std::span<const char>* first, std::span<const char>* second) const {
  const size_t tail = tail_.load(std::memory_order_relaxed);
  const size_t size = head_.load(std::memory_order_acquire) - tail;
  const size_t at = tail & (ring_bytes_ - 1);
  const size_t until_end = std::min(size, ring_bytes_ - at);
  *first = {ring_.get() + at, until_end};
  *second = {ring_.get(), size - until_end};
  return size;
}

// ---- the writer's end ----

Result<std::unique_ptr<AccessLog>> AccessLog::open(const AccessLogOptions& options) {
  int fd = -1;
  if (options.enabled) {
    const Result<int> opened = open_file(options.path);
    if (!opened) return opened.error();
    fd = *opened;
  }
  return std::unique_ptr<AccessLog>(new AccessLog(options, fd));
}

AccessLog::AccessLog(const AccessLogOptions& options, int fd)
    : options_(options),
      enabled_(options.enabled),
      format_(options.format),
      query_(options.query),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  PENSTOCK_ASSERT(wake_fd_ >= 0);
  use_file(fd);
  for (size_t i = 0; i < options.shards; ++i) {
    shards_.push_back(std::make_unique<AccessLogWriter>(*this, options.ring_bytes));
  }
  // The writer thread must not receive signals. A closed pipe is then an error of write(), not the end of the process.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

AccessLog::~AccessLog() {
  stop();
  if (fd_ >= 0) ::close(fd_);
  if (const int next = next_fd_.exchange(-1); next >= 0) ::close(next);
  ::close(wake_fd_);
}

Result<bool> AccessLog::configure(const AccessLogOptions& options) {
  if (options.enabled) {
    const Result<int> opened = open_file(options.path);
    if (!opened) return opened.error();
    const int unused = next_fd_.exchange(*opened, std::memory_order_acq_rel);
    if (unused >= 0) ::close(unused);
  }
  options_.enabled = options.enabled;
  options_.format = options.format;
  options_.path = options.path;
  format_.store(options.format, std::memory_order_relaxed);
  query_.store(options.query, std::memory_order_relaxed);
  enabled_.store(options.enabled, std::memory_order_relaxed);
  wake();
  return true;
}

void AccessLog::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_release);
  wake();
  thread_.join();
}

uint64_t AccessLog::lines() const {
  uint64_t sum = 0;
  for (const auto& shard : shards_) sum += shard->lines();
  return sum;
}

uint64_t AccessLog::dropped() const {
  uint64_t sum = lost_lines_.get();
  for (const auto& shard : shards_) sum += shard->dropped();
  return sum;
}

void AccessLog::wake() {
  const uint64_t one = 1;
  // Only fails when the count is at its maximum, and then the writer is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void AccessLog::wait(int timeout_ms) {
  pollfd wanted{.fd = wake_fd_, .events = POLLIN, .revents = 0};
  if (poll(&wanted, 1, timeout_ms) > 0) {
    uint64_t count;
    [[maybe_unused]] const ssize_t taken = ::read(wake_fd_, &count, sizeof count);
  }
}

void AccessLog::run() {
  pthread_setname_np(pthread_self(), "access-log");
  for (;;) {
    const bool last = stopping_.load(std::memory_order_acquire);
    take_new_file();
    const bool busy = drain();
    if (last) return;
    if (busy) {
      wait(batch_ms);
      continue;
    }
    idle_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // few lines are missed
    if (!drain()) wait(asleep_ms);
    idle_.store(false, std::memory_order_relaxed);
  }
}

void AccessLog::take_new_file() {
  const int next = next_fd_.exchange(-1, std::memory_order_acq_rel);
  if (next < 0) return;
  if (fd_ >= 0) ::close(fd_);
  use_file(next);
}

void AccessLog::use_file(int fd) {
  struct stat about {};
  fd_ = fd;
  const bool known = fd >= 0 && fstat(fd, &about) == 0;
  may_block_ = known && (S_ISFIFO(about.st_mode) || S_ISSOCK(about.st_mode) || isatty(fd) == 1);
  stalled_ = false;
}

bool AccessLog::drain() {
  bool any = false;
  for (const auto& shard : shards_) {
    std::span<const char> first, second;
    if (shard->waiting(&first, &second) == 0) continue;
    any = true;
    write_out(*shard);
  }
  return any;
}

// Waits until a pipe, socket or terminal accepts bytes; files always do. After a wait without success, later calls do
// not wait until bytes were accepted again: otherwise stop() would wait once for each shard.
bool AccessLog::can_write() {
  if (fd_ < 0) return false;
  if (!may_block_) return true;
  pollfd wanted{.fd = fd_, .events = POLLOUT, .revents = 0};
  int ready;
  do {
    ready = poll(&wanted, 1, stalled_ ? 0 : stalled_ms);
  } while (ready < 0 && errno == EINTR);
  stalled_ = ready <= 0;
  return !stalled_;
}

// Logs the beginning of a loss, at most once a minute.
void AccessLog::tell_of_loss(const char* why) {
  if (losing_) return;
  losing_ = true;
  lost_before_ = lost_lines_.get();
  const Instant now = net::system_clock().now();
  if (now < tell_next_) return;
  tell_next_ = now + told_again;
  told_ = true;
  log::warn("the access log cannot be written: lines are lost", {{"error", why}});
}

void AccessLog::tell_of_recovery() {
  losing_ = false;
  if (!told_) return;
  told_ = false;
  log::info("the access log is written again", {{"lines_lost", lost_lines_.get() - lost_before_}});
}

// Writes all waiting bytes of one ring, so that lines of different shards never mix. Bytes that the file refuses are
// lost and counted: a full disk or a stopped reader must not stop the gateway.
void AccessLog::write_out(AccessLogWriter& shard) {
  std::span<const char> first, second;
  size_t left = shard.waiting(&first, &second);
  while (left > 0) {
    ssize_t written = -1;
    const char* why = "it takes no bytes";
    if (can_write()) {
      const iovec pieces[2] = {{const_cast<char*>(first.data()), first.size()},
                               {const_cast<char*>(second.data()), second.size()}};
      written = write_now(fd_, pieces);
      if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (written < 0) why = std::strerror(errno);
    }
    if (written < 0) {
      tell_of_loss(why);
      write_errors_.add();
      const auto lines = std::count(first.begin(), first.end(), '\n') + std::count(second.begin(), second.end(), '\n');
      lost_lines_.add(static_cast<uint64_t>(lines));
      shard.consume(left);
      return;
    }
    if (losing_) tell_of_recovery();
    const auto taken = static_cast<size_t>(written);
    shard.consume(taken);
    left -= taken;
    const size_t from_first = std::min(taken, first.size());
    first = first.subspan(from_first);
    second = second.subspan(taken - from_first);
    if (first.empty()) std::swap(first, second);
  }
}

}  // namespace penstock::observability
