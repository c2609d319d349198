#include "signals.h"

#include <pthread.h>
#include <signal.h>

namespace penstock::app {

namespace {

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&set, signal);
  return set;
}

}  // namespace

void Signals::block() {
  const sigset_t set = watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

Signals::Signals(std::function<void(int)> deliver)
    : thread_([this, deliver = std::move(deliver)] {
        const sigset_t set = watched();
        int signal = 0;
        while (sigwait(&set, &signal) == 0 && !stopping_.load(std::memory_order_relaxed)) {
          if (signal != SIGUSR2) deliver(signal);  // SIGUSR2 only wakes this thread; anybody else's means nothing
        }
      }) {}

Signals::~Signals() {
  stopping_.store(true, std::memory_order_relaxed);
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

}  // namespace penstock::app
