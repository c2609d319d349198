// The contract of net::Ring (include/penstock/net/ring.h) on both real engines: connections, bytes,
// ends and errors.
#include "ring_fixture.h"

namespace penstock::net::test {

TEST_CASE_TEMPLATE("a ring connects, accepts and carries bytes both ways", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Acceptor acceptor;
  Address bound;
  const Result<SocketId> listener = f.ring->listen(loopback(), true, acceptor, &bound);
  REQUIRE(listener.ok());
  CHECK(bound.port() != 0);

  Recorder client, server;
  const auto connected = f.ring->connect(bound, client);
  REQUIRE(connected.ok());
  REQUIRE(f.until([&] { return client.connected == 1 && acceptor.accepted.size() == 1; }));
  const int accepted = acceptor.accepted[0].release();
  CHECK((fcntl(accepted, F_GETFL) & O_NONBLOCK) != 0);
  CHECK((fcntl(accepted, F_GETFD) & FD_CLOEXEC) != 0);
  const SocketId server_id = f.ring->adopt(accepted, server);

  CHECK(f.send(*connected, "hello") == 5);
  REQUIRE(f.until([&] { return server.bytes == "hello"; }));
  iovec pieces[] = {{const_cast<char*>("wor"), 3}, {nullptr, 0}, {const_cast<char*>("ld"), 2}};
  CHECK(f.ring->send(server_id, pieces) == 5);
  REQUIRE(f.until([&] { return client.bytes == "world"; }));
  CHECK(f.ring->stats().bytes_received.get() == 10);
  CHECK(f.ring->stats().bytes_sent.get() == 10);
  CHECK(f.ring->stats().sockets.get() == 3);

  f.ring->close(*connected);
  REQUIRE(f.until([&] { return server.eofs == 1; }));
  f.ring->close(server_id);
  f.ring->close_listener(*listener);
  REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 0; }));
  CHECK(client.eofs + client.errors + server.errors == 0);
}

TEST_CASE_TEMPLATE("a transfer larger than every buffer arrives whole and in order", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder from, to;
  Sender<E> sender{f, f.ring->adopt(pair.ours.release(), from), pattern_string(24 << 20)};
  f.ring->adopt(pair.theirs.release(), to);
  from.when_writable = [&] { sender.more(); };
  sender.more();
  CHECK(sender.short_sends > 0);
  REQUIRE(f.until([&] { return to.bytes.size() >= sender.text.size(); }));
  CHECK(to.bytes == sender.text);
  CHECK(from.writables > 0);
}

TEST_CASE_TEMPLATE("a send of more pieces than the kernel takes at once goes out whole", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  std::vector<iovec> pieces(2500, iovec{const_cast<char*>("ab"), 2});
  CHECK(f.ring->send(id, pieces) == 5000);
  CHECK(f.ring->send(id, {}) == 0);
  f.settle();
  CHECK(ours.writables == 0);
  CHECK(read_some(pair.theirs).size() == 5000);
}

TEST_CASE_TEMPLATE("a socket may get another handler from inside an event", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder first, second;
  const SocketId id = f.ring->adopt(pair.ours.release(), first);
  first.when_bytes = [&] { f.ring->hand_over(id, second); };
  write_all(pair.theirs, "first");
  REQUIRE(f.until([&] { return first.bytes == "first"; }));
  write_all(pair.theirs, pattern_string(300'000));
  REQUIRE(f.until([&] { return second.bytes.size() == 300'000; }));
  CHECK(second.bytes == pattern_string(300'000));
  pair.theirs.close();
  REQUIRE(f.until([&] { return second.eofs + second.errors == 1; }));
  CHECK(first.events() == 1);
  f.ring->close(id);
}

TEST_CASE_TEMPLATE("a paused socket keeps its bytes until it is resumed", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  f.settle();
  f.ring->pause_recv(id);
  f.settle();
  write_all(pair.theirs, pattern_string(100'000));
  f.settle();
  CHECK(ours.events() == 0);
  f.ring->resume_recv(id);
  REQUIRE(f.until([&] { return ours.bytes.size() == 100'000; }));
  CHECK(ours.bytes == pattern_string(100'000));
}

// A peer floods a socket whose owner pauses at every delivery: after a pause at most `most` bytes arrive.
template <typename E>
void check_flood(Fixture<E>& f, SocketId id, Recorder& ours, const Fd& theirs, size_t most) {
  const std::string much(1 << 20, 'x');
  const auto refill = [&] {
    while (::send(theirs.get(), much.data(), much.size(), MSG_NOSIGNAL) > 0) {
    }
  };
  ours.when_bytes = [&] {
    f.ring->pause_recv(id);
    refill();
  };
  refill();
  for (int round = 0; round < 5; ++round) {
    const size_t before = ours.bytes.size();
    REQUIRE(f.until([&] { return ours.bytes.size() > before; }));
    f.settle();
    CHECK(ours.bytes.size() - before <= most);
    f.ring->resume_recv(id);
  }
}

// What the engine had already been handed: its one buffer, a limited receive, or all of its buffers.
template <typename E>
size_t most_of_a_flood(size_t limited) {
  if (E::kind == RingKind::epoll) return 64 << 10;
  return probe().detail.find("receive limits") != std::string::npos ? limited : 2 << 20;
}

TEST_CASE_TEMPLATE("a flood ends soon after it is paused", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  check_flood(f, id, ours, pair.theirs, most_of_a_flood<E>(512 << 10));
}

TEST_CASE_TEMPLATE("a flood from a peer that we connected to ends sooner", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Address any = loopback();
  REQUIRE(bind(listener.get(), any.data(), any.size()) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  Recorder ours;
  const auto id = f.ring->connect(Address::local_of(listener.get()), ours);
  REQUIRE(id.ok());
  REQUIRE(f.until([&] { return ours.connected == 1; }));
  const Fd theirs(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  check_flood(f, *id, ours, theirs, most_of_a_flood<E>(128 << 10));
}

TEST_CASE_TEMPLATE("pausing and resuming at every event loses and doubles nothing", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder from, to;
  Sender<E> sender{f, f.ring->adopt(pair.ours.release(), from), pattern_string(6 << 20)};
  const SocketId id = f.ring->adopt(pair.theirs.release(), to);
  bool paused = false;
  to.when_bytes = [&] {
    f.ring->pause_recv(id);
    if (to.calls % 3 == 0) {
      f.ring->resume_recv(id);  // within the same event
    } else if (to.calls % 7 == 0) {
      f.ring->resume_recv(id);
      f.ring->pause_recv(id);
      paused = true;
    } else {
      paused = true;
    }
  };
  from.when_writable = [&] { sender.more(); };
  sender.more();
  REQUIRE(f.until([&] {
    if (std::exchange(paused, false)) f.ring->resume_recv(id);
    return to.bytes.size() >= sender.text.size();
  }));
  CHECK(to.bytes == sender.text);
}

TEST_CASE_TEMPLATE("bytes and the end that follows them closely arrive as bytes, then end", E, Epoll, IoUring) {
  NEEDS(E);
  for (const size_t size : {size_t{0}, size_t{1}, size_t{64 * 1024}, size_t{64 * 1024 + 1}, size_t{300'000}}) {
    CAPTURE(size);
    Fixture<E> f;
    Pair pair;
    write_all(pair.theirs, pattern_string(size));
    shutdown(pair.theirs.get(), SHUT_WR);
    Recorder ours;
    f.ring->adopt(pair.ours.release(), ours);
    REQUIRE(f.until([&] { return ours.eofs == 1; }));
    CHECK(ours.bytes == pattern_string(size));
    f.settle();
    CHECK(ours.eofs == 1);
    CHECK(ours.errors == 0);
  }
}

TEST_CASE_TEMPLATE("after the peer's end a large reply still goes out", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder client, server;
  const SocketId client_id = f.ring->adopt(pair.theirs.release(), client);
  Sender<E> reply{f, f.ring->adopt(pair.ours.release(), server), pattern_string(12 << 20)};
  server.when_eof = [&] { reply.more(); };
  server.when_writable = [&] { reply.more(); };
  f.send(client_id, "question");
  f.ring->shutdown_send(client_id);
  REQUIRE(f.until([&] { return client.bytes.size() >= reply.text.size(); }));
  CHECK(client.bytes == reply.text);
  CHECK(server.bytes == "question");
  CHECK(reply.short_sends > 0);
  f.ring->shutdown_send(reply.id);
  REQUIRE(f.until([&] { return client.eofs == 1; }));
  f.settle();
  CHECK(client.errors + server.errors == 0);
}

TEST_CASE_TEMPLATE("a blocked send to a peer that has half closed does not keep the ring busy", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  Sender<E> sender{f, f.ring->adopt(pair.ours.release(), ours), pattern_string(16 << 20)};
  ours.when_writable = [&] { sender.more(); };
  shutdown(pair.theirs.get(), SHUT_WR);
  REQUIRE(f.until([&] { return ours.eofs == 1; }));
  sender.more();
  REQUIRE(sender.sent < sender.text.size());
  f.settle();
  const uint64_t entries = f.ring->stats().syscalls.get();
  CHECK(f.turns_needed(milliseconds(60)) <= 3);
  CHECK(f.ring->stats().syscalls.get() - entries <= 6);
  // It goes on as soon as the peer reads.
  size_t read = 0;
  REQUIRE(f.until([&] {
    while (size_t n = read_some(pair.theirs).size()) read += n;
    return read == sender.text.size();
  }));
}

TEST_CASE_TEMPLATE("a reset after the end is an error", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  f.ring->adopt(pair.ours.release(), ours);
  shutdown(pair.theirs.get(), SHUT_WR);
  REQUIRE(f.until([&] { return ours.eofs == 1; }));
  f.settle();
  CHECK(ours.errors == 0);
  pair.theirs.reset_connection();
  REQUIRE(f.until([&] { return ours.errors == 1; }));
  CHECK(ours.error != 0);
  f.settle();
  CHECK(ours.events() == 2);
}

TEST_CASE_TEMPLATE("an end and a reset that were there from the start are told in order", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  write_all(pair.theirs, "last words");
  shutdown(pair.theirs.get(), SHUT_WR);
  Recorder ours;
  f.ring->adopt(pair.ours.release(), ours);
  pair.theirs.reset_connection();
  REQUIRE(f.until([&] { return ours.errors == 1; }));
  CHECK(ours.bytes == "last words");
}

TEST_CASE_TEMPLATE("bytes that came before a reset are delivered before the error", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  write_all(pair.theirs, "partial answer");
  Recorder ours;
  f.ring->adopt(pair.ours.release(), ours);
  pair.theirs.reset_connection();
  REQUIRE(f.until([&] { return ours.errors == 1; }));
  CHECK(ours.bytes == "partial answer");
  CHECK(ours.error == ECONNRESET);
  CHECK(ours.eofs == 0);
}

TEST_CASE_TEMPLATE("a reset is told while receiving is paused", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  f.ring->pause_recv(id);
  f.settle();
  pair.theirs.reset_connection();
  REQUIRE(f.until([&] { return ours.errors == 1; }));
  CHECK(ours.error == ECONNRESET);
  f.ring->resume_recv(id);
  f.settle();
  CHECK(ours.events() == 1);
}

TEST_CASE_TEMPLATE("an end that comes while receiving is paused is told after resume", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  f.ring->pause_recv(id);
  f.settle();
  write_all(pair.theirs, "bye");
  pair.theirs.close();
  f.settle();
  CHECK(ours.events() == 0);
  f.ring->resume_recv(id);
  REQUIRE(f.until([&] { return ours.eofs == 1; }));
  CHECK(ours.bytes == "bye");
}

TEST_CASE_TEMPLATE("that the peer hung up is told behind unread bytes, once for each pause", E, Epoll, IoUring) {
  NEEDS(E);
  for (const bool pause_first : {true, false}) {
    CAPTURE(pause_first);
    Fixture<E> f;
    Pair pair;
    Recorder ours;
    const SocketId id = f.ring->adopt(pair.ours.release(), ours);
    if (pause_first) {
      f.ring->pause_recv(id);
      f.settle();
    } else {
      ours.when_bytes = [&] { f.ring->pause_recv(id); };
    }
    write_all(pair.theirs, "something");
    f.settle();
    CHECK(ours.hang_ups == 0);
    write_all(pair.theirs, "more");
    pair.theirs.close();
    REQUIRE(f.until([&] { return ours.hang_ups == 1 || ours.eofs == 1; }));
    f.settle();
    CHECK(ours.hang_ups + ours.eofs == 1);  // late bytes, and the end, may have been on their way
    ours.when_bytes = {};
    f.ring->resume_recv(id);
    REQUIRE(f.until([&] { return ours.eofs == 1; }));
    CHECK(ours.bytes == "somethingmore");
    CHECK(ours.hang_ups <= 1);
    f.ring->close(id);
  }
}

TEST_CASE_TEMPLATE("a refused connection is an error event", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Fd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));  // bound, but nobody listens
  const Address any = loopback();
  REQUIRE(bind(taken.get(), any.data(), any.size()) == 0);
  Recorder client;
  const auto id = f.ring->connect(Address::local_of(taken.get()), client);
  REQUIRE(id.ok());
  CHECK(client.events() == 0);  // never from inside the call
  REQUIRE(f.until([&] { return client.errors == 1; }));
  CHECK(client.error == ECONNREFUSED);
  CHECK(client.connected == 0);
  f.ring->close(*id);
  REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 0; }));
}

TEST_CASE_TEMPLATE("a connection that fails at once is still told by an event", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Recorder client;
  // The limited broadcast address: connect() itself refuses it.
  const auto id = f.ring->connect(*Address::parse("255.255.255.255:9"), client);
  REQUIRE(id.ok());
  CHECK(client.events() == 0);
  REQUIRE(f.until([&] { return client.errors == 1; }));
  CHECK(client.error != 0);
}

TEST_CASE_TEMPLATE("sending and finishing before the connection stands take effect when it does", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Acceptor acceptor;
  Address bound;
  REQUIRE(f.ring->listen(loopback(), false, acceptor, &bound).ok());
  Recorder client, early, server;
  const auto id = f.ring->connect(bound, client);
  const auto early_id = f.ring->connect(bound, early);
  REQUIRE(id.ok());
  REQUIRE(early_id.ok());
  CHECK(f.send(*id, "x") == 0);
  f.ring->shutdown_send(*early_id);
  client.when_writable = [&] {
    CHECK(client.connected == 1);
    CHECK(f.send(*id, "x") == 1);
  };
  REQUIRE(f.until([&] { return client.writables == 1 && early.connected == 1 && acceptor.accepted.size() == 2; }));
  Recorder second;
  f.ring->adopt(acceptor.accepted[0].release(), server);
  f.ring->adopt(acceptor.accepted[1].release(), second);
  REQUIRE(f.until([&] { return server.bytes + second.bytes == "x" && server.eofs + second.eofs == 1; }));
}

TEST_CASE_TEMPLATE("close with reset shows the peer a reset, without it an end", E, Epoll, IoUring) {
  NEEDS(E);
  for (const bool reset : {false, true}) {
    CAPTURE(reset);
    Fixture<E> f;
    Pair pair;
    Recorder ours, theirs;
    const SocketId id = f.ring->adopt(pair.ours.release(), ours);
    f.ring->adopt(pair.theirs.release(), theirs);
    f.settle();
    f.ring->close(id, reset);
    REQUIRE(f.until([&] { return theirs.events() == 1; }));
    CHECK(theirs.eofs == (reset ? 0 : 1));
    CHECK(theirs.error == (reset ? ECONNRESET : 0));
    CHECK(ours.events() == 0);
  }
}

TEST_CASE_TEMPLATE("a failed send is told by its result alone", E, Epoll, IoUring) {
  NEEDS(E);
  Fixture<E> f;
  Pair pair;
  Recorder ours;
  const SocketId id = f.ring->adopt(pair.ours.release(), ours);
  f.settle();
  pair.theirs.reset_connection();
  CHECK(f.send(id, "x") < 0);
  CHECK(f.send(id, "x") < 0);
  f.settle();
  CHECK(ours.events() == 0);
  f.ring->close(id);
  REQUIRE(f.until([&] { return f.ring->stats().sockets.get() == 0; }));
}

}  // namespace penstock::net::test
