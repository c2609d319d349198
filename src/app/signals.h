// Signals as messages: a thread waits for them and posts each to the control loop, so that no code of ours ever runs in
// a signal handler. Made before any other thread starts (they inherit the blocked mask).
#pragma once

#include <functional>
#include <thread>

namespace penstock::app {

class Signals {
 public:
  // `deliver` is called on the waiting thread with SIGTERM, SIGINT or SIGHUP.
  explicit Signals(std::function<void(int)> deliver);
  ~Signals();  // stops the thread

  static void block();  // call first thing in main: blocks them, ignores SIGPIPE

 private:
  std::thread thread_;
};

}  // namespace penstock::app
