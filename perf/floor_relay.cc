// The floor: a relay that does nothing but find where each message ends and pass its bytes on. One thread,
// edge-triggered epoll, one receive buffer, keep-alive on both sides, round robin over the back ends. No
// header is changed, nothing is checked, logged or counted. What a gateway costs above it is what its
// features cost.

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "perf/common/flags.h"
#include "perf/common/framing.h"
#include "perf/common/posix.h"

namespace penstock::perf {
namespace {

constexpr const char* usage =
    "floor_relay: a bare HTTP/1.1 byte relay on loopback, the lower bound for a gateway's cost\n"
    "  --port N          listen on 127.0.0.1:N (0, the default, picks one and prints it)\n"
    "  --backend A:P     a back end; repeat for several\n";

constexpr size_t receive_size = 64 * 1024;
constexpr size_t pending_limit = 256 * 1024;  // a source is paused while its peer owes more than this

// One connection, client or upstream. While an exchange runs, `peer` is the other one.
struct Side {
  Side(bool is_client, int descriptor, uint32_t backend_index)
      : framer(is_client ? Framer::Kind::request : Framer::Kind::response),
        fd(descriptor),
        backend(backend_index),
        client(is_client) {}

  size_t owed() const { return pending.size() - pending_sent; }

  Framer framer;
  Side* peer = nullptr;
  std::string pending;  // bytes that the kernel did not take yet, from pending_sent on
  size_t pending_sent = 0;
  int fd;
  uint32_t backend;
  bool client;
  bool paused = false;  // unread bytes wait in the kernel: edge-triggered, so we must come back by ourselves
  bool dead = false;
};

class Relay {
 public:
  Relay(uint16_t port, std::vector<sockaddr_in> backends) : backends_(std::move(backends)), idle_(backends_.size()) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    listener_ = listen_on_loopback(port);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = nullptr;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event);
    std::printf("listening on 127.0.0.1:%u\n", port);
    std::fflush(stdout);
  }

  [[noreturn]] void run() {
    epoll_event events[256];
    for (;;) {
      int n = epoll_wait(epoll_, events, 256, -1);
      for (int i = 0; i < n; ++i) {
        if (!events[i].data.ptr) {
          accept_all();
          continue;
        }
        Side* side = static_cast<Side*>(events[i].data.ptr);
        if (!side->dead && (events[i].events & EPOLLOUT)) flush(side);
        if (!side->dead && (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) read_all(side);
      }
      for (Side* side : graveyard_) delete side;
      graveyard_.clear();
    }
  }

 private:
  void accept_all() {
    for (int fd = accept_one(listener_); fd >= 0; fd = accept_one(listener_)) watch(new Side(true, fd, 0));
  }

  void watch(Side* side) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = side;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, side->fd, &event);
  }

  // Reads until the kernel has no more (a short read says so), or until the peer is too far behind.
  void read_all(Side* side) {
    for (;;) {
      if (side->peer && side->peer->owed() > pending_limit) {
        side->paused = true;
        return;
      }
      ssize_t n = recv(side->fd, buffer_, receive_size, 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) {
        lost(side);
        return;
      }
      handle(side, std::string_view(buffer_, static_cast<size_t>(n)));
      if (side->dead || static_cast<size_t>(n) < receive_size) return;
    }
  }

  void handle(Side* side, std::string_view data) {
    if (side->client) {
      while (!data.empty() && !side->dead) data.remove_prefix(from_client(side, data));
    } else if (side->peer) {
      from_upstream(side, data);
    } else {
      kill(side);  // bytes that nobody asked for
    }
  }

  // Requests are not pipelined over one another: these load tools wait for an answer before they ask again.
  size_t from_client(Side* client, std::string_view data) {
    if (!client->peer && !attach(client)) {
      kill(client);
      return data.size();
    }
    size_t used = client->framer.feed(data, IgnoreMessage{});
    if (used == 0) {
      kill_both(client);
      return data.size();
    }
    write(client->peer, data.substr(0, used));
    return used;
  }

  void from_upstream(Side* upstream, std::string_view data) {
    Side* client = upstream->peer;
    size_t used = upstream->framer.feed(data, IgnoreMessage{});
    write(client, data.substr(0, used));
    if (!upstream->dead && upstream->framer.done()) finish(upstream);
  }

  void finish(Side* upstream) {
    Side* client = upstream->peer;
    bool reusable = upstream->framer.keep_alive() && client->framer.done();
    upstream->peer = client->peer = nullptr;
    upstream->framer.reset();
    client->framer.reset();
    if (reusable) {
      idle_[upstream->backend].push_back(upstream);
    } else {
      kill(upstream);
    }
  }

  bool attach(Side* client) {
    uint32_t backend = next_++ % static_cast<uint32_t>(backends_.size());
    Side* upstream = nullptr;
    if (!idle_[backend].empty()) {
      upstream = idle_[backend].back();
      idle_[backend].pop_back();
    } else {
      int fd = start_connect(backends_[backend]);
      if (fd < 0) return false;
      upstream = new Side(false, fd, backend);
      watch(upstream);
    }
    upstream->peer = client;
    client->peer = upstream;
    return true;
  }

  void write(Side* side, std::string_view data) {
    if (side->pending.empty()) {
      ssize_t n = send(side->fd, data.data(), data.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != ENOTCONN) {
        kill_both(side);
        return;
      }
      if (n > 0) data.remove_prefix(static_cast<size_t>(n));
    }
    if (!data.empty()) side->pending.append(data);
  }

  void flush(Side* side) {
    if (!side->pending.empty()) {
      ssize_t n = send(side->fd, side->pending.data() + side->pending_sent, side->owed(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) {
        kill_both(side);
        return;
      }
      if (n > 0) side->pending_sent += static_cast<size_t>(n);
      if (side->owed() == 0) {
        side->pending = std::string();
        side->pending_sent = 0;
      }
    }
    Side* peer = side->peer;
    if (peer && peer->paused && side->owed() <= pending_limit / 4) {
      peer->paused = false;
      read_all(peer);
    }
  }

  void lost(Side* side) {
    if (!side->client && side->peer && side->framer.until_close()) {
      Side* client = side->peer;
      client->peer = nullptr;
      kill(side);
      kill(client);
      return;
    }
    kill_both(side);
  }

  void kill_both(Side* side) {
    Side* peer = side->peer;
    kill(side);
    if (peer) kill(peer);
  }

  void kill(Side* side) {
    if (side->dead) return;
    side->dead = true;
    if (!side->client) std::erase(idle_[side->backend], side);
    close(side->fd);
    graveyard_.push_back(side);
  }

  std::vector<sockaddr_in> backends_;
  std::vector<std::vector<Side*>> idle_;
  std::vector<Side*> graveyard_;
  int epoll_ = -1;
  int listener_ = -1;
  uint32_t next_ = 0;
  char buffer_[receive_size];
};

}  // namespace
}  // namespace penstock::perf

int main(int argc, char** argv) {
  using namespace penstock::perf;
  Flags flags(argc, argv, usage);
  uint16_t port = static_cast<uint16_t>(flags.number("--port", 0));
  std::vector<sockaddr_in> backends;
  for (const std::string& text : flags.list("--backend")) backends.push_back(loopback_address(text));
  flags.finish();
  if (backends.empty()) flags.fail("--backend is missing");
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  auto relay = std::make_unique<Relay>(port, std::move(backends));
  relay->run();
}
