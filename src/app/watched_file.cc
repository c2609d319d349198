#include "watched_file.h"

#include <sys/stat.h>

#include <utility>

namespace penstock::app {

bool WatchedFile::changed() {
  Stamp now;
  return !path_.empty() && look(&now) && std::exchange(last_, now) != now;
}

bool WatchedFile::look(Stamp* out) const {
  struct stat found {};
  if (::stat(path_.c_str(), &found) != 0) return false;
  const auto ns = [](const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  *out = {found.st_dev, found.st_ino, static_cast<uint64_t>(found.st_size), ns(found.st_mtim), ns(found.st_ctim)};
  return true;
}

}  // namespace penstock::app
