// Tells when a file was written or replaced, also through links as those of a ConfigMap. One stat() a look.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace penstock::app {

class WatchedFile {
 public:
  // "": none.
  explicit WatchedFile(std::string path = "") : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  // Whether it is another one than at the last look; there is always news in the first one. False while there is no
  // file: it may be about to be replaced.
  bool changed();

 private:
  struct Stamp {
    uint64_t device = 0, inode = 0, bytes = 0;
    int64_t written_ns = 0, changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  bool look(Stamp* out) const;

  std::string path_;
  Stamp last_;
};

}  // namespace penstock::app
