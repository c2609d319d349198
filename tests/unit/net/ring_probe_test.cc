#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "ring_fixture.h"
#include "src/net/ring_uring_queue.h"

namespace penstock::net::test {
namespace {

// Makes io_uring_setup end with `error` for this process, for good: what container runtimes do.
bool deny_io_uring(int error) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Runs in a child process: which check fails first, 0 for none.
int check_denied(int error, const char* reason) {
  if (!deny_io_uring(error)) return 1;
  const RingProbe denied = probe_rings();
  if (denied.io_uring_usable) return 2;
  if (denied.detail.find("io_uring_setup: ") != 0 || denied.detail.find(reason) == std::string::npos) return 3;
  RingProbe optimistic;  // as if the sandbox had closed after the probe
  optimistic.io_uring_usable = true;
  for (const RingProbe& told : {denied, optimistic}) {
    const Result<std::unique_ptr<Ring>> automatic = make_ring({}, told);
    if (!automatic.ok() || std::string((*automatic)->name()) != "epoll") return 4;
    if ((*automatic)->reason() != denied.detail) return 6;
    const Result<std::unique_ptr<Ring>> demanded = make_ring({RingKind::io_uring, Duration(0)}, told);
    if (demanded.ok() || demanded.error().text.find(reason) == std::string::npos) return 5;
  }
  return 0;
}

// Makes this process one of an ordinary user, who may lock 8 MiB.
bool limit_locked_memory() {
  const rlimit usual{8 * 1024 * 1024, 8 * 1024 * 1024};
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct held[_LINUX_CAPABILITY_U32S_3] = {};
  if (setrlimit(RLIMIT_MEMLOCK, &usual) != 0 || syscall(SYS_capget, &header, held) != 0) return false;
  held[0].effective &= ~(1u << CAP_IPC_LOCK);
  return syscall(SYS_capset, &header, held) == 0;
}

// Runs in a child process: which check fails first, 0 for none. There is room for 13 large rings, and a thread may
// have 16.
int check_little_locked_memory() {
  if (!limit_locked_memory()) return 1;
  const RingProbe told = probe_rings();
  if (!told.io_uring_usable) return 2;
  if (told.detail.find("small rings (RLIMIT_MEMLOCK") == std::string::npos) return 3;
  std::vector<std::unique_ptr<Ring>> rings;
  for (int i = 0; i < 15; ++i) {
    Result<std::unique_ptr<Ring>> ring = make_ring({RingKind::io_uring, Duration(0)}, told);
    if (!ring.ok()) return 4;
    rings.push_back(std::move(*ring));
  }
  return 0;
}

}  // namespace

TEST_CASE("the probe names the kernel and says why or what") {
  CHECK_FALSE(probe().kernel.empty());
  CHECK_FALSE(probe().detail.empty());
  MESSAGE("kernel " << probe().kernel << ", io_uring "
                    << std::string(probe().io_uring_usable ? "usable: " : "not usable: ") << probe().detail);
}

TEST_CASE("probing leaves no descriptor behind") {
  const size_t before = open_descriptors();
  const RingProbe again = probe_rings();
  CHECK(again.io_uring_usable == probe().io_uring_usable);
  CHECK(open_descriptors() == before);
}

TEST_CASE("the automatic engine follows the probe") {
  RingProbe denied;
  denied.detail = "io_uring_setup: denied for this test";
  Result<std::unique_ptr<Ring>> ring = make_ring({}, denied);
  REQUIRE(ring.ok());
  CHECK(std::string((*ring)->name()) == "epoll");
  ring = make_ring({}, probe());
  REQUIRE(ring.ok());
  CHECK(std::string((*ring)->name()) == (probe().io_uring_usable ? "io_uring" : "epoll"));
}

TEST_CASE("an engine asked for by name is that engine or an error with the probe's reason") {
  RingProbe denied;
  denied.detail = "io_uring_setup: denied for this test";
  const Result<std::unique_ptr<Ring>> uring = make_ring({RingKind::io_uring, Duration(0)}, denied);
  REQUIRE_FALSE(uring.ok());
  CHECK(uring.error().text.find(denied.detail) != std::string::npos);
  RingProbe allowed = probe();
  const Result<std::unique_ptr<Ring>> epoll = make_ring({RingKind::epoll, Duration(0)}, allowed);
  REQUIRE(epoll.ok());
  CHECK(std::string((*epoll)->name()) == "epoll");
}

TEST_CASE("where io_uring is denied the reason is told and epoll is taken") {
  struct Denial {
    int error;
    const char* reason;
  };
  for (const Denial& denial : {Denial{EPERM, "seccomp"}, Denial{ENOSYS, "no io_uring"}, Denial{EINVAL, "6.1"},
                               Denial{ENOMEM, "RLIMIT_MEMLOCK"}}) {
    CAPTURE(denial.reason);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(check_denied(denial.error, denial.reason));
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}

TEST_CASE(
    "24 shards of an ordinary user who may lock 8 MiB have a ring each, and the probe says why it is a small one") {
  NEEDS(IoUring);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(check_little_locked_memory());
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("more completions than the queue holds are counted and all arrive, once") {
  NEEDS(IoUring);
  Counter syscalls;
  UringQueue queue(syscalls);
  REQUIRE(queue.open(false) == 0);
  const Fd ready(eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));  // readable at once: each poll completes
  constexpr size_t count = 80'000;
  for (size_t i = 0; i < count; ++i) queue.poll_once(ready.get(), POLLIN, i + 1);
  std::vector<uint8_t> seen(count + 1, 0);
  std::vector<Completion> completions;
  size_t total = 0;
  uint64_t overflows = 0;
  const Instant deadline = system_clock().now() + seconds(10);
  while (total < count) {
    REQUIRE(system_clock().now() < deadline);
    queue.wait(milliseconds(10));
    overflows += queue.take_overflows();
    completions.clear();
    queue.reap(completions, 256);
    for (const Completion& completion : completions) {
      CHECK(completion.result == POLLIN);
      REQUIRE(completion.user_data <= count);
      CHECK(++seen[completion.user_data] == 1);
    }
    total += completions.size();
  }
  CHECK(overflows > 0);
  queue.wait(Duration(0));
  completions.clear();
  queue.reap(completions, std::numeric_limits<size_t>::max());
  CHECK(completions.empty());
}

}  // namespace penstock::net::test
