#include "ring_common.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "penstock/net/clock.h"

namespace penstock::net {
namespace {

constexpr int listen_backlog = 4096;  // the kernel lowers it to net.core.somaxconn

bool set_flag(int fd, int level, int option, Counter& syscalls, int value = 1) {
  syscalls.add();
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

// A peer that is gone without a word is noticed within half a minute, also by who has nothing to send.
void keep_alive(int fd, Counter& syscalls) {
  constexpr int idle_s = 15, between_s = 5, count = 3;
  set_flag(fd, SOL_SOCKET, SO_KEEPALIVE, syscalls);
  set_flag(fd, IPPROTO_TCP, TCP_KEEPIDLE, syscalls, idle_s);
  set_flag(fd, IPPROTO_TCP, TCP_KEEPINTVL, syscalls, between_s);
  set_flag(fd, IPPROTO_TCP, TCP_KEEPCNT, syscalls, count);
}

// Errors of the one connection that accept4() was about to return; the listener itself is well.
bool concerns_one_connection(int error) {
  switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case EPERM:  // a firewall rule
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
      return true;
    default:
      return false;
  }
}

}  // namespace

void AcceptBackoff::add(SocketId listener) {
  entries_.push_back({listener, system_clock().now() + pause});
}

Duration AcceptBackoff::limit(Duration max_wait) const {
  if (entries_.empty()) return max_wait;
  const Duration left = std::max(Duration(0), entries_.front().retry - system_clock().now());
  return max_wait < Duration(0) ? left : std::min(left, max_wait);
}

SocketId AcceptBackoff::take_due() {
  if (entries_.empty() || entries_.front().retry > system_clock().now()) return {};
  const SocketId listener = entries_.front().listener;
  entries_.erase(entries_.begin());
  return listener;
}

Result<int> open_listener(const Address& at, bool reuse_port, Address* bound, Counter& syscalls) {
  syscalls.add();
  const int fd = socket(at.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Message{describe("socket", errno)};
  const char* failed = nullptr;
  if (!set_flag(fd, SOL_SOCKET, SO_REUSEADDR, syscalls)) failed = "setsockopt SO_REUSEADDR";
  if (failed == nullptr && reuse_port && !set_flag(fd, SOL_SOCKET, SO_REUSEPORT, syscalls)) {
    failed = "setsockopt SO_REUSEPORT";
  }
  // Inherited by every accepted socket, so that none needs a call of its own.
  if (failed == nullptr && !set_flag(fd, IPPROTO_TCP, TCP_NODELAY, syscalls)) failed = "setsockopt TCP_NODELAY";
  syscalls.add(2);
  if (failed == nullptr && bind(fd, at.data(), at.size()) != 0) failed = "bind";
  if (failed == nullptr && ::listen(fd, listen_backlog) != 0) failed = "listen";
  if (failed != nullptr) {
    const int error = errno;
    ::close(fd);
    return Message{"cannot listen on " + at.to_string() + ": " + describe(failed, error)};
  }
  if (bound != nullptr) {
    syscalls.add();
    *bound = Address::local_of(fd);
  }
  return fd;
}

Connecting start_connect(const Address& to, int below, Counter& syscalls) {
  Connecting result;
  syscalls.add();
  result.fd = socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (result.fd < 0) {
    result.error = errno;
    return result;
  }
  if (below > 0 && result.fd >= below) {
    ::close(result.fd);
    return {.fd = -1, .error = EMFILE};
  }
  set_flag(result.fd, IPPROTO_TCP, TCP_NODELAY, syscalls);
  keep_alive(result.fd, syscalls);
  syscalls.add();
  // An interrupted connect goes on by itself, as does one that is in progress.
  if (::connect(result.fd, to.data(), to.size()) != 0 && errno != EINPROGRESS && errno != EINTR) {
    result.error = errno;
  }
  return result;
}

SendResult send_pieces(int fd, std::span<const iovec> pieces, RingStats& stats) {
  constexpr size_t most = 1024;  // IOV_MAX
  constexpr int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  SendResult result;
  while (!pieces.empty()) {
    const std::span<const iovec> part = pieces.first(std::min(pieces.size(), most));
    size_t wanted = 0;
    for (const iovec& piece : part) wanted += piece.iov_len;
    pieces = pieces.subspan(part.size());
    if (wanted == 0) continue;
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(part.data());
    message.msg_iovlen = part.size();
    ssize_t sent;
    do {
      stats.syscalls.add();
      // Not ::send(): the C library's makes each call a cancellation point of the thread, at a price.
      sent = part.size() == 1 ? syscall(SYS_sendto, fd, part[0].iov_base, wanted, flags, nullptr, 0)
                              : syscall(SYS_sendmsg, fd, &message, flags);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN) return {-errno, true};
    if (sent > 0) result.taken += sent;
    if (sent > 0) stats.bytes_sent.add(static_cast<uint64_t>(sent));
    result.complete = sent == static_cast<ssize_t>(wanted);
    if (!result.complete) break;
  }
  return result;
}

size_t unsent_bytes(int fd, Counter& syscalls) {
  int bytes = 0;
  syscalls.add();
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

int take_socket_error(int fd, Counter& syscalls) {
  int error = 0;
  socklen_t size = sizeof error;
  syscalls.add();
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
  return error;
}

void arm_reset(int fd, Counter& syscalls) {
  const linger at_once{1, 0};
  syscalls.add();
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

int accept_one(int fd, Counter& syscalls) {
  for (int skipped = 0; skipped < 16; ++skipped) {
    syscalls.add();
    const int accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted >= 0) return accepted;
    if (errno == EWOULDBLOCK) return -EAGAIN;
    if (errno != EINTR && !concerns_one_connection(errno)) return -errno;
  }
  return -ENOBUFS;  // something keeps failing: pause instead of spinning on it
}

std::string describe(const char* call, int error) {
  char text[128];
  return std::string(call) + ": " + strerror_r(error, text, sizeof text);
}

}  // namespace penstock::net
