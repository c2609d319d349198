// Status patches and Events: only changes, one at a time, patient with refusals.
#include "penstock/kube/writer.h"

#include "fake_transport.h"

namespace penstock::kube::test {
namespace {

const std::string path = "/apis/g/v1/namespaces/ns/things/a/status";

struct WriterBench {
  WriterBench() : writer(loop.loop(), transport, random, {.reporting_instance = "gw-0"}) {}
  void run(Duration time) { network.run_for(time); }
  size_t settle(Duration time = milliseconds(200)) {
    run(time);
    return transport.count();
  }
  Event event(const std::string& name) const {
    return {"v1", "Pod", "ns", name, "uid-" + name, true, "Reason", "Action", "note"};
  }

  penstock::test::SimNetwork network{1};
  penstock::test::SimLoop loop{network};
  Random random{3};
  FakeTransport transport;
  Writer writer;
};

}  // namespace

TEST_CASE("a status is applied, and not again while it stays the same") {
  WriterBench b;
  b.writer.apply_status(path, "{1}");
  REQUIRE(b.settle() == 1);
  CHECK(b.transport.last().method == "PATCH");
  CHECK(b.transport.path() == path + "?fieldManager=penstock&force=true");
  CHECK(b.transport.last().content_type == "application/apply-patch+yaml");
  CHECK(b.transport.last().body == "{1}");
  b.writer.apply_status(path, "{1}");
  b.transport.answer(200, "{}");
  b.writer.apply_status(path, "{1}");
  CHECK(b.settle() == 1);
  CHECK(b.writer.status().patches_unchanged == 2);
  b.writer.forget(path);
  b.writer.apply_status(path, "{1}");
  CHECK(b.settle() == 2);
  b.transport.answer(200, "{}");
  CHECK(b.writer.status().patches_written == 2);
}

TEST_CASE("what changes while it waits or is written is written once, the last of it") {
  WriterBench b;
  for (int i = 0; i < 10; ++i) b.writer.apply_status(path, "{" + std::to_string(i) + "}");
  REQUIRE(b.settle() == 1);
  CHECK(b.transport.last().body == "{9}");
  b.writer.apply_status(path, "{x}");
  b.writer.apply_status(path, "{y}");
  CHECK(b.settle() == 1);
  b.transport.answer(200, "{}");
  CHECK(b.settle() == 2);
  CHECK(b.transport.last().body == "{y}");
  b.transport.answer(200, "{}");
  CHECK(b.settle() == 2);
  CHECK(b.writer.status().patches_coalesced == 9);
  CHECK(b.writer.status().patches_waiting == 0);
}

TEST_CASE("one call at a time, with a pause between them") {
  WriterBench b;
  for (int i = 0; i < 5; ++i) b.writer.apply_status("/x" + std::to_string(i), "{}");
  Instant last{};
  for (size_t i = 1; i <= 5; ++i) {
    REQUIRE(b.network.run_until([&] { return b.transport.count() == i; }, seconds(5)));
    if (i > 1) CHECK(b.network.now() - last >= milliseconds(50));
    CHECK(b.settle() == i);
    last = b.network.now();
    b.transport.answer(200, "{}");
  }
  CHECK(b.settle(seconds(10)) == 5);
}

TEST_CASE("403: the first are taken for those of a server that starts") {
  WriterBench b;
  b.writer.apply_status(path, "{1}");
  b.settle();
  b.transport.answer(403, status_json(403, "Forbidden"));
  b.writer.event(b.event("p"));
  CHECK(b.settle() == 2);  // the other kind is not held up
  CHECK(b.transport.last().method == "POST");
  b.transport.answer(201, "{}");
  CHECK(!b.writer.status().patches_forbidden);
  CHECK(b.settle(seconds(2)) == 3);
  b.transport.answer(200, "{}");
  CHECK(b.writer.status().patches_written == 1);
}

TEST_CASE("403: one kind of write is off until it is tried again ten minutes later") {
  WriterBench b;
  b.writer.apply_status(path, "{1}");
  for (size_t i = 1; i <= 5; ++i) {
    CHECK(!b.writer.status().patches_forbidden);
    REQUIRE(b.network.run_until([&] { return b.transport.count() == i; }, seconds(30)));
    b.transport.answer(403, status_json(403, "Forbidden"));
  }
  CHECK(b.writer.status().patches_forbidden);
  b.writer.apply_status(path, "{2}");
  CHECK(b.settle(seconds(590)) == 5);
  b.writer.event(b.event("p"));
  CHECK(b.settle() == 6);  // events may be allowed all the same
  CHECK(b.transport.last().method == "POST");
  b.transport.answer(201, "{}");
  CHECK(!b.writer.status().events_forbidden);
  CHECK(b.settle(seconds(15)) == 7);
  CHECK(b.transport.last().body == "{2}");
  b.transport.answer(200, "{}");
  CHECK(!b.writer.status().patches_forbidden);
}

TEST_CASE("403: a namespace where events may not be written holds up no other") {
  WriterBench b;
  Event elsewhere = b.event("class");
  elsewhere.ns.clear();  // of a cluster-scoped object: namespace "default"
  b.writer.event(elsewhere);
  for (size_t i = 1; i <= 5; ++i) {
    REQUIRE(b.network.run_until([&] { return b.transport.count() == i; }, seconds(30)));
    CHECK(b.transport.path() == "/apis/events.k8s.io/v1/namespaces/default/events");
    b.transport.answer(403, status_json(403, "Forbidden"));
  }
  CHECK(b.writer.status().events_forbidden);
  for (const char* name : {"p", "q"}) {
    b.writer.event(b.event(name));
    REQUIRE(b.network.run_until([&, count = b.transport.count()] { return b.transport.count() > count; }, seconds(1)));
    CHECK(b.transport.path() == "/apis/events.k8s.io/v1/namespaces/ns/events");
    b.transport.answer(201, "{}");
  }
  CHECK(b.writer.status().events_forbidden);  // there, still
  CHECK(b.settle(seconds(580)) == 7);
  REQUIRE(b.settle(seconds(30)) == 8);
  b.transport.answer(201, "{}");
  CHECK(!b.writer.status().events_forbidden);
  CHECK(b.writer.status().events_written == 3);
}

TEST_CASE("failures back off, Retry-After is obeyed, credentials are read again") {
  WriterBench b;
  b.writer.apply_status(path, "{1}");
  b.settle();
  b.transport.done(Failure::connect);
  CHECK(b.settle(milliseconds(700)) == 1);
  CHECK(b.settle(seconds(2)) == 2);
  b.transport.answer(429, "", seconds(9));
  CHECK(b.settle(milliseconds(8900)) == 2);
  CHECK(b.settle() == 3);
  b.transport.answer(401, "");
  CHECK(b.transport.refreshes == 1);
  CHECK(b.settle() == 4);
  b.transport.answer(409, status_json(409, "Conflict"));
  b.settle(seconds(60));
  CHECK(b.transport.count() == 5);
  CHECK(!b.writer.status().last_error.empty());
  b.transport.answer(200, "{}");
  CHECK(b.writer.status().last_error.empty());
  CHECK(b.writer.status().failures == 4);
}

TEST_CASE("a write that the server refuses is given up, until something else is to be written") {
  for (const int code : {404, 422}) {
    WriterBench b;
    b.writer.apply_status(path, "{1}");
    b.settle();
    b.transport.answer(code, "no");
    CHECK(b.settle(seconds(100)) == 1);
    b.writer.apply_status(path, "{2}");
    CHECK(b.settle() == 2);
    CHECK(b.writer.status().patches_dropped == 1);
  }
}

// As in a dispute: somebody else's write comes after ours, and ours is wanted again, beside other words of theirs.
TEST_CASE("what somebody has changed since it was written is written again") {
  WriterBench b;
  const auto made = [](int version) {
    return R"({"metadata":{"resourceVersion":")" + std::to_string(version) + "\"}}";
  };
  const auto see = [&](int version) { b.writer.apply_status(path, "{1}", "", std::to_string(version)); };
  see(99);
  REQUIRE(b.settle() == 1);
  see(99);
  b.transport.answer(200, made(100));
  for (const int version : {99, 100}) see(version);  // our own write has not come back yet
  CHECK(b.settle() == 1);
  see(101);
  REQUIRE(b.settle() == 2);
  see(103);  // heard before the answer to the call under way
  b.transport.answer(200, made(102));
  CHECK(b.settle() == 2);
  REQUIRE(b.settle(seconds(1)) == 3);  // the third time not at once
  b.writer.forget(path);
  see(105);  // likewise, and in between it was as it should be
  b.transport.answer(200, made(104));
  REQUIRE(b.settle(seconds(3)) == 4);
  b.transport.answer(200, made(106));
  see(106);
  see(104);
  CHECK(b.settle(seconds(60)) == 4);
  const auto write = [&](int version, int then) {
    see(version);
    REQUIRE(b.network.run_until([&, count = b.transport.count()] { return b.transport.count() > count; }, seconds(20)));
    b.transport.answer(200, made(then));
  };
  int version = 107;
  for (; !b.writer.contested(path); version += 2) write(version, version + 1);
  // What the server had all the time nobody has undone.
  write(version, version);
  CHECK_FALSE(b.writer.contested(path));
  write(version + 1, version + 2);
  CHECK(b.writer.contested(path));
}

TEST_CASE("versions that are no numbers tell nothing") {
  WriterBench b;
  b.writer.apply_status(path, "{1}", "", "x1");
  REQUIRE(b.settle() == 1);
  b.transport.answer(200, R"({"metadata":{"resourceVersion":"x2"}})");
  b.writer.apply_status(path, "{1}", "", "x3");
  CHECK(b.settle(seconds(60)) == 1);
}

TEST_CASE("a field that the server does not know is refused once, and holds nobody up") {
  WriterBench b;
  b.writer.apply_status(path + "?fieldManager=other", "{1}");
  b.writer.apply_status("/x", "{2}");
  REQUIRE(b.settle() == 1);
  CHECK(b.transport.path() == path + "?fieldManager=other&force=true");
  b.transport.answer(500, R"({"kind":"Status","message":"failed to create typed patch object (/a; g/v1, Kind=T): )"
                          R"(.status.new: field not declared in schema","code":500})");
  REQUIRE(b.settle() == 2);
  CHECK(b.transport.path() == "/x?fieldManager=penstock&force=true");
  b.transport.answer(200, "{}");
  b.writer.apply_status(path + "?fieldManager=other", "{1}", "", "7");
  CHECK(b.settle(seconds(60)) == 2);
}

TEST_CASE("a field that has another type at the server is refused once, and holds nobody up") {
  WriterBench b;
  b.writer.apply_status(path, "{1}");
  b.writer.apply_status("/x", "{2}");
  REQUIRE(b.settle() == 1);
  b.transport.answer(500, R"({"kind":"Status","message":"failed to create typed patch object (/a; g/v1, Kind=T): )"
                          R"(.status.list[0]: expected string, got &{map[name:A]}","code":500})");
  REQUIRE(b.settle() == 2);
  CHECK(b.transport.path() == "/x?fieldManager=penstock&force=true");
  b.transport.answer(200, "{}");
  CHECK(b.settle(seconds(60)) == 2);
}

TEST_CASE("what does not last is written more and more rarely; new words of ours are written at once") {
  WriterBench b;
  const auto write_again = [&](const std::string& ours) {
    static int version = 0;
    b.writer.forget(path);
    b.writer.apply_status(path, ours + std::to_string(++version), ours);
  };
  const auto begun_within = [&](Duration pause) {
    const size_t before = b.transport.count();
    if (pause > seconds(1)) CHECK(b.settle(pause - seconds(1)) == before);
    REQUIRE(b.settle(seconds(2)) == before + 1);
    b.transport.answer(200, "{}");
  };
  write_again("a");
  begun_within(Duration{0});
  write_again("a");
  begun_within(Duration{0});
  for (const int pause : {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}) {
    CHECK(b.writer.contested(path) == (pause > 4));
    write_again("a");
    b.writer.apply_status(path, "a, and another word of theirs", "a");  // does not make it wait longer
    begun_within(seconds(pause));
  }
  CHECK(b.writer.contested(path));
  write_again("b");
  begun_within(Duration{0});
  CHECK(!b.writer.contested(path));
  write_again("b");
  begun_within(Duration{0});
  write_again("b");
  write_again("c");  // instead of what waits
  begun_within(Duration{0});
}

TEST_CASE("what had to be written again some time ago is no dispute") {
  WriterBench b;
  for (int i = 0; i < 10; ++i) {
    b.writer.forget(path);
    b.writer.apply_status(path, "{1}");
    REQUIRE(b.settle() == static_cast<size_t>(i) + 1);
    b.transport.answer(200, "{}");
    b.run(seconds(61));
    CHECK(!b.writer.contested(path));
  }
}

TEST_CASE("who waits for a pause of its own holds nobody up") {
  WriterBench b;
  for (int i = 0; i < 3; ++i) {
    b.writer.forget(path);
    b.writer.apply_status(path, "{1}");
    if (i < 2) b.settle(), b.transport.answer(200, "{}");
  }
  REQUIRE(b.settle() == 2);
  b.writer.apply_status("/other", "{2}");
  REQUIRE(b.settle() == 3);
  b.transport.answer(200, "{}");
  CHECK(b.settle(seconds(1)) == 4);
}

TEST_CASE("forgetting what is waiting or being written") {
  WriterBench b;
  b.writer.apply_status(path, "{1}");
  b.writer.forget(path);
  CHECK(b.settle() == 0);
  b.writer.apply_status(path, "{1}");
  REQUIRE(b.settle() == 1);
  b.writer.apply_status(path, "{2}");
  b.writer.forget(path);
  b.transport.done(Failure::cut);
  CHECK(b.settle(seconds(5)) == 1);
}

TEST_CASE("events: the same one once in ten minutes, and only so many waiting") {
  WriterBench b;
  b.writer.event(b.event("a"));
  b.writer.event(b.event("a"));
  CHECK(b.settle() == 1);
  CHECK(b.transport.path() == "/apis/events.k8s.io/v1/namespaces/ns/events");
  CHECK(b.transport.last().body.find(
            R"("regarding":{"apiVersion":"v1","kind":"Pod","namespace":"ns","name":"a","uid":"uid-a"})") !=
        std::string::npos);
  b.transport.answer(201, "{}");
  CHECK(b.writer.status().events_repeated == 1);
  b.run(seconds(601));
  b.writer.event(b.event("a"));
  CHECK(b.settle() == 2);
  Event cluster_scoped = b.event("c");
  cluster_scoped.ns.clear();
  b.writer.event(cluster_scoped);
  b.transport.answer(201, "{}");
  CHECK(b.settle() == 3);
  CHECK(b.transport.path() == "/apis/events.k8s.io/v1/namespaces/default/events");
  for (int i = 0; i < 300; ++i) b.writer.event(b.event("many" + std::to_string(i)));
  CHECK(b.writer.status().events_dropped == 300 - 256);
}

}  // namespace penstock::kube::test
