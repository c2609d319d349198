// One io_uring with its provided receive buffers: set-up, submission, completions. Knows requests and
// buffers but no sockets; the engine and the start-up probe are built on it.
// Thread: the one that called open() (SINGLE_ISSUER).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "penstock/base/stats.h"
#include "penstock/base/time.h"

struct io_uring;
struct io_uring_buf;
struct io_uring_sqe;

namespace penstock::net {

struct Completion {
  uint64_t user_data = 0;
  int32_t result = 0;   // bytes or poll events, or -errno
  int32_t buffer = -1;  // the receive buffer that now is ours, or -1
  bool last = true;     // the request will not complete again
};

class UringQueue {
 public:
  // Buffers are used in turn, so together they are the working set and should fit the L2 cache; but
  // the about 20 completions that one wait hands over must each find one. Measured per relayed
  // message: 16 run out in every burst (+5 %), 64 cost +13 % on large bodies. A power of two.
  static constexpr unsigned buffer_count = 32;
  static constexpr size_t buffer_size = 64 * 1024;

  // The kernel counts rings as locked memory (600 KiB each) of their user, all processes together, and gives it back
  // some time after their end. Where RLIMIT_MEMLOCK is below 64 MiB (8 MiB is usual) and binds this process, a ring has
  // room for fewer completions and needs 140 KiB.
  static bool locked_memory_is_short();

  explicit UringQueue(Counter& syscalls);
  ~UringQueue();
  UringQueue(const UringQueue&) = delete;

  // 0, or the errno with which `failed_call()` ended. `flag_work`: lets work_pending() see, without a
  // system call, that the kernel has something to do for us.
  int open(bool flag_work);
  const char* failed_call() const { return failed_call_; }
  // Whether this kernel lets a multishot receive be limited, so that one fast peer cannot take every
  // buffer in one go and its bytes stop soon after a pause.
  bool limits_receives() const { return limits_receives_; }

  // After how many bytes a multishot receive lets other sockets go first, and after how many it ends. What it has
  // received when its socket is paused has to be held by somebody.
  struct ReceiveLimit {
    unsigned slice, total;
  };
  static constexpr ReceiveLimit large{buffer_size, 4 * buffer_size};
  static constexpr ReceiveLimit small{buffer_size / 2, buffer_size};

  // Each queues one request; wait() or a full queue submits it.
  void receive_multishot(int fd, uint64_t user_data, ReceiveLimit limit = large);
  void poll_once(int fd, unsigned events, uint64_t user_data);
  void poll_multishot(int fd, unsigned events, uint64_t user_data);
  void cancel(uint64_t target, uint64_t user_data);  // completes only when it failed
  void cancel_everything(uint64_t user_data);

  // Submits what is queued and waits for a completion: 0 not at all, negative without limit.
  void wait(Duration limit);
  bool completions_ready() const;
  bool requests_queued() const;
  // A cheap look at shared memory: wait(0) would bring something.
  bool work_pending() const;
  // Copies up to `most` completions out of the ring, so that it has room again before handlers run.
  void reap(std::vector<Completion>& into, size_t most);
  // How often the completion queue was found overflown since the last call.
  uint64_t take_overflows();

  char* buffer(int32_t id) { return memory_ + static_cast<size_t>(id) * buffer_size; }
  void recycle(int32_t id);

 private:
  io_uring_sqe* next_request();
  int open_buffers();
  void try_receive_limits();

  Counter& syscalls_;
  std::unique_ptr<io_uring> ring_;
  bool open_ = false;
  bool limits_receives_ = true;
  const char* failed_call_ = "";
  char* memory_ = nullptr;               // the buffers
  io_uring_buf* buffer_ring_ = nullptr;  // shared with the kernel: which of them are free
  uint16_t buffer_tail_ = 0;
  uint64_t overflows_ = 0;
  std::vector<Completion> spilled_;  // taken out early to make room; older than those in the ring
};

}  // namespace penstock::net
