// The contract of net::Ring on both real engines: closing at any moment, slots, many sockets, limits,
// waking and waiting.
#include <sys/resource.h>

#include <algorithm>
#include <random>
#include <thread>

#include "ring_fixture.h"

namespace penstock::net::test {

TEST_CASE_TEMPLATE("a socket may be closed and its handler destroyed in each of its events", E, Epoll, IoUring) {
  NEEDS(E);
  for (const char* event : {"connected", "bytes", "eof", "writable", "error"}) {
    CAPTURE(event);
    const std::string_view name = event;
    Fixture<E> f;
    Acceptor acceptor;
    Address bound;
    REQUIRE(f.ring->listen(loopback(), false, acceptor, &bound).ok());
    auto handler = std::make_unique<Recorder>();
    const auto id = f.ring->connect(bound, *handler);
    REQUIRE(id.ok());
    const auto end = [&] {
      f.ring->close(*id);
      handler.reset();
    };
    if (name == "connected") handler->when_connected = end;
    if (name == "bytes") handler->when_bytes = end;
    if (name == "eof") handler->when_eof = end;
    if (name == "writable") handler->when_writable = end;
    if (name == "error") handler->when_error = end;
    REQUIRE(f.until([&] { return acceptor.accepted.size() == 1 && (!handler || handler->connected == 1); }));
    Fd peer = std::move(acceptor.accepted[0]);
    if (name == "bytes" || name == "eof") write_all(peer, std::string(200'000, 'x'));
    if (name == "eof") peer.close();
    if (name == "error") peer.reset_connection();
    if (name == "writable") {
      const std::string much(8 << 20, 'x');
      while (f.send(*id, much) > 0) {
      }
    }
    REQUIRE(f.until([&] {
      if (name == "writable") read_some(peer);
      return handler == nullptr;
    }));
    REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 1; }));
    f.settle();
  }
}

TEST_CASE_TEMPLATE("an event may open so many sockets that the ring's own table moves", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder us;
  std::vector<std::unique_ptr<Pair>> pairs;
  std::vector<std::unique_ptr<Recorder>> others;
  us.when_bytes = [&] {
    for (int i = 0; i < 100; ++i) {
      Pair& other = *pairs.emplace_back(std::make_unique<Pair>());
      f.ring->adopt(other.ours.release(), *others.emplace_back(std::make_unique<Recorder>()));
    }
  };
  f.ring->adopt(pair.ours.release(), us);
  for (size_t calls = 1; calls <= 3; ++calls) {
    write_all(pair.theirs, "hello");
    REQUIRE(f.until([&] { return us.calls == calls; }));
  }
}

TEST_CASE_TEMPLATE("an event may close other sockets whose events are already there", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  constexpr size_t count = 12;
  std::vector<Pair> pairs(count);
  std::vector<std::unique_ptr<Recorder>> handlers(count);
  std::vector<SocketId> ids(count);
  int fired = 0;
  for (size_t i = 0; i < count; ++i) {
    handlers[i] = std::make_unique<Recorder>();
    ids[i] = f.ring->adopt(pairs[i].ours.release(), *handlers[i]);
    handlers[i]->when_bytes = [&] {
      ++fired;
      for (size_t j = 0; j < count; ++j) {
        if (!handlers[j]) continue;
        f.ring->close(ids[j]);
        handlers[j].reset();
      }
    };
  }
  f.settle();
  for (Pair& pair : pairs) write_all(pair.theirs, "now");
  REQUIRE(f.until([&] { return fired == 1; }));
  REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 0; }));
  f.settle();
  CHECK(fired == 1);
}

TEST_CASE_TEMPLATE("an id outlives its socket harmlessly, also when the slot is used again", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair first, second;
  Recorder old_handler, handler;
  const SocketId stale = f.ring->adopt(first.ours.release(), old_handler);
  f.ring->close(stale);
  REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 0; }));
  const SocketId id = f.ring->adopt(second.ours.release(), handler);
  CHECK(id.slot == stale.slot);
  CHECK_FALSE(id == stale);
  CHECK(f.send(stale, "x") < 0);
  f.ring->pause_recv(stale);
  f.ring->resume_recv(stale);
  f.ring->shutdown_send(stale);
  f.ring->close(stale, true);
  f.ring->close(SocketId{});
  f.ring->close(SocketId{12345, 1});
  write_all(second.theirs, "alive");
  REQUIRE(f.until([&] { return handler.bytes == "alive"; }));
  CHECK(f.send(id, "x") == 1);
}

TEST_CASE_TEMPLATE("a connection may be closed before it stands", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Acceptor acceptor;
  Address bound;
  REQUIRE(f.ring->listen(loopback(), false, acceptor, &bound).ok());
  for (int i = 0; i < 20; ++i) {
    auto handler = std::make_unique<Recorder>();
    const auto id = f.ring->connect(bound, *handler);
    REQUIRE(id.ok());
    if (i % 3 == 1) f.send(*id, "x");
    f.ring->close(*id, i % 2 == 0);
    handler.reset();
  }
  REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 1; }));
  f.settle();
}

TEST_CASE_TEMPLATE("many connections ended in random order leave no descriptor behind", E, Epoll, IoUring) {
  NEEDS(E);
  const unsigned seed = 20240611;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const size_t before = open_descriptors();
  {
    Fixture<E> f;
    struct Side {
      Recorder events;
      SocketId id;
      bool open = true;
    };
    std::vector<std::unique_ptr<Side>> sides;
    const auto end = [&](Side& side) {
      if (!std::exchange(side.open, false)) return;
      f.ring->close(side.id, random() % 4 == 0);
    };
    for (int i = 0; i < 150; ++i) {
      Pair pair;
      for (int fd : {pair.ours.release(), pair.theirs.release()}) {
        Side& side = *sides.emplace_back(std::make_unique<Side>());
        side.id = f.ring->adopt(fd, side.events);
        side.events.when_eof = side.events.when_error = [&end, &side] { end(side); };
        side.events.when_bytes = [&] {
          Side& other = *sides[random() % sides.size()];
          if (random() % 8 == 0) end(other);
          if (random() % 4 == 0) f.ring->pause_recv(other.id);
          if (random() % 2 == 0) f.ring->resume_recv(other.id);
        };
      }
    }
    std::shuffle(sides.begin(), sides.end(), random);
    const std::string text = pattern_string(30'000);
    for (const auto& side : sides) {
      f.send(side->id, std::string_view(text).substr(0, 1 + random() % text.size()));
      if (random() % 3 == 0) f.ring->turn(Duration(0));
      if (random() % 4 == 0) end(*sides[random() % sides.size()]);
    }
    f.settle();
    for (const auto& side : sides) end(*side);
    REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 0; }));
    CHECK(f.ring->stats().completion_overflows.get() == 0);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE_TEMPLATE("a ring that is destroyed with open sockets closes them", E, Epoll, IoUring) {
  NEEDS(E);
  const size_t before = open_descriptors();
  std::vector<Pair> pairs(30);
  Recorder events;
  Acceptor acceptor;
  {
    Fixture<E> f;
    REQUIRE(f.ring->listen(loopback(), false, acceptor, nullptr).ok());
    for (Pair& pair : pairs) {
      const SocketId id = f.ring->adopt(pair.ours.release(), events);
      write_all(pair.theirs, "unread");
      if (id.slot % 3 == 0) f.ring->pause_recv(id);
      if (id.slot % 5 == 0) f.ring->close(id);
    }
    f.ring->turn(Duration(0));
  }
  pairs.clear();
  CHECK(open_descriptors() == before);
}

TEST_CASE_TEMPLATE("forty senders at once all get through, in order", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  constexpr size_t count = 40, size = 1 << 20;
  std::vector<Pair> pairs(count);
  std::vector<Recorder> handlers(count);
  std::vector<std::string> texts;
  std::vector<size_t> sent(count, 0);
  const auto push = [&] {
    for (size_t i = 0; i < count; ++i) {
      if (sent[i] == size) continue;
      const ssize_t n = ::send(pairs[i].theirs.get(), texts[i].data() + sent[i], size - sent[i], MSG_NOSIGNAL);
      if (n > 0) sent[i] += static_cast<size_t>(n);
    }
  };
  for (size_t i = 0; i < count; ++i) texts.push_back(pattern_string(size, i));
  push();  // more than all receive buffers hold is waiting before the first turn
  for (size_t i = 0; i < count; ++i) f.ring->adopt(pairs[i].ours.release(), handlers[i]);
  REQUIRE(f.until([&] {
    push();
    return std::all_of(handlers.begin(), handlers.end(), [&](const Recorder& r) { return r.bytes.size() >= size; });
  }));
  for (size_t i = 0; i < count; ++i) CHECK(handlers[i].bytes == texts[i]);
  if (E::kind == RingKind::io_uring) CHECK(f.ring->stats().buffer_starvations.get() > 0);
  MESSAGE(std::string(f.ring->name()) << ": starved " << f.ring->stats().buffer_starvations.get() << " times in "
                                      << f.ring->stats().turns.get() << " turns");
}

TEST_CASE_TEMPLATE("a fast sender does not shut out a slow one", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair fast, slow;
  Recorder fast_events, slow_events;
  f.ring->adopt(fast.ours.release(), fast_events);
  f.ring->adopt(slow.ours.release(), slow_events);
  const std::string much(1 << 20, 'x');
  const auto refill = [&] {
    while (::send(fast.theirs.get(), much.data(), much.size(), MSG_NOSIGNAL) > 0) {
    }
  };
  fast_events.when_bytes = [&] {
    fast_events.bytes.clear();
    refill();
  };
  refill();
  REQUIRE(f.until([&] { return fast_events.calls > 5; }));
  for (int i = 0; i < 20; ++i) {
    slow_events.bytes.clear();
    write_all(slow.theirs, "me too");
    const size_t before = fast_events.calls;
    REQUIRE(f.until([&] { return slow_events.bytes == "me too"; }));
    CHECK(fast_events.calls - before < 256);
  }
}

// A socket of the ring, and its peer.
template <typename E>
Fd open_one(Fixture<E>& f, bool answer, Recorder& events) {
  Pair pair;
  if (!answer) {
    f.ring->adopt(pair.ours.release(), events);
    return std::move(pair.theirs);
  }
  Acceptor acceptor;
  Address at;
  const auto listener = f.ring->listen(loopback(), false, acceptor, &at);
  REQUIRE(listener.ok());
  REQUIRE(f.ring->connect(at, events).ok());
  REQUIRE(f.until([&] { return events.connected == 1 && acceptor.accepted.size() == 1; }));
  f.ring->close_listener(*listener);
  f.settle();
  return std::move(acceptor.accepted[0]);
}

TEST_CASE_TEMPLATE("many fast senders, clients or answers, do not shut out a slow one", E, Epoll, IoUring) {
  NEEDS(E);
  for (const int kinds : {0, 1, 2, 3}) {
    CAPTURE(kinds);
    Fixture<E> f;
    constexpr size_t count = 40;  // more than there are buffers
    std::vector<Recorder> fast(count);
    Recorder slow;
    std::vector<Fd> peers;
    for (Recorder& events : fast) peers.push_back(open_one(f, (kinds & 1) != 0, events));
    const Fd peer = open_one(f, (kinds & 2) != 0, slow);
    f.settle();
    const std::string much(1 << 20, 'x');
    const auto refill = [&](size_t i) {
      while (::send(peers[i].get(), much.data(), much.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
      }
    };
    for (size_t i = 0; i < count; ++i) {
      fast[i].when_bytes = [&, i] {
        fast[i].bytes.clear();
        refill(i);
      };
      refill(i);
    }
    for (int i = 0; i < 5; ++i) f.ring->turn(Duration(0));
    write_all(peer, "me too");
    int turns = 0;
    for (; turns < 100 && slow.bytes.empty(); ++turns) f.ring->turn(Duration(0));
    CHECK(turns < 50);
    MESSAGE(std::string(f.ring->name()) << ": " << turns << " turns");
  }
}

// Those that found no buffer may have nothing to read, and then their next try tells nothing either.
TEST_CASE_TEMPLATE("a ring does not sleep while sockets wait for a buffer", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  constexpr size_t fast = 8, count = 200;
  std::vector<Pair> pairs(count);
  std::vector<Recorder> events(count);
  const std::string much(256 << 10, 'x');
  for (size_t i = 0; i < count; ++i) {
    if (i < fast) REQUIRE(::send(pairs[i].theirs.get(), much.data(), much.size(), MSG_NOSIGNAL) > 0);
    f.ring->adopt(pairs[i].ours.release(), events[i]);
  }
  f.ring->turn(Duration(0));
  write_all(pairs.back().theirs, "me too");
  const Instant start = system_clock().now();
  while (events.back().bytes.empty() && system_clock().now() - start < seconds(5)) f.ring->turn(seconds(10));
  CHECK(system_clock().now() - start < seconds(5));
}

// A request is held until its answer begins. With answers behind all that clients send, the memory held would grow with
// the number of clients, and leave the cache.
TEST_CASE_TEMPLATE("an answer does not wait for all that clients send", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Acceptor acceptor;
  Address at;
  REQUIRE(f.ring->listen(loopback(), false, acceptor, &at).ok());
  Recorder answer;
  REQUIRE(f.ring->connect(at, answer).ok());
  REQUIRE(f.until([&] { return answer.connected == 1 && acceptor.accepted.size() == 1; }));
  write_all(acceptor.accepted[0], "an earlier one");
  REQUIRE(f.until([&] { return answer.bytes == "an earlier one"; }));
  answer.bytes.clear();
  constexpr size_t count = 200;  // many times what a turn has buffers or room for
  std::vector<Pair> pairs(count);
  std::vector<Recorder> clients(count);
  const std::string much(256 << 10, 'x');
  size_t before = 0;  // bytes of clients that came before the answer
  for (size_t i = 0; i < count; ++i) {
    REQUIRE(::send(pairs[i].theirs.get(), much.data(), much.size(), MSG_NOSIGNAL) > 0);
    clients[i].when_bytes = [&, i] {
      if (before == 0) write_all(acceptor.accepted[0], "answer");
      if (answer.bytes.empty()) before += clients[i].bytes.size();
      clients[i].bytes.clear();
    };
    f.ring->adopt(pairs[i].ours.release(), clients[i]);
  }
  REQUIRE(f.until([&] { return answer.bytes == "answer"; }));
  CHECK(before < 6 << 20);  // of 50 that they have sent
  MESSAGE(std::string(f.ring->name()) << ": behind " << before << " bytes");
}

TEST_CASE_TEMPLATE("a closed listener refuses, and accepting may close it", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Acceptor acceptor;
  Address bound;
  const auto listener = f.ring->listen(loopback(), false, acceptor, &bound);
  REQUIRE(listener.ok());
  const Result<SocketId> again = f.ring->listen(bound, false, acceptor, nullptr);
  REQUIRE_FALSE(again.ok());
  CHECK(again.error().text.find(bound.to_string()) != std::string::npos);
  acceptor.when_accepted = [&] { f.ring->close_listener(*listener); };
  Recorder one, two;
  REQUIRE(f.ring->connect(bound, one).ok());
  REQUIRE(f.ring->connect(bound, two).ok());
  REQUIRE(f.until([&] { return acceptor.accepted.size() == 1; }));
  f.settle();
  CHECK(acceptor.accepted.size() == 1);
  Recorder late;
  REQUIRE(f.ring->connect(bound, late).ok());
  REQUIRE(f.until([&] { return late.errors == 1; }));
  CHECK(late.error == ECONNREFUSED);
}

TEST_CASE_TEMPLATE("more connections than one turn accepts are all accepted", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Acceptor acceptor;
  Address bound;
  REQUIRE(f.ring->listen(loopback(), false, acceptor, &bound).ok());
  std::vector<Fd> clients;
  for (int i = 0; i < 100; ++i) {
    Fd& client = clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(client.get(), bound.data(), bound.size()) == 0);
  }
  REQUIRE(f.until([&] { return acceptor.accepted.size() == 100; }));
  CHECK(acceptor.errors.empty());
}

TEST_CASE_TEMPLATE("without descriptors a listener says so, pauses and goes on", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Acceptor acceptor;
  Address bound;
  REQUIRE(f.ring->listen(loopback(), false, acceptor, &bound).ok());
  Fd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  f.settle();
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none{3, limit.rlim_max};  // open ones stay, no new one can be had
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  REQUIRE(::connect(client.get(), bound.data(), bound.size()) == 0);
  const bool told = f.until([&] { return acceptor.errors.size() == 2; });  // again after the pause
  const uint64_t turns = f.ring->stats().turns.get();
  const auto refused = f.ring->connect(bound, *std::make_unique<Recorder>());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE(told);
  CHECK(turns < 200);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error() == EMFILE);
  CHECK(acceptor.errors[0] == EMFILE);
  CHECK(acceptor.accepted.empty());
  REQUIRE(f.until([&] { return acceptor.accepted.size() == 1; }));
}

TEST_CASE_TEMPLATE("wake ends a wait from another thread and is not lost before one", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  for (int i = 0; i < 50; ++i) {
    std::thread other([&] { f.ring->wake(); });
    const Instant start = system_clock().now();
    f.ring->turn(seconds(10));
    CHECK(system_clock().now() - start < seconds(5));
    other.join();
    f.settle();
  }
  f.ring->wake();
  f.ring->wake();
  const Instant start = system_clock().now();
  f.ring->turn(Duration(-1));
  CHECK(system_clock().now() - start < seconds(5));
}

TEST_CASE_TEMPLATE("a turn without events lasts as long as it may", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  f.settle();
  for (const auto wait : {microseconds(300), microseconds(2500), microseconds(30'000)}) {
    CAPTURE(wait.count());
    CHECK(f.turns_needed(wait) <= 3);
  }
}

TEST_CASE_TEMPLATE("a spinning ring carries bytes, wakes and keeps its deadlines", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f(microseconds(500));
  Pair pair;
  Recorder ours, theirs;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  const SocketId other = f.ring->adopt(pair.theirs.release(), theirs);
  for (int i = 1; i <= 200; ++i) {
    CHECK(f.send(id, "ping") == 4);
    REQUIRE(f.until([&] { return theirs.bytes.size() == static_cast<size_t>(i) * 4; }));
    CHECK(f.send(other, "pong") == 4);
    REQUIRE(f.until([&] { return ours.bytes.size() == static_cast<size_t>(i) * 4; }));
  }
  std::thread waker([&] { f.ring->wake(); });
  f.ring->turn(seconds(10));
  waker.join();
  f.settle();
  CHECK(f.turns_needed(milliseconds(3)) <= 3);
}

TEST_CASE_TEMPLATE("a message costs few kernel entries", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  f.settle();
  const uint64_t before = f.ring->stats().syscalls.get();
  constexpr uint64_t messages = 100;
  for (uint64_t i = 1; i <= messages; ++i) {
    write_all(pair.theirs, "question");
    REQUIRE(f.until([&] { return ours.bytes.size() == i * 8; }));
    REQUIRE(f.send(id, "answer") == 6);
  }
  // epoll: wait, receive, send. io_uring: wait, send.
  const uint64_t each = E::kind == RingKind::epoll ? 3 : 2;
  CHECK(f.ring->stats().syscalls.get() - before <= messages * each + 5);
}

}  // namespace penstock::net::test
