#include "tests/support/sim_network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "tests/support/sim_ring.h"

// Present in sanitizer builds alone.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace penstock::test {

namespace {

// Whatever ends the process in the middle of a run (a failed assertion, a sanitizer's report) is told the seed.
const SimNetwork* running = nullptr;
struct sigaction action_before;

void print_seed() {
  if (running == nullptr) return;
  char line[64];
  const int n =
      std::snprintf(line, sizeof line, "simulation seed: %llu\n", static_cast<unsigned long long>(running->seed()));
  static_cast<void>(!::write(STDERR_FILENO, line, static_cast<size_t>(n)));
}

void on_abort(int signal) {
  print_seed();
  ::sigaction(SIGABRT, &action_before, nullptr);
  ::raise(signal);
}

void tell_seed_of(const SimNetwork& network) {
  if (running == nullptr) {
    struct sigaction action {};
    action.sa_handler = on_abort;
    ::sigaction(SIGABRT, &action, &action_before);
    if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(print_seed);
  }
  running = &network;
}

void forget_seed_of(const SimNetwork& network) {
  if (running != &network) return;
  running = nullptr;
  ::sigaction(SIGABRT, &action_before, nullptr);
}

bool is_any(const net::Address& address) {
  return address.family() == AF_INET &&
         reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr.s_addr == INADDR_ANY;
}

}  // namespace

net::Address sim_address(uint16_t port, uint32_t host) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(host == 0 ? INADDR_LOOPBACK : (10u << 24) + host);
  return {reinterpret_cast<const sockaddr*>(&address), sizeof address};
}

SimFaults SimFaults::swarm(uint64_t seed) {
  Random random(seed ^ 0x5eedfau);
  SimFaults faults;
  const std::pair<double*, double> kinds[] = {
      {&faults.connect_refused, 0.3},  {&faults.connect_lost, 0.05}, {&faults.connect_no_socket, 0.05},
      {&faults.accept_error, 0.2},     {&faults.reset, 0.02},        {&faults.reset_loses_data, 1},
      {&faults.short_send, 0.7},       {&faults.fragment, 0.8},      {&faults.short_delivery, 0.8},
      {&faults.late_bytes, 1},         {&faults.late_fin, 0.5},      {&faults.latency_spike, 0.05},
      {&faults.error_while_paused, 1}, {&faults.slow_turn, 0.2}};
  for (const auto& [probability, most] : kinds) {
    if (random.chance(0.5)) *probability = most * random.unit();
  }
  if (random.chance(0.3)) faults.latency_max = milliseconds(1 + random.below(30));
  if (random.chance(0.5)) faults.socket_buffer_min = size_t{1} << (6 + random.below(11));
  if (random.chance(0.5)) faults.socket_buffer_max = faults.socket_buffer_min * (1 + random.below(4));
  return faults;
}

bool SimSocket::pending() const {
  if (state == State::closed || ring == nullptr || error_told) return false;
  if (connected_untold) return true;
  if (error != 0 && (state == State::connecting || (paused ? error_while_paused : inbox.empty()))) return true;
  if (state != State::open) return false;
  if (writable_untold && error == 0) return true;
  return hang_up_untold() || (readable() && (!inbox.empty() || (fin_arrived && !eof_told)));
}

SimNetwork::SimNetwork(uint64_t seed, const SimFaults& faults)
    : seed_(seed), faults_(faults), random_(seed), peer_ring_(std::make_unique<SimRing>(*this)) {
  tell_seed_of(*this);
}

SimNetwork::~SimNetwork() {
  if (open_sockets_ != 0 && std::uncaught_exceptions() == 0) fail("sockets were not closed");
  peer_ring_.reset();
  if (!rings_.empty()) fail("a ring outlives its network");
  forget_seed_of(*this);
}

void SimNetwork::fail(const char* why) const {
  std::fprintf(stderr, "simulation: %s (virtual time %.6f s, %zu open sockets)\n", why,
               to_seconds(now().time_since_epoch()), open_sockets_);
  std::abort();
}

// ---- time ----

void SimNetwork::after(Duration delay, std::function<void()> action) {
  agenda_.emplace(std::pair(now() + delay, sequence_++), std::move(action));
}

bool SimNetwork::run_rings() {
  bool busy = false;
  const size_t first = random_.below(rings_.size());
  for (size_t i = 0; i < rings_.size(); ++i) busy |= rings_[(first + i) % rings_.size()]->run();
  return busy;
}

bool SimNetwork::step_until(Instant end) {
  while (!agenda_.empty() && agenda_.begin()->first.first <= now()) {
    agenda_.extract(agenda_.begin()).mapped()();
  }
  if (run_rings()) {
    if (++steps_without_progress_ > 1'000'000) fail("there is always something to do, and time stands still");
    return true;
  }
  Instant next = agenda_.empty() ? Instant::max() : agenda_.begin()->first.first;
  for (const SimRing* ring : rings_) next = std::min(next, ring->wake_at_);
  if (next > clock_.now_) steps_without_progress_ = 0;
  if (std::min(next, end) != Instant::max()) clock_.now_ = std::max(clock_.now_, std::min(next, end));
  return next != Instant::max();
}

bool SimNetwork::run_until(const std::function<bool()>& done, Duration limit) {
  const Instant end = now() + limit;
  while (!done()) {
    if (now() >= end || !step_until(end)) return done();
  }
  return true;
}

void SimNetwork::run_for(Duration time) {
  const Instant end = now() + time;
  while (now() < end) step_until(end);
}

Duration SimNetwork::latency() {
  const bool spike = random_.chance(faults_.latency_spike);
  const Duration most = spike ? std::max(faults_.latency_spike_max, faults_.latency_max) : faults_.latency_max;
  const auto range = static_cast<uint64_t>((most - faults_.latency_min).count());
  return faults_.latency_min + Duration{static_cast<int64_t>(random_.below(range + 1))};
}

// ---- connecting ----

SimNetwork::SocketPtr SimNetwork::new_socket() {
  auto socket = std::make_shared<SimSocket>();
  socket->buffer_limit =
      random_size(faults_.socket_buffer_min, std::max(faults_.socket_buffer_min, faults_.socket_buffer_max));
  ++open_sockets_;
  return socket;
}

void SimNetwork::begin_connect(const SocketPtr& socket, const net::Address& to) {
  if (random_.chance(faults_.connect_lost)) {
    return after(seconds(120), [this, socket] { fail_socket(socket, ETIMEDOUT); });
  }
  after(latency(), [this, socket, to] { arrive_at_listener(socket, to); });
}

void SimNetwork::arrive_at_listener(const SocketPtr& client, const net::Address& to) {
  if (client->state == SimSocket::State::closed) return;
  SimListener* listener = find_listener(to);
  if (listener == nullptr || random_.chance(faults_.connect_refused)) return fail_socket(client, ECONNREFUSED);
  const SocketPtr server = new_socket();
  server->peer = client;
  client->peer = server;
  server->state = client->state = SimSocket::State::open;
  listener->backlog.push_back(server);
  client->connected_untold = true;
  client->ring->note(client);
  if (client->writable_wanted) become_writable(client);
  if (client->fin_sent) transmit(client, SimSocket::Kind::fin, {});
  const auto found = std::find_if(listeners_.begin(), listeners_.end(), [&](auto& l) { return l.get() == listener; });
  after(latency(), [this, weak = std::weak_ptr(*found)] { accept_now(weak); });
}

SimListener* SimNetwork::find_listener(const net::Address& to) {
  std::vector<SimListener*> fitting;
  for (const auto& listener : listeners_) {
    if (listener->at.port() == to.port() && (is_any(listener->at) || listener->at == to)) {
      fitting.push_back(listener.get());
    }
  }
  return fitting.empty() ? nullptr : fitting[random_.below(fitting.size())];
}

void SimNetwork::accept_now(const std::weak_ptr<SimListener>& weak) {
  const auto listener = weak.lock();
  if (listener == nullptr || listener->events == nullptr) return;
  if (random_.chance(faults_.accept_error)) {
    listener->ring->acceptances_.push_back({weak, EMFILE});
    return after(milliseconds(100), [this, weak] { accept_now(weak); });
  }
  listener->ring->acceptances_.push_back({weak, 0});
}

void SimNetwork::close_listener(SimListener& listener) {
  listener.events = nullptr;
  for (const SocketPtr& socket : listener.backlog) close_socket(socket, /*reset=*/true);
  listener.backlog.clear();
  std::erase_if(listeners_, [&](const auto& other) { return other.get() == &listener; });
}

// ---- bytes under way ----

// A segment that is faster than the one before it waits for that one: arrive() takes them in order.
void SimNetwork::transmit(const SocketPtr& from, SimSocket::Kind kind, std::string bytes) {
  Instant arrival = now() + latency();
  if (kind == SimSocket::Kind::fin && random_.chance(faults_.late_fin)) {
    arrival += milliseconds(random_.below(3000));
  }
  while (bytes.size() > 1 && random_.chance(faults_.fragment)) {
    const size_t cut = random_size(1, bytes.size() - 1);
    from->outgoing.push_back({arrival, kind, bytes.substr(0, cut)});
    after(arrival - now(), [this, from] { arrive(from); });
    bytes.erase(0, cut);
    arrival = now() + latency();
  }
  from->outgoing.push_back({arrival, kind, std::move(bytes)});
  after(arrival - now(), [this, from] { arrive(from); });
}

void SimNetwork::arrive(const SocketPtr& from) {
  while (!from->outgoing.empty() && from->outgoing.front().arrival <= now()) {
    SimSocket::Segment segment = std::move(from->outgoing.front());
    from->outgoing.pop_front();
    arrive_one(from, segment);
  }
}

void SimNetwork::arrive_one(const SocketPtr& from, SimSocket::Segment& segment) {
  const SocketPtr to = from->peer.lock();
  if (to == nullptr || to->state == SimSocket::State::closed) {
    // Nobody reads this any more: what TCP answers destroys what the sender has not read yet.
    if (segment.kind == SimSocket::Kind::bytes) {
      after(latency(), [this, from] { fail_socket(from, ECONNRESET); });
    }
    return;
  }
  if (to->error != 0) return;
  switch (segment.kind) {
    case SimSocket::Kind::bytes:
      to->inbox += segment.bytes;
      break;
    case SimSocket::Kind::fin:
      to->fin_arrived = true;
      break;
    case SimSocket::Kind::reset:
      return fail_socket(to, ECONNRESET);
  }
  if (to->ring != nullptr) to->ring->note(to);
}

void SimNetwork::break_connection(const SocketPtr& socket) {
  after(latency(), [this, socket] { fail_socket(socket, ECONNRESET); });
  const SocketPtr peer = socket->peer.lock();
  if (peer != nullptr) after(latency(), [this, peer] { fail_socket(peer, ECONNRESET); });
}

void SimNetwork::fail_socket(const SocketPtr& socket, int error) {
  if (socket->state == SimSocket::State::closed || socket->error != 0) return;
  socket->error = error;
  socket->error_while_paused = random_.chance(faults_.error_while_paused);
  if (random_.chance(faults_.reset_loses_data)) {
    // Behind a FIN everything has arrived, and Linux lets it be read to its end, which no reset makes look earlier.
    if (!socket->fin_arrived) socket->inbox.clear();
    socket->outgoing.clear();
  }
  if (socket->ring != nullptr) socket->ring->note(socket);
}

void SimNetwork::delivered(SimSocket& receiver, size_t bytes) {
  const SocketPtr sender = receiver.peer.lock();
  if (sender == nullptr) return;
  PENSTOCK_ASSERT(sender->unread >= bytes);
  sender->unread -= bytes;
  if (sender->writable_wanted && sender->room() > sender->buffer_limit / 3) become_writable(sender);
}

void SimNetwork::become_writable(const SocketPtr& socket) {
  socket->writable_wanted = false;
  after(latency(), [socket] {
    socket->writable_untold = true;
    if (socket->ring != nullptr) socket->ring->note(socket);
  });
}

void SimNetwork::close_socket(const SocketPtr& socket, bool reset) {
  socket->state = SimSocket::State::closed;
  --open_sockets_;
  const SocketPtr peer = socket->peer.lock();
  if (peer == nullptr || socket->error != 0) return;
  // As in TCP: closing with bytes unread tells the peer that they were not read.
  if (reset || !socket->inbox.empty()) {
    if (random_.chance(faults_.reset_loses_data)) socket->outgoing.clear();
    transmit(socket, SimSocket::Kind::reset, {});
  } else if (!socket->fin_sent) {
    socket->fin_sent = true;
    transmit(socket, SimSocket::Kind::fin, {});
  }
}

}  // namespace penstock::test
