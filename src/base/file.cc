#include "penstock/base/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
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

}  // namespace penstock
