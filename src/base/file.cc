#include "penstock/base/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

namespace penstock {

Result<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text;
  char piece[16 * 1024];
  ssize_t size = fd;
  while (size >= 0) {
    do size = ::read(fd, piece, sizeof piece);
    while (size < 0 && errno == EINTR);
    if (size == 0) break;
    if (size > 0) text.append(piece, static_cast<size_t>(size));
  }
  const std::string reason = size < 0 ? std::strerror(errno) : "";
  if (fd >= 0) ::close(fd);
  if (size < 0) return Message{"cannot be read: " + reason};
  return text;
}

ssize_t write_now(int fd, std::span<const iovec> pieces) {
  struct stat about {};
  const bool full_when_unread =
      fstat(fd, &about) == 0 && (S_ISFIFO(about.st_mode) || S_ISSOCK(about.st_mode) || isatty(fd) == 1);
  if (!full_when_unread) return ::writev(fd, pieces.data(), static_cast<int>(pieces.size()));
  pollfd wanted{.fd = fd, .events = POLLOUT, .revents = 0};
  if (poll(&wanted, 1, 0) <= 0) {
    errno = EAGAIN;
    return -1;
  }
  // What is writable takes this much without blocking, unless another process or thread is faster: where the kernel
  // can be told not to wait even then, it is.
  std::array<iovec, 4> cut;
  size_t count = 0, left = PIPE_BUF;
  for (const iovec& piece : pieces) {
    if (count == cut.size()) break;
    cut[count] = {piece.iov_base, std::min(piece.iov_len, left)};
    left -= cut[count++].iov_len;
  }
  const ssize_t written = pwritev2(fd, cut.data(), static_cast<int>(count), -1, RWF_NOWAIT);
  if (written >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS)) return written;
  return ::writev(fd, cut.data(), static_cast<int>(count));
}

}  // namespace penstock
