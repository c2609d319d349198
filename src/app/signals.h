// Signals as messages: a thread waits for them and posts each to the control loop, so that no code of ours ever runs in
// a signal handler.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace penstock::app {

class Signals {
 public:
  // `deliver` is called on the waiting thread with SIGTERM, SIGINT or SIGHUP.
  explicit Signals(std::function<void(int)> deliver);
  ~Signals();  // stops the thread

  // Blocks these signals and ignores SIGPIPE. To be called in main before any thread starts, so that all threads
  // inherit the mask.
  static void block();

 private:
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace penstock::app
