// Which engine can be had here: found by using io_uring the way the engine does.
#include <poll.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <vector>

#include "penstock/base/log.h"
#include "penstock/net/clock.h"
#include "penstock/net/ring.h"
#include "ring_common.h"
#include "ring_epoll.h"
#include "ring_uring.h"
#include "ring_uring_queue.h"

namespace penstock::net {
namespace {

constexpr uint64_t receive_mark = 1, cancel_mark = 2;
constexpr Duration patience = seconds(2);

class SocketPair {
 public:
  SocketPair() { made_ = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends_) == 0; }
  ~SocketPair() {
    if (!made_) return;
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  SocketPair(const SocketPair&) = delete;
  bool made() const { return made_; }
  int ours() const { return ends_[0]; }
  int theirs() const { return ends_[1]; }

 private:
  int ends_[2] = {-1, -1};
  bool made_ = false;
};

// One multishot receive over a socket pair, with every byte checked, then its cancellation.
class Trial {
 public:
  // Empty when all went well, else what did not.
  std::string run() {
    if (const int error = queue_.open(true)) return describe_uring_failure(queue_.failed_call(), error);
    if (!pair_.made()) return describe("socketpair", errno);
    queue_.receive_multishot(pair_.ours(), receive_mark);
    queue_.wait(Duration(0));
    // Spread over several buffers, then once more for a request that has already completed.
    for (const size_t size : {UringQueue::buffer_size + 1000, size_t{1}, size_t{3000}}) {
      if (!send(size)) return "the kernel takes no bytes on a socket pair";
      if (std::string wrong = collect([&] { return received_ == sent_; }); !wrong.empty()) return wrong;
    }
    if (ended_) return "multishot receive: ends after each completion";
    queue_.cancel(receive_mark, cancel_mark);
    if (std::string wrong = collect([&] { return ended_; }); !wrong.empty()) return "cancel: " + wrong;
    return {};
  }

  std::string features() const {
    return std::string("defer_taskrun, multishot receive, provided buffer ring") +
           (queue_.limits_receives() ? ", receive limits" : "") +
           (UringQueue::locked_memory_is_short() ? ", small rings (RLIMIT_MEMLOCK is below 64 MiB)" : "");
  }

 private:
  static char expected(size_t position) { return static_cast<char>('a' + position % 23); }

  bool send(size_t size) {
    std::vector<char> bytes(size);
    for (char& byte : bytes) byte = expected(sent_++);
    return ::send(pair_.theirs(), bytes.data(), size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
  }

  template <typename Done>
  std::string collect(Done done) {
    const Instant deadline = system_clock().now() + patience;
    while (!done()) {
      if (system_clock().now() >= deadline) return "multishot receive: no completion";
      queue_.wait(milliseconds(100));
      std::vector<Completion> completions;
      queue_.reap(completions, 64);
      for (const Completion& completion : completions) {
        if (std::string wrong = take(completion); !wrong.empty()) return wrong;
      }
    }
    return {};
  }

  std::string take(const Completion& completion) {
    if (completion.user_data != receive_mark) return describe("cancel", -completion.result);
    if (completion.last) ended_ = true;
    if (completion.last && completion.result == -ECANCELED) return {};
    if (completion.result <= 0) return describe_uring_failure("multishot receive", -completion.result);
    if (completion.buffer < 0) return "multishot receive: no buffer was chosen";
    const char* bytes = queue_.buffer(completion.buffer);
    for (int32_t i = 0; i < completion.result; ++i) {
      if (bytes[i] != expected(received_++)) return "multishot receive: wrong bytes or wrong order";
    }
    queue_.recycle(completion.buffer);
    return {};
  }

  Counter syscalls_;
  SocketPair pair_;
  UringQueue queue_{syscalls_};
  size_t sent_ = 0, received_ = 0;
  bool ended_ = false;
};

Result<std::unique_ptr<Ring>> epoll_because(const std::string& why, Duration spin) {
  Result<std::unique_ptr<Ring>> ring = make_epoll_ring(spin);
  if (ring.ok()) (*ring)->set_reason(why);
  return ring;
}

}  // namespace

RingProbe probe_rings() {
  RingProbe probe;
  utsname system{};
  if (uname(&system) == 0) probe.kernel = system.release;
  Trial trial;
  const std::string wrong = trial.run();
  probe.io_uring_usable = wrong.empty();
  probe.detail = wrong.empty() ? trial.features() : wrong;
  return probe;
}

Result<std::unique_ptr<Ring>> make_ring(const RingOptions& options, const RingProbe& probe) {
  const bool demanded = options.kind == RingKind::io_uring;
  if (demanded && !probe.io_uring_usable) return Message{"io_uring cannot be used: " + probe.detail};
  if (options.kind == RingKind::epoll || !probe.io_uring_usable) return epoll_because(probe.detail, options.spin);
  Result<std::unique_ptr<Ring>, UringFailure> ring = make_uring_ring(options.spin);
  if (!ring) {
    if (demanded) return Message{"io_uring cannot be used: " + ring.error().text};
    log::warn("an event loop runs on epoll", {{"io_uring", ring.error().text}});
    return epoll_because(ring.error().text, options.spin);
  }
  (*ring)->set_reason(probe.detail);
  return std::move(*ring);
}

}  // namespace penstock::net
