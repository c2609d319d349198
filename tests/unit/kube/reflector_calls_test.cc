// What others may ask of a reflector at any time: to stop, to read one object, to look at other paths; and what is
// absent.
#include "fake_transport.h"

namespace penstock::kube::test {

TEST_CASE("the sink may stop everything from inside any event") {
  Bench b;
  SUBCASE("in a stream") {
    b.reflector->start();
    b.sink.when_object = [&] { b.reflector->stop(); };
    b.transport.status(200);
    b.transport.bytes(event_line("ADDED", object_json("a", "u1", 5)) + event_line("ADDED", object_json("b", "u2", 5)));
    CHECK(b.sink.objects == 1);
  }
  SUBCASE("in a list") {
    refuse_stream(b);
    b.sink.when_object = [&] { b.reflector->stop(); };
    b.transport.answer(200, list_json(9, {object_json("a", "u1", 1), object_json("b", "u2", 1)}));
    CHECK(b.sink.objects == 1);
    CHECK(b.sink.synced == 0);
  }
  SUBCASE("when synced") {
    refuse_stream(b);
    b.sink.when_synced = [&] { b.reflector->stop(); };
    b.transport.answer(200, list_json(9, {}));
  }
  CHECK(b.status().state == ReflectorState::stopped);
  const size_t calls = b.transport.count();
  b.run(seconds(2000));
  CHECK(b.transport.count() == calls);
}

TEST_CASE("one object can be read past the watch") {
  Bench b;
  b.sync();
  REQUIRE(b.reflector->get_now("ns", "a"));
  const CallId get = b.transport.count();
  CHECK(b.transport.path() ==
        "/api/v1/namespaces/ns/pods?labelSelector=app%20in%20%28a%2C%20b%29&fieldSelector=metadata.name%3Da");
  CHECK(!b.reflector->get_now("ns", "a"));  // just asked
  CHECK(!b.reflector->get_now("elsewhere", "a"));
  SUBCASE("gone") {
    b.transport.answer(200, list_json(30, {}), {}, get);
    CHECK(b.sink.log == "-a(u1) ");
  }
  SUBCASE("another incarnation") {
    b.transport.answer(200, list_json(30, {object_json("a", "u2", 29)}), {}, get);
    CHECK(b.sink.log == "-a(u1) +a(u2) ");
  }
  SUBCASE("the watch was faster") {
    b.transport.bytes(event_line("MODIFIED", object_json("a", "u1", 40)), 1);
    b.sink.take_log();
    b.transport.answer(200, list_json(30, {}), {}, get);
    CHECK(b.sink.log.empty());
  }
  SUBCASE("a full list began") {
    b.reflector->refresh();
    b.transport.answer(200, list_json(30, {}), {}, get);
    CHECK(b.sink.log.empty());
    CHECK(!b.reflector->get_now("ns", "other"));
  }
  SUBCASE("an error changes nothing") {
    b.transport.answer(500, "", {}, get);
    CHECK(b.sink.log.empty());
  }
  SUBCASE("and again after a pause") {
    b.transport.answer(200, list_json(30, {}), {}, get);
    b.run(milliseconds(1100));
    CHECK(b.reflector->get_now("ns", "a"));
    b.reflector->stop();
    CHECK(!b.transport.running());
  }
}

TEST_CASE("a pause after a failure to reach the server ends when others have reached it") {
  Bench b;
  b.reflector->start();
  const auto calls_after_hurry = [&] {
    const size_t before = b.transport.count();
    b.reflector->hurry();
    CHECK(b.transport.count() == before);
    b.run(milliseconds(201));
    return b.transport.count() - before;
  };
  for (int i = 0; i < 6; ++i) {  // until pauses are long
    b.transport.done(Failure::connect);
    b.until_next_call();
  }
  SUBCASE("no connection") {
    b.transport.done(Failure::connect);
    CHECK(calls_after_hurry() == 1);
    CHECK(calls_after_hurry() == 0);  // a call is under way
    // And it tells when it has reached the server itself, once.
    CHECK(b.sink.reached == 0);
    b.transport.status(200);
    CHECK(b.sink.reached == 1);
    b.transport.bytes(bookmark(10, true));
    CHECK(b.sink.reached == 1);
  }
  SUBCASE("an error of the server") {
    b.transport.answer(500, "");
    CHECK(calls_after_hurry() == 1);
  }
  SUBCASE("the server has said when to come back") {
    b.transport.answer(503, "", seconds(20));
    CHECK(calls_after_hurry() == 0);
  }
  SUBCASE("what is absent or stopped is not concerned") {
    b.transport.answer(404, "404 page not found");
    CHECK(calls_after_hurry() == 0);
    b.reflector->stop();
    CHECK(calls_after_hurry() == 0);
  }
}

TEST_CASE("all namespaces: one path, and objects by namespace") {
  Bench b({}, {"/apis/llm-d.ai/v1alpha2", "inferenceobjectives", "", "", "status.x=1"});
  b.sync();
  CHECK(
      b.transport.path().starts_with("/apis/llm-d.ai/v1alpha2/inferenceobjectives?fieldSelector=status.x%3D1&watch=1"));
  CHECK(b.reflector->get_now("other ns", "n"));
  CHECK(b.transport.path().starts_with("/apis/llm-d.ai/v1alpha2/namespaces/other%20ns/inferenceobjectives?"));
}

TEST_CASE("404: what is not installed stays so while the server is away or starts") {
  Bench b;
  const auto absent = [&] { return b.status().state == ReflectorState::absent; };
  b.reflector->start();
  b.transport.answer(404, "404 page not found");
  CHECK(absent());
  b.until_next_call();  // asked again, and not answered yet
  CHECK(absent());
  b.transport.done(Failure::connect);
  CHECK(absent());
  b.until_next_call();
  b.transport.answer(403, status_json(403, "Forbidden"));
  CHECK(absent());
  b.until_next_call();
  b.transport.status(200);
  b.transport.bytes(bookmark(10, true));
  CHECK(b.status().state == ReflectorState::watching);
  // There is none of the kind, but it is installed: that is not given up at once either.
  b.run(seconds(2));
  b.transport.done();
  for (int i = 0; i < 2; ++i) {
    b.transport.answer(404, "404 page not found");
    CHECK(!absent());
    b.until_next_call();
  }
  b.transport.answer(404, "404 page not found");
  CHECK(absent());
}

}  // namespace penstock::kube::test
