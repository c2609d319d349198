#include "penstock/net/event_loop.h"

#include <doctest/doctest.h>

#include <condition_variable>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace penstock::net {
namespace {

struct ManualClock final : Clock {
  Instant now() override {
    ++reads;
    return time;
  }
  int64_t wall_time_us() override { return 0; }
  Instant time{seconds(10)};
  int reads = 0;
};

// A ring without sockets: a test scripts what its turn does, and sees how long it was to wait. wake() really ends a
// wait, for the tests with threads.
struct ScriptedRing final : Ring {
  const char* name() const override { return "scripted"; }
  SocketId adopt(int, SocketEvents&) override { return {}; }
  void hand_over(SocketId, SocketEvents&) override {}
  Result<SocketId, int> connect(const Address&, SocketEvents&) override { return 1; }
  ssize_t send(SocketId, std::span<const iovec>) override { return -1; }
  void pause_recv(SocketId) override {}
  void resume_recv(SocketId) override {}
  void shutdown_send(SocketId) override {}
  void close(SocketId, bool) override {}
  Result<SocketId> listen(const Address&, bool, AcceptEvents&, Address*) override { return SocketId{}; }
  void close_listener(SocketId) override {}
  Result<SocketId, int> watch(int, ReadyEvents&) override { return ENOTSUP; }
  void unwatch(SocketId) override {}
  size_t turn(Duration max_wait) override {
    waits.push_back(max_wait);
    if (on_turn) {
      on_turn(max_wait);
    } else if (max_wait < Duration{0}) {
      std::unique_lock lock(mutex);
      REQUIRE(woken.wait_for(lock, std::chrono::seconds(30), [&] { return wakes > 0; }));
      wakes = 0;
    }
    return delivers > 0 ? delivers-- : 0;
  }
  void wake() override {
    const std::lock_guard lock(mutex);
    ++wakes;
    woken.notify_all();
  }

  std::vector<Duration> waits;
  std::function<void(Duration)> on_turn;
  size_t delivers = 0;  // how many events the next turn tells of, and the one after that one fewer
  std::mutex mutex;
  std::condition_variable woken;
  int wakes = 0;
};

struct Logged final : Disposable {
  Logged(std::string& log, std::string text) : log_(log), text_(std::move(text)) {}
  ~Logged() override { log_ += text_; }
  std::string& log_;
  std::string text_;
};

struct LoggingTimer {
  LoggingTimer(std::string& log, std::string text) : log_(log), text_(std::move(text)) {}
  void fire() { log_ += text_; }
  std::string& log_;
  std::string text_;
  Timer timer = Timer::of<&LoggingTimer::fire>(this);
};

constexpr Duration kForever{-1};

struct Fixture {
  ScriptedRing ring;
  ManualClock clock;
  std::string log;
  EventLoop loop{ring, clock};
};

TEST_CASE_FIXTURE(Fixture, "a turn: mailbox, timers, ring events, deferred work, disposals, hook") {
  LoggingTimer timer(log, "timer ");
  loop.set_turn_hook([&] { log += "hook"; });
  ring.on_turn = [&](Duration) {
    log += "ring ";
    loop.dispose(std::make_unique<Logged>(log, "disposed "));
    loop.defer([&] { log += "deferred "; });
  };
  loop.arm(timer.timer, milliseconds(1));
  loop.post([&] { log += "mailbox "; });
  clock.time += milliseconds(1);
  loop.run_turn(kForever);
  CHECK(log == "mailbox timer ring deferred disposed hook");
}

TEST_CASE_FIXTURE(Fixture, "a loop that was kept from running looks at its sockets before it calls time") {
  LoggingTimer timer(log, "timer ");
  ring.on_turn = [&](Duration) {
    log += "ring ";
    loop.defer([&] { log += "deferred "; });
  };
  loop.run_turn(Duration{0});
  loop.arm(timer.timer, seconds(1));
  clock.time += seconds(2);
  log.clear();
  loop.run_turn(Duration{0});
  CHECK(log == "ring deferred timer ring deferred ");

  ring.on_turn = [&](Duration) { log += "ring "; };
  loop.arm(timer.timer, milliseconds(1));
  clock.time += milliseconds(2);  // as usual
  log.clear();
  loop.run_turn(Duration{0});
  CHECK(log == "timer ring ");
}

TEST_CASE_FIXTURE(Fixture, "a loop that was kept from running sees all that waits, but not for ever") {
  LoggingTimer timer(log, "timer ");
  ring.on_turn = [&](Duration) { log += "ring "; };
  loop.run_turn(Duration{0});
  loop.arm(timer.timer, seconds(1));
  clock.time += seconds(2);
  log.clear();
  ring.delivers = 2;
  loop.run_turn(Duration{0});
  CHECK(log == "ring ring ring timer ring ");

  ring.on_turn = [&](Duration) {
    log += "ring ";
    clock.time += milliseconds(60);
  };
  loop.arm(timer.timer, milliseconds(1));
  clock.time += seconds(1);
  log.clear();
  ring.delivers = 100;
  loop.run_turn(Duration{0});
  CHECK(log == "ring ring timer ring ");
}

TEST_CASE_FIXTURE(Fixture, "an idle turn waits until the next timer, or as long as it may") {
  ring.on_turn = [](Duration) {};
  loop.run_turn(kForever);
  CHECK(ring.waits.back() == kForever);
  loop.run_turn(milliseconds(3));
  CHECK(ring.waits.back() == milliseconds(3));
  LoggingTimer timer(log, "timer");
  loop.arm(timer.timer, milliseconds(5));
  loop.run_turn(kForever);
  CHECK(ring.waits.back() == milliseconds(5));
  loop.run_turn(milliseconds(3));
  CHECK(ring.waits.back() == milliseconds(3));
  clock.time += milliseconds(4);
  loop.run_turn(milliseconds(3));
  CHECK(ring.waits.back() == milliseconds(1));
  loop.arm(timer.timer, Duration::max());
  loop.run_turn(milliseconds(3));
  CHECK(ring.waits.back() == milliseconds(3));
}

TEST_CASE_FIXTURE(Fixture, "a turn with work does not wait: its end is due") {
  ring.on_turn = [](Duration) {};
  loop.post([] {});
  loop.run_turn(kForever);
  CHECK(ring.waits.back() == Duration{0});
  loop.defer([] {});
  loop.run_turn(kForever);
  CHECK(ring.waits.back() == Duration{0});
  loop.dispose(std::make_unique<Logged>(log, "disposed"));
  loop.run_turn(kForever);
  CHECK(ring.waits.back() == Duration{0});
  LoggingTimer timer(log, "");
  loop.arm(timer.timer, Duration{0});
  loop.run_turn(kForever);
  CHECK(ring.waits.back() == Duration{0});
  loop.run_turn(kForever);
  CHECK(ring.waits.back() == kForever);
}

TEST_CASE_FIXTURE(Fixture, "time stands still within a turn, except that ring events see when the wait ended") {
  Instant in_mailbox, in_ring, in_deferred;
  ring.on_turn = [&](Duration) {
    clock.time += seconds(2);  // the wait
    in_ring = loop.now();
    clock.time += seconds(1);  // a slow handler
    CHECK(loop.now() == in_ring);
    loop.defer([&] { in_deferred = loop.now(); });
  };
  loop.run_turn(kForever);
  CHECK(in_ring == Instant{seconds(12)});
  CHECK(in_deferred == in_ring);
  loop.post([&] {
    in_mailbox = loop.now();
    clock.time += seconds(1);
  });
  loop.run_turn(kForever);  // did not wait: its ring events see the turn's time
  CHECK(in_mailbox == Instant{seconds(13)});
  CHECK(in_ring == in_mailbox);
}

TEST_CASE_FIXTURE(Fixture, "a timer armed from a ring event counts from the end of the wait") {
  LoggingTimer timer(log, "timer");
  ring.on_turn = [&](Duration) {
    clock.time += seconds(100);
    loop.arm(timer.timer, milliseconds(10));
  };
  loop.run_turn(kForever);
  CHECK(timer.timer.deadline() == clock.time + milliseconds(10));
  ring.on_turn = [](Duration) {};
  loop.run_turn(kForever);
  CHECK(log.empty());
  CHECK(ring.waits.back() == milliseconds(10));
}

TEST_CASE_FIXTURE(Fixture, "nobody reads the clock more than once in a turn that asks for no time") {
  ring.on_turn = [](Duration) {};
  const int before = clock.reads;
  loop.run_turn(kForever);
  CHECK(clock.reads == before + 1);
}

TEST_CASE_FIXTURE(Fixture, "a clock that goes back does not turn the loop's time back") {
  ring.on_turn = [](Duration) {};
  clock.time += seconds(1);
  loop.run_turn(kForever);
  const Instant reached = loop.now();
  clock.time -= seconds(5);
  loop.run_turn(kForever);
  CHECK(loop.now() == reached);
}

TEST_CASE_FIXTURE(Fixture, "work deferred by deferred work runs in the same turn, in order") {
  ring.on_turn = [&](Duration) {
    loop.defer([&] {
      log += "1";
      loop.defer([&] { log += "3"; });
    });
    loop.defer([&] { log += "2"; });
  };
  loop.run_turn(kForever);
  CHECK(log == "123");
}

TEST_CASE_FIXTURE(Fixture, "work that defers itself for ever ends the turn all the same, and goes on in the next") {
  int runs = 0;
  std::function<void()> again = [&] {
    ++runs;
    loop.defer(again);
  };
  ring.on_turn = [](Duration) {};
  loop.defer(again);
  loop.run_turn(kForever);
  const int in_first = runs;
  CHECK(in_first > 1);
  CHECK(in_first < 100);
  loop.run_turn(kForever);
  CHECK(runs > in_first);
  CHECK(ring.waits.back() == Duration{0});
}

TEST_CASE_FIXTURE(Fixture, "deferred from outside a turn, work runs at the start of the next") {
  loop.defer([&] { log += "deferred "; });
  ring.on_turn = [&](Duration) { log += "ring"; };
  loop.run_turn(kForever);
  CHECK(log == "deferred ring");
}

TEST_CASE_FIXTURE(Fixture, "what is disposed of outlives all work that was deferred before") {
  struct Object final : Disposable {
    ~Object() override { alive = 0; }
    int alive = 42;
  };
  // A chain longer than one turn allows, each link of which uses the object.
  auto object = std::make_unique<Object>();
  Object* used = object.get();
  int links = 0;
  std::function<void()> link = [&] {
    CHECK(used->alive == 42);
    if (++links < 17) loop.defer(link);
  };
  ring.on_turn = [&](Duration) {
    if (object == nullptr) return;
    loop.defer(link);
    loop.dispose(std::move(object));
  };
  loop.run_turn(kForever);
  CHECK(links == 16);
  loop.run_turn(kForever);
  CHECK(links == 17);
}

TEST_CASE_FIXTURE(Fixture, "a destructor may dispose of another object") {
  struct Parent final : Disposable {
    Parent(EventLoop& l, std::string& t) : loop_(l), log_(t) {}
    ~Parent() override { loop_.dispose(std::make_unique<Logged>(log_, "child")); }
    EventLoop& loop_;
    std::string& log_;
  };
  ring.on_turn = [](Duration) {};
  loop.dispose(std::make_unique<Parent>(loop, log));
  loop.run_turn(kForever);
  CHECK(log == "child");
}

TEST_CASE("post() from other threads wakes the loop, and all of it arrives") {
  ScriptedRing ring;
  ManualClock clock;
  EventLoop loop(ring, clock);
  constexpr int threads = 4, each = 500;
  int received = 0;  // on the loop's thread alone
  std::vector<std::thread> posters;
  for (int t = 0; t < threads; ++t) {
    posters.emplace_back([&] {
      for (int i = 0; i < each; ++i) {
        loop.post([&] {
          if (++received == threads * each) loop.stop();
        });
      }
    });
  }
  loop.run();
  for (std::thread& thread : posters) thread.join();
  CHECK(received == threads * each);
}

TEST_CASE("stop() from another thread ends run(), and a stop before run() is not lost") {
  ScriptedRing ring;
  ManualClock clock;
  {
    EventLoop loop(ring, clock);
    std::thread stopper([&] { loop.stop(); });
    loop.run();
    stopper.join();
  }
  EventLoop loop(ring, clock);
  loop.stop();
  loop.run();
  CHECK(loop.now() == clock.time);
}

TEST_CASE("what is still queued when the loop ends is destroyed, not run") {
  std::string log;
  ScriptedRing ring;
  ManualClock clock;
  auto token = std::make_shared<int>(1);
  EventLoop loop(ring, clock);
  ring.on_turn = [&](Duration) {
    loop.stop();
    loop.post([&log, token] { log += "posted"; });
    // Leaves more deferred work than a turn does.
    struct Again {
      void operator()() const { loop->defer(*this); }
      EventLoop* loop;
      std::shared_ptr<int> token;
    };
    loop.defer(Again{&loop, token});
    loop.dispose(std::make_unique<Logged>(log, "disposed"));
  };
  loop.run();
  CHECK(log == "disposed");
  CHECK(token.use_count() == 1);
  loop.post([&log, token] { log += "posted later"; });
  CHECK(token.use_count() == 1);
}

TEST_CASE("destroying a loop that never ran destroys what was queued, and what that queues in turn") {
  std::string log;
  ScriptedRing ring;
  ManualClock clock;
  {
    EventLoop loop(ring, clock);
    struct Parent final : Disposable {
      Parent(EventLoop& l, std::string& t) : loop_(l), log_(t) {}
      ~Parent() override { loop_.dispose(std::make_unique<Logged>(log_, "child")); }
      EventLoop& loop_;
      std::string& log_;
    };
    loop.post([&, parent = std::make_shared<Parent>(loop, log)] { log += "ran"; });
  }
  CHECK(log == "child");
}

}  // namespace
}  // namespace penstock::net
