#include "penstock/endpoints/snapshot.h"

#include <doctest/doctest.h>

#include <thread>

using namespace penstock;
using namespace penstock::endpoints;

namespace {

std::unique_ptr<Snapshot> snapshot_named(const std::string& name) {
  auto snapshot = std::make_unique<Snapshot>();
  snapshot->pools.emplace_back().name = name;
  return snapshot;
}

}  // namespace

TEST_CASE("a pool counts its ready endpoints only") {
  Pool pool;
  CHECK(pool.ready_count() == 0);
  for (const Readiness readiness : {Readiness::ready, Readiness::not_ready, Readiness::draining, Readiness::ready}) {
    pool.endpoints.emplace_back().readiness = readiness;
  }
  CHECK(pool.ready_count() == 2);
}

TEST_CASE("requests waiting now are the gauge corrected by our own picks since the scrape, never negative") {
  EndpointState state;
  EndpointView view;
  view.state = &state;
  view.metrics.waiting = 4;
  view.metrics.requests_at_scrape = 10;
  state.load.requests = 13;
  CHECK(view.waiting_now() == 7);
  state.load.requests = 8;
  CHECK(view.waiting_now() == 2);
  view.metrics.not_counted_at_scrape = 3;
  CHECK(view.waiting_now() == 5);
  state.load.requests = 0;
  CHECK(view.waiting_now() == 0);
}

TEST_CASE("before the first publication there is no snapshot") {
  SnapshotPublisher publisher(1);
  CHECK(publisher.current() == nullptr);
  CHECK(publisher.acquire(0) == nullptr);
  CHECK(publisher.reclaim() == 0);
}

TEST_CASE("published snapshots are numbered from one") {
  SnapshotPublisher publisher(1);
  publisher.publish(snapshot_named("first"));
  CHECK(publisher.acquire(0)->version == 1);
  publisher.publish(snapshot_named("second"));
  CHECK(publisher.acquire(0)->version == 2);
  CHECK(publisher.current()->pools[0].name == "second");
}

TEST_CASE("a published pool knows its version, and whether its endpoints list the same models") {
  SnapshotPublisher publisher(1);
  const auto publish = [&](std::vector<std::vector<std::string>> models) {
    auto snapshot = snapshot_named("p");
    for (auto& listed : models) snapshot->pools[0].endpoints.emplace_back().models = std::move(listed);
    publisher.publish(std::move(snapshot));
    return publisher.current()->pools[0];
  };
  CHECK(publish({{"a", "b"}, {"a", "b"}}).models_alike);
  CHECK_FALSE(publish({{"a"}, {"b"}}).models_alike);
  CHECK_FALSE(publish({{"a"}, {}}).models_alike);
  CHECK(publish({}).version == 4);
}

TEST_CASE("a snapshot lives until the shard that uses it moves on") {
  SnapshotPublisher publisher(2);
  publisher.publish(snapshot_named("first"));
  const Snapshot* first = publisher.acquire(0);
  publisher.publish(snapshot_named("second"));
  CHECK(publisher.retired() == 1);
  CHECK(first->pools[0].name == "first");
  CHECK(publisher.reclaim() == 1);

  publisher.publish(snapshot_named("third"));
  CHECK(publisher.retired() == 2);
  CHECK(publisher.acquire(0)->pools[0].name == "third");
  CHECK(publisher.reclaim() == 3);
  CHECK(publisher.retired() == 0);
}

TEST_CASE("a shard that sleeps holds nothing back") {
  SnapshotPublisher publisher(2);
  publisher.publish(snapshot_named("first"));
  publisher.acquire(0);
  publisher.acquire(1);
  publisher.release(0);
  publisher.publish(snapshot_named("second"));
  CHECK(publisher.retired() == 1);
  publisher.release(1);
  CHECK(publisher.reclaim() == 2);
  CHECK(publisher.retired() == 0);
  CHECK(publisher.acquire(1)->version == 2);
}

TEST_CASE("readers in many threads see whole snapshots, in order, until the last") {
  constexpr size_t readers = 3;
  constexpr uint64_t last = 2000;
  SnapshotPublisher publisher(readers);
  std::atomic<uint64_t> torn{0}, backwards{0};
  std::vector<std::thread> threads;
  for (size_t reader = 0; reader < readers; ++reader) {
    threads.emplace_back([&, reader] {
      uint64_t seen = 0;
      for (uint64_t turn = 0; seen < last; ++turn) {
        const Snapshot* snapshot = publisher.acquire(reader);
        if (snapshot == nullptr) continue;
        if (snapshot->version < seen) ++backwards;
        seen = snapshot->version;
        if (snapshot->pools.size() != 1 || snapshot->pools[0].name != std::to_string(seen)) ++torn;
        if (turn % 7 == reader) publisher.release(reader);
        if (turn % 64 == 0) std::this_thread::yield();
      }
      publisher.release(reader);
    });
  }
  for (uint64_t version = 1; version <= last; ++version) {
    publisher.publish(snapshot_named(std::to_string(version)));
    if (version % 16 == 0) std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(torn == 0);
  CHECK(backwards == 0);
  CHECK(publisher.reclaim() == last);
  CHECK(publisher.retired() == 0);
}
