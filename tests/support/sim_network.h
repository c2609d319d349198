// A network in one process, for tests: TCP as a program sees it, on virtual time, with faults. Everything is decided by
// one seeded random source, so a seed replays a run exactly. SimRing (sim_ring.h) shows it through net::Ring.
//
// Thread: all of it belongs to the test's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/net/address.h"
#include "penstock/net/clock.h"
#include "penstock/net/event_loop.h"
#include "penstock/net/ring.h"

namespace penstock::test {

class SimRing;
class SimNetwork;

// 127.0.0.1:port, or another host of 10.0.0.0/8 when `host` is not 0.
net::Address sim_address(uint16_t port, uint32_t host = 0);

// How the network misbehaves. Probabilities are per occasion.
struct SimFaults {
  double connect_refused = 0;     // though somebody listens
  double connect_lost = 0;        // never answered: ETIMEDOUT after two minutes
  double connect_no_socket = 0;   // connect() itself fails with EMFILE
  double accept_error = 0;        // on_accept_error first, the connection a little later
  double reset = 0;               // per send: the connection breaks, both ends learn of it
  double reset_loses_data = 0;    // a reset also destroys bytes that were under way or not yet read
  double short_send = 0;          // takes less than it has room for
  double fragment = 0;            // bytes sent together arrive in several pieces
  double short_delivery = 0;      // on_bytes gets less than what has arrived
  double late_bytes = 0;          // pause_recv() does not stop what "the kernel had already handed over"
  double late_fin = 0;            // FIN arrives up to 3 s late
  double latency_spike = 0;       // a piece takes up to latency_spike_max
  double error_while_paused = 0;  // a reset is told although receiving is paused
  double slow_turn = 0;           // the thread is away for up to 50 ms after a turn: events and timers pile up
  Duration latency_min{20'000}, latency_max{200'000}, latency_spike_max{300'000'000};
  size_t socket_buffer_min = 64 * 1024, socket_buffer_max = 256 * 1024;  // per direction of a connection

  // No faults, but latency and limited buffers.
  static SimFaults none() { return {}; }
  // A random subset of the kinds above, with random weights. A run in which everything is likely is dominated by the
  // most drastic fault and never gets anywhere; leaving kinds out reaches deeper.
  static SimFaults swarm(uint64_t seed);
};

// Virtual time. Moved by SimNetwork alone.
class SimClock final : public net::Clock {
 public:
  Instant now() override { return now_; }
  int64_t wall_time_us() override { return 1'700'000'000'000'000 + now_.time_since_epoch().count() / 1000; }

 private:
  friend class SimNetwork;
  Instant now_{seconds(1000)};
};

// One end of a connection. Private to the simulation.
struct SimSocket {
  enum class State : uint8_t { connecting, open, closed };
  enum class Kind : uint8_t { bytes, fin, reset };
  struct Segment {
    Instant arrival;
    Kind kind;
    std::string bytes;
  };

  bool readable() const { return !paused || late_bytes > 0; }
  bool hang_up_untold() const { return paused && fin_arrived && !eof_told && !hang_up_told; }
  bool pending() const;  // has an event to deliver now
  size_t room() const { return unread < buffer_limit ? buffer_limit - unread : 0; }

  State state = State::connecting;
  SimRing* ring = nullptr;  // nullptr: accepted by nobody yet
  net::SocketId id;
  net::SocketEvents* events = nullptr;
  std::weak_ptr<SimSocket> peer;
  size_t buffer_limit = 0;

  std::deque<Segment> outgoing;  // sent, not arrived
  size_t unread = 0;             // sent, not yet delivered to the peer's owner
  std::string inbox;             // arrived, not yet delivered
  size_t late_bytes = 0;         // how much of it may still be delivered although paused
  int error = 0;                 // to be told, or told
  bool connected_untold = false, writable_untold = false, writable_wanted = false;
  bool fin_arrived = false, hang_up_told = false, eof_told = false, fin_sent = false;
  bool error_told = false, error_while_paused = false;
  bool paused = false;
  bool queued = false;  // in its ring's list of sockets with something to deliver
};

struct SimListener {
  net::Address at;
  bool reuse_port = false;
  SimRing* ring = nullptr;
  net::SocketId id;
  net::AcceptEvents* events = nullptr;  // nullptr: closed
  std::deque<std::shared_ptr<SimSocket>> backlog;
};

class SimNetwork {
 public:
  explicit SimNetwork(uint64_t seed, const SimFaults& faults = SimFaults::none());
  // Fails loudly when a socket was not closed.
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;

  SimClock& clock() { return clock_; }
  Instant now() const { return clock_.now_; }
  Random& random() { return random_; }
  uint64_t seed() const { return seed_; }
  // May be changed at any time: first faults, then a calm network in which everything must come to an end.
  SimFaults& faults() { return faults_; }
  // The ring of SimPeers and of other parts of a test that need no loop.
  SimRing& peer_ring() { return *peer_ring_; }

  // Ends not closed yet, also of connections that nobody has accepted or adopted.
  size_t open_sockets() const { return open_sockets_; }
  size_t open_listeners() const { return listeners_.size(); }

  // Runs `action` at a time to come, between turns.
  void after(Duration delay, std::function<void()> action);

  // One turn of every ring (and of the loop on it); when none had anything to do, time moves on to the next event or
  // timer. False: nothing will ever happen any more.
  bool step() { return step_until(Instant::max()); }
  // Steps until done() or until `limit` of virtual time has passed; the last value of done().
  bool run_until(const std::function<bool()>& done, Duration limit = seconds(60));
  // Exactly this much virtual time.
  void run_for(Duration time);

  // Prints why, the seed and the time, and aborts.
  [[noreturn]] void fail(const char* why) const;

 private:
  friend class SimRing;
  using SocketPtr = std::shared_ptr<SimSocket>;

  bool step_until(Instant end);
  bool run_rings();
  Duration latency();
  size_t random_size(size_t least, size_t most) { return least + random_.below(most - least + 1); }

  SocketPtr new_socket();
  void begin_connect(const SocketPtr& socket, const net::Address& to);
  void arrive_at_listener(const SocketPtr& client, const net::Address& to);
  SimListener* find_listener(const net::Address& to);
  void accept_now(const std::weak_ptr<SimListener>& listener);
  void transmit(const SocketPtr& from, SimSocket::Kind kind, std::string bytes);
  void arrive(const SocketPtr& from);
  void arrive_one(const SocketPtr& from, SimSocket::Segment& segment);
  void break_connection(const SocketPtr& socket);
  void fail_socket(const SocketPtr& socket, int error);
  void delivered(SimSocket& receiver, size_t bytes);
  void become_writable(const SocketPtr& socket);
  void close_socket(const SocketPtr& socket, bool reset);
  void close_listener(SimListener& listener);

  const uint64_t seed_;
  SimFaults faults_;
  Random random_;
  SimClock clock_;
  std::map<std::pair<Instant, uint64_t>, std::function<void()>> agenda_;
  uint64_t sequence_ = 0;
  std::vector<SimRing*> rings_;
  std::vector<std::shared_ptr<SimListener>> listeners_;
  std::map<int, SocketPtr> accepted_;  // fake descriptors on their way from on_accept to adopt
  int next_descriptor_ = 1'000'000;    // no real one: closing it by mistake does no harm
  uint16_t next_port_ = 40'000;
  size_t open_sockets_ = 0;
  uint64_t steps_without_progress_ = 0;
  std::unique_ptr<SimRing> peer_ring_;
};

}  // namespace penstock::test
