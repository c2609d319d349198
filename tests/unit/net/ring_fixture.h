// What the ring contract tests share: an engine per template parameter, recording handlers, raw peers.
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/net/clock.h"
#include "penstock/net/ring.h"

namespace penstock::net::test {

inline const RingProbe& probe() {
  static const RingProbe result = probe_rings();
  return result;
}

struct Epoll {
  static constexpr RingKind kind = RingKind::epoll;
  static bool available() { return true; }
};
struct IoUring {
  static constexpr RingKind kind = RingKind::io_uring;
  static bool available() { return probe().io_uring_usable; }
};

// First statement of each test: leaves it where the engine cannot be had.
#define NEEDS(Engine)                                                          \
  if (!Engine::available()) {                                                  \
    MESSAGE("io_uring is not available here, not tested: " << probe().detail); \
    return;                                                                    \
  }

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { close(); }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void reset_connection() {  // RST instead of FIN
    const linger at_once{1, 0};
    REQUIRE(setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    close();
  }

 private:
  int fd_;
};

inline Address loopback() {
  return *Address::parse("127.0.0.1:0");
}

// A connected TCP pair over loopback, both ends non-blocking.
struct Pair {
  Fd ours, theirs;
  Pair() {
    Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Address any = loopback();
    REQUIRE(bind(listener.get(), any.data(), any.size()) == 0);
    REQUIRE(listen(listener.get(), 1) == 0);
    const Address at = Address::local_of(listener.get());
    theirs = Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(connect(theirs.get(), at.data(), at.size()) == 0);
    ours = Fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    REQUIRE(ours.get() >= 0);
    REQUIRE(fcntl(theirs.get(), F_SETFL, O_NONBLOCK) == 0);
  }
};

// The byte at a position of a stream; `seed` makes streams differ.
inline char pattern(size_t position, size_t seed = 0) {
  return static_cast<char>((position * 31 + position / 251 + seed * 7) & 0xff);
}
inline std::string pattern_string(size_t size, size_t seed = 0) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = pattern(i, seed);
  return text;
}

// Records what happens and lets a test act from inside an event.
struct Recorder final : SocketEvents {
  std::string bytes;
  size_t calls = 0;  // on_bytes
  int connected = 0, eofs = 0, errors = 0, writables = 0;
  int hang_ups = 0;  // no event by itself: on_eof or on_error follows
  int error = 0;
  std::function<void()> when_connected, when_bytes, when_eof, when_writable, when_error;

  void on_connected() override {
    ++connected;
    run(when_connected);
  }
  void on_bytes(std::span<char> got) override {
    CHECK(eofs == 0);
    CHECK(errors == 0);
    ++calls;
    bytes.append(got.data(), got.size());
    std::fill(got.begin(), got.end(), '!');  // the contract lets us scribble
    run(when_bytes);
  }
  void on_eof() override {
    ++eofs;
    run(when_eof);
  }
  void on_hang_up() override {
    CHECK(eofs == 0);
    CHECK(errors == 0);
    ++hang_ups;
  }
  void on_writable() override {
    ++writables;
    run(when_writable);
  }
  void on_error(int e) override {
    ++errors;
    error = e;
    run(when_error);
  }
  size_t events() const { return calls + static_cast<size_t>(connected + eofs + errors + writables); }

 private:
  // By copy: an action may destroy the recorder.
  static void run(const std::function<void()>& action) {
    const std::function<void()> copy = action;
    if (copy) copy();
  }
};

struct Acceptor final : AcceptEvents {
  std::vector<Fd> accepted;
  std::vector<int> errors;
  std::function<void()> when_accepted;

  void on_accept(int fd) override {
    accepted.emplace_back(fd);
    const std::function<void()> copy = when_accepted;
    if (copy) copy();
  }
  void on_accept_error(int error) override { errors.push_back(error); }
};

template <typename Engine>
struct Fixture {
  std::unique_ptr<Ring> ring;

  explicit Fixture(Duration spin = Duration(0)) {
    Result<std::unique_ptr<Ring>> made = make_ring({Engine::kind, spin}, probe());
    REQUIRE(made.ok());
    ring = std::move(*made);
  }

  // Turns until `done`, at most ten seconds.
  [[nodiscard]] bool until(const std::function<bool()>& done) {
    const Instant deadline = system_clock().now() + seconds(10);
    while (!done()) {
      if (system_clock().now() > deadline) return false;
      ring->turn(milliseconds(20));
    }
    return true;
  }
  // Turns until the ring has nothing more to tell.
  void settle() {
    for (int quiet = 0; quiet < 3;) quiet = ring->turn(milliseconds(1)) == 0 ? quiet + 1 : 0;
  }
  // How many turns it takes to sleep for this long: one, or a few where a signal (such as the kernel
  // sends when an earlier io_uring is taken apart) cuts a wait short.
  int turns_needed(Duration sleep) {
    const Instant end = system_clock().now() + sleep;
    int turns = 0;
    for (Instant now = system_clock().now(); now < end; now = system_clock().now()) {
      CHECK(ring->turn(end - now) == 0);
      ++turns;
    }
    return turns;
  }
  ssize_t send(SocketId id, std::string_view text) {
    const iovec piece{const_cast<char*>(text.data()), text.size()};
    return ring->send(id, {&piece, 1});
  }
};

// Sends a whole text through a ring socket, going on in on_writable.
template <typename Engine>
struct Sender {
  Fixture<Engine>& f;
  SocketId id;
  std::string text;
  size_t sent = 0;
  int short_sends = 0;

  void more() {
    while (sent < text.size()) {
      const ssize_t n = f.send(id, std::string_view(text).substr(sent));
      REQUIRE(n >= 0);
      sent += static_cast<size_t>(n);
      if (sent < text.size()) {
        ++short_sends;
        return;  // on_writable follows
      }
    }
  }
};

inline size_t open_descriptors() {
  size_t count = 0;
  DIR* directory = opendir("/proc/self/fd");
  REQUIRE(directory != nullptr);
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

inline void write_all(const Fd& fd, std::string_view text) {
  REQUIRE(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

// What can be read at once.
inline std::string read_some(const Fd& fd) {
  std::string text(64 * 1024, '\0');
  const ssize_t n = recv(fd.get(), text.data(), text.size(), MSG_DONTWAIT);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return text;
}

}  // namespace penstock::net::test
