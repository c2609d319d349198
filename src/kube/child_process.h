// Runs one program and collects what it prints, without blocking the loop. Control thread.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "penstock/net/event_loop.h"

namespace penstock::kube {

struct ChildOutcome {
  bool success = false;  // started, exited with 0, in time
  std::string output;    // standard output
  std::string error;     // why not, with the end of standard error
};

class ChildProcess {
 public:
  using Done = std::function<void(ChildOutcome)>;

  // `environment` is added to ours. `done` is called once, never from inside run(), and may destroy this.
  ChildProcess(net::EventLoop& loop, Done done);
  // A program still running is killed.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;

  void run(const std::string& command, const std::vector<std::string>& arguments,
           const std::vector<std::pair<std::string, std::string>>& environment, Duration time_limit, size_t output_max);

 private:
  struct Stream final : net::ReadyEvents {
    explicit Stream(ChildProcess& child) : owner(child) {}
    void on_ready() override { owner.read(*this); }
    ChildProcess& owner;
    int fd = -1;
    net::SocketId watch;
    std::string text;
    size_t most = 0;
  };

  bool spawn(const std::string& command, const std::vector<std::string>& arguments,
             const std::vector<std::pair<std::string, std::string>>& environment);
  bool open(Stream& stream, int& theirs);
  void read(Stream& stream);
  void close(Stream& stream);
  void on_reap();
  void on_time_limit();
  void kill_now();
  void finish(bool success, std::string error);

  net::EventLoop& loop_;
  Done done_;
  Stream output_{*this}, errors_{*this};
  int pid_ = -1;
  std::string failure_;  // known before the end
  net::Timer reap_, limit_;
};

}  // namespace penstock::kube
