// The simulated engine behind net::Ring: the same contract as io_uring and epoll, on a SimNetwork.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "penstock/base/memory_budget.h"
#include "penstock/net/buffer.h"
#include "tests/support/sim_network.h"

namespace penstock::test {

class SimRing final : public net::Ring {
 public:
  explicit SimRing(SimNetwork& network);
  ~SimRing() override;
  SimRing(const SimRing&) = delete;

  // Let the network run this loop's turns instead of the bare ring's. nullptr: no more.
  void drive(net::EventLoop* loop) { loop_ = loop; }

  const char* name() const override { return "sim"; }
  net::SocketId adopt(int fd, net::SocketEvents& events) override;
  void hand_over(net::SocketId id, net::SocketEvents& events) override;
  Result<net::SocketId, int> connect(const net::Address& to, net::SocketEvents& events) override;
  ssize_t send(net::SocketId id, std::span<const iovec> pieces) override;
  size_t unsent(net::SocketId id) override;
  void pause_recv(net::SocketId id) override;
  void resume_recv(net::SocketId id) override;
  void shutdown_send(net::SocketId id) override;
  void close(net::SocketId id, bool reset = false) override;
  Result<net::SocketId> listen(const net::Address& at, bool reuse_port, net::AcceptEvents& events,
                               net::Address* bound) override;
  void close_listener(net::SocketId id) override;
  Result<net::SocketId, int> watch(int fd, net::ReadyEvents& events) override;
  void unwatch(net::SocketId id) override;
  size_t turn(Duration max_wait) override;
  void wake() override { woken_ = true; }

 private:
  friend class SimNetwork;
  using SocketPtr = std::shared_ptr<SimSocket>;
  struct Slot {
    uint32_t generation = 0;
    SocketPtr socket;
    std::shared_ptr<SimListener> listener;
  };
  struct Acceptance {
    std::weak_ptr<SimListener> listener;
    int error;  // 0: a connection waits in the backlog
  };

  net::SocketId take_slot();
  void free_slot(net::SocketId id);
  Slot* find(net::SocketId id);
  SocketPtr find_socket(net::SocketId id);
  void own(const SocketPtr& socket, net::SocketEvents& events);
  void note(const SocketPtr& socket);  // queue it if it has something to deliver
  void deliver(SimSocket& socket);
  void deliver_bytes(SimSocket& socket);
  void deliver_acceptance(const Acceptance& acceptance);
  bool run();  // for the network: one turn; true when there may be more to do now

  SimNetwork& network_;
  net::EventLoop* loop_ = nullptr;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::deque<SocketPtr> ready_;
  std::deque<Acceptance> acceptances_;
  Instant wake_at_ = Instant::max();  // until when the last turn would have waited
  Instant away_until_{};              // SimFaults::slow_turn
  bool woken_ = false, busy_ = false, in_turn_ = false;
};

// A ring with a loop on it and what connections need, driven by the network.
class SimLoop {
 public:
  explicit SimLoop(SimNetwork& network, size_t budget_bytes = 64 * 1024 * 1024)
      : budget_(budget_bytes), pool_(part_), ring_(network), loop_(ring_, network.clock()) {
    ring_.drive(&loop_);
  }
  ~SimLoop() { ring_.drive(nullptr); }

  net::EventLoop& loop() { return loop_; }
  net::BlockPool& pool() { return pool_; }
  MemoryBudget& budget() { return budget_; }  // the whole; the pool takes from a part, as in a shard

 private:
  MemoryBudget budget_;
  MemoryBudget part_{&budget_};
  net::BlockPool pool_;
  SimRing ring_;
  net::EventLoop loop_;
};

}  // namespace penstock::test
