// When the kernel acknowledges what a ring reads, as the peer's kernel sees it. Acknowledgements are late by a timer,
// so each case tries again where the machine was too busy to look in time.
#include <netinet/tcp.h>

#include "ring_fixture.h"

using namespace penstock;
using namespace penstock::net;
using namespace penstock::net::test;

namespace {

template <typename Engine>
struct Acks {
  Fixture<Engine> f;
  Pair pair;
  Recorder ours;
  SocketId id = f.ring->adopt(pair.ours.release(), ours);

  bool acknowledged() const {
    tcp_info info{};
    socklen_t size = sizeof info;
    REQUIRE(getsockopt(pair.theirs.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    return info.tcpi_unacked == 0;
  }
  // The peer sends a byte and the ring reads it: whether it was acknowledged at once.
  bool read_one() {
    const size_t before = ours.bytes.size();
    REQUIRE(::send(pair.theirs.get(), "x", 1, MSG_NOSIGNAL) == 1);
    REQUIRE(f.until([&] { return ours.bytes.size() > before; }));
    return acknowledged();
  }
  // By the kernel's timer; with it ends the kernel's mode of late ones.
  void await_acknowledgement() {
    const Instant deadline = system_clock().now() + seconds(10);
    while (!acknowledged()) {
      REQUIRE(system_clock().now() < deadline);
      f.ring->turn(milliseconds(1));
    }
  }
  void be_silent() { f.turns_needed(milliseconds(50)); }
  // Whether one of a number of tries, each from silence on, has this outcome.
  template <typename Try>
  bool once(Try attempt) {
    for (int tries = 0; tries < 40; ++tries) {
      if (attempt()) return true;
      await_acknowledgement();
      be_silent();
    }
    return false;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("what is read is acknowledged late where that was asked for, after each silence", E, Epoll,
                   IoUring) {
  NEEDS(E);
  Acks<E> a;
  a.f.settle();
  a.f.ring->delay_acks(a.id, true);
  CHECK(a.once([&] { return !a.read_one(); }));
  for (int round = 0; round < 2; ++round) {
    a.await_acknowledgement();
    a.be_silent();
    CHECK(a.once([&] { return !a.read_one(); }));
  }
}

TEST_CASE_TEMPLATE("a peer that may have waited for an acknowledgement gets the next one at once", E, Epoll, IoUring) {
  NEEDS(E);
  Acks<E> a;
  a.f.settle();
  a.f.ring->delay_acks(a.id, true);
  CHECK(a.once([&] {
    if (a.read_one()) return false;
    a.await_acknowledgement();
    return a.read_one();
  }));
}

TEST_CASE_TEMPLATE("acknowledgements come at once again when late ones are not wanted any more", E, Epoll, IoUring) {
  NEEDS(E);
  Acks<E> a;
  a.f.settle();
  a.f.ring->delay_acks(a.id, true);
  CHECK(a.once([&] { return !a.read_one(); }));
  a.f.ring->delay_acks(a.id, false);
  a.await_acknowledgement();
  for (int round = 0; round < 3; ++round) {
    a.be_silent();
    CHECK(a.read_one());
  }
}
