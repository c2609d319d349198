// The contract of net::Ring::watch() on both real engines: descriptors that somebody else reads.
#include <sys/epoll.h>

#include "ring_fixture.h"

namespace penstock::net::test {
namespace {

struct Pipe {
  Fd out, in;  // read and write ends
  Pipe() {
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    out = Fd(ends[0]);
    in = Fd(ends[1]);
  }
  void put(char c) const { REQUIRE(::write(in.get(), &c, 1) == 1); }
  // One byte, or an empty string.
  std::string take() const {
    char c;
    return ::read(out.get(), &c, 1) == 1 ? std::string(1, c) : std::string();
  }
};

struct Ready final : ReadyEvents {
  int calls = 0;
  std::function<void()> when_ready;
  void on_ready() override {
    ++calls;
    const std::function<void()> copy = when_ready;
    if (copy) copy();
  }
};

}  // namespace

TEST_CASE_TEMPLATE("a watched descriptor reports until it is drained, and again later", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pipe pipe;
  Ready ready;
  std::string got;
  ready.when_ready = [&] { got += pipe.take(); };  // one byte for each event: the level must bring it again
  const auto id = f.ring->watch(pipe.out.get(), ready);
  REQUIRE(id.ok());
  f.settle();
  CHECK(ready.calls == 0);
  for (const char c : std::string("abc")) pipe.put(c);
  REQUIRE(f.until([&] { return got == "abc"; }));
  f.settle();
  const int calls = ready.calls;
  CHECK(calls == 3);
  pipe.put('d');
  REQUIRE(f.until([&] { return got == "abcd"; }));
  f.ring->unwatch(*id);
  REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 0; }));
}

TEST_CASE_TEMPLATE("the end of a watched pipe is reported", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pipe pipe;
  Ready ready;
  const auto id = f.ring->watch(pipe.out.get(), ready);
  REQUIRE(id.ok());
  f.settle();
  pipe.in.close();
  REQUIRE(f.until([&] { return ready.calls > 0; }));
  f.ring->unwatch(*id);
}

TEST_CASE_TEMPLATE("an epoll set can be watched", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pipe first, second;
  Fd set(epoll_create1(EPOLL_CLOEXEC));
  for (const Pipe* pipe : {&first, &second}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = const_cast<Pipe*>(pipe);
    REQUIRE(epoll_ctl(set.get(), EPOLL_CTL_ADD, pipe->out.get(), &event) == 0);
  }
  std::string got;
  Ready ready;
  ready.when_ready = [&] {
    epoll_event event{};
    if (epoll_wait(set.get(), &event, 1, 0) == 1) got += static_cast<Pipe*>(event.data.ptr)->take();
  };
  const auto id = f.ring->watch(set.get(), ready);
  REQUIRE(id.ok());
  for (int round = 0; round < 100; ++round) {
    got.clear();
    first.put('x');
    second.put('y');
    REQUIRE(f.until([&] { return got.size() == 2; }));
  }
  f.settle();
  f.ring->unwatch(*id);
}

TEST_CASE_TEMPLATE("unwatch ends events at once, also from inside one, and leaves the descriptor alone", E, Epoll,
                   IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pipe pipe;
  auto ready = std::make_unique<Ready>();
  SocketId id;
  int calls = 0;
  ready->when_ready = [&] {
    ++calls;
    f.ring->unwatch(id);
    ready.reset();
  };
  id = *f.ring->watch(pipe.out.get(), *ready);
  pipe.put('x');
  REQUIRE(f.until([&] { return calls == 1; }));
  f.settle();
  CHECK(calls == 1);
  CHECK(pipe.take() == "x");

  // Ready already, but unwatched before the turn that would have said so; the slot is used again at once.
  Ready never, next;
  pipe.put('y');
  const SocketId stale = *f.ring->watch(pipe.out.get(), never);
  f.ring->unwatch(stale);
  const SocketId fresh = *f.ring->watch(pipe.out.get(), next);
  f.ring->unwatch(stale);  // ignored
  REQUIRE(f.until([&] { return next.calls > 0; }));
  CHECK(never.calls == 0);
  f.ring->unwatch(fresh);
  pipe.out.close();
  f.settle();
  CHECK(f.ring->stats().sockets.get() == 0);
}

TEST_CASE_TEMPLATE("a ring that is destroyed leaves watched descriptors open", E, Epoll, IoUring) {
  NEEDS(E);
  Pipe pipe;
  Ready ready;
  {
    Fixture<E> f;
    REQUIRE(f.ring->watch(pipe.out.get(), ready).ok());
    f.settle();
  }
  pipe.put('z');
  CHECK(pipe.take() == "z");
}

TEST_CASE_TEMPLATE("sockets and timers go on beside a watched descriptor that is always ready", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pipe pipe;
  Pair pair;
  Ready ready;
  Recorder ours;
  pipe.put('x');
  const auto watched = f.ring->watch(pipe.out.get(), ready);
  REQUIRE(watched.ok());
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  write_all(pair.theirs, "hello");
  REQUIRE(f.until([&] { return ours.bytes == "hello" && ready.calls > 3; }));
  f.ring->unwatch(*watched);
  f.ring->close(id);
}

}  // namespace penstock::net::test
