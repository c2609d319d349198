// Keys that endpoints want, from files: read when they are first asked for, and again when the file changes. A file
// that cannot be used any more changes nothing: the key known before stays. Thread: control.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "penstock/discovery/directory.h"
#include "penstock/net/event_loop.h"
#include "watched_file.h"

namespace penstock::app {

class ApiKeys {
 public:
  explicit ApiKeys(net::EventLoop& loop) : loop_(loop), look_(net::Timer::of<&ApiKeys::look>(this)) {}

  // The key of this file; null for "". The same object until nobody has it any more: what changes is its text.
  std::shared_ptr<const discovery::ApiKey> of(const std::string& path);

 private:
  struct Entry {
    WatchedFile file;
    std::shared_ptr<discovery::ApiKey> key;
  };

  void look();
  static void read(Entry& entry);

  net::EventLoop& loop_;
  std::map<std::string, Entry> entries_;
  net::Timer look_;
};

}  // namespace penstock::app
