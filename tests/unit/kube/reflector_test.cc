// Each rule of list and watch, one by one.
#include "fake_transport.h"

namespace penstock::kube::test {
namespace {

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the first call streams the list, with selectors escaped") {
  Bench b;
  b.reflector->start();
  REQUIRE(b.transport.count() == 1);
  CHECK(b.transport.path().starts_with("/api/v1/namespaces/ns/pods?labelSelector=app%20in%20%28a%2C%20b%29&watch=1"));
  for (const char* part :
       {"allowWatchBookmarks=true", "sendInitialEvents=true", "resourceVersionMatch=NotOlderThan", "timeoutSeconds="}) {
    CHECK(has(b.transport.path(), part));
  }
  CHECK(!has(b.transport.path(), "resourceVersion="));
  CHECK(b.status().state == ReflectorState::streaming);
  b.transport.status(200);
  b.transport.bytes(event_line("ADDED", object_json("b", "u2", 7)) + event_line("ADDED", object_json("a", "u1", 3)));
  CHECK(b.sink.synced == 0);
  CHECK(!b.status().synced);
  b.transport.bytes(bookmark(9, true));
  CHECK(b.sink.log == "+b(u2) +a(u1) synced ");
  CHECK(b.status().state == ReflectorState::watching);
  CHECK(b.status().synced);
  CHECK(b.status().objects == 2);
  // The same call goes on as the watch.
  b.transport.bytes(event_line("DELETED", object_json("a", "u1", 11)));
  CHECK(b.sink.held.size() == 1);
  // Resumes from the last version, of whatever event.
  b.transport.bytes(bookmark(20));
  b.run(seconds(5));
  b.transport.done();
  REQUIRE(b.transport.count() == 2);
  CHECK(has(b.transport.path(), "&resourceVersion=20"));
  CHECK(!has(b.transport.path(), "sendInitialEvents"));
  CHECK(b.restarts(Restart::timeout) == 1);
}

TEST_CASE("a server without streamed lists is asked for pages, a cached list first") {
  Bench b;
  refuse_stream(b);
  REQUIRE(b.transport.count() == 2);
  CHECK(has(b.transport.path(), "limit=500&resourceVersion=0"));
  CHECK(!has(b.transport.path(), "watch"));
  b.transport.answer(200, list_json(50, {object_json("a", "u1", 3)}, "next page"));
  CHECK(has(b.transport.path(), "limit=500&continue=next%20page"));
  CHECK(!has(b.transport.path(), "resourceVersion"));
  b.transport.answer(200, list_json(50, {object_json("b", "u2", 4)}));
  CHECK(b.sink.log == "+a(u1) +b(u2) synced ");
  CHECK(has(b.transport.path(), "watch=1"));
  CHECK(has(b.transport.path(), "resourceVersion=50"));  // the list's, not that of an item
  CHECK(b.restarts(Restart::no_watch_list) == 1);
}

TEST_CASE("a server that refuses a streamed list inside the stream is asked for pages at once") {
  Bench b;
  b.reflector->start();
  b.transport.status(200);
  b.transport.bytes(event_line("ERROR", status_json(500, "InternalError")));
  REQUIRE(b.transport.count() == 2);
  CHECK(b.transport.calls[0].cancelled);
  CHECK(has(b.transport.path(), "limit=500&resourceVersion=0"));
  CHECK(b.restarts(Restart::no_watch_list) == 1);
  b.transport.answer(200, list_json(50, {object_json("a", "u1", 3)}));
  CHECK(b.sink.log == "+a(u1) synced ");
  CHECK(has(b.transport.path(), "watch=1"));
  // In a plain watch the same is a failure of the server, and waited out.
  b.transport.status(200);
  b.transport.bytes(event_line("ERROR", status_json(500, "InternalError")));
  CHECK(b.transport.count() == 3);
  CHECK(b.restarts(Restart::server_error) == 1);
  CHECK(b.until_next_call() >= milliseconds(800));
}

TEST_CASE("a stream that is refused with a pause is streamed again after it") {
  Bench b;
  b.reflector->start();
  b.transport.status(200);
  b.transport.bytes(event_line("ERROR", status_json(429, "TooManyRequests", R"({"retryAfterSeconds":2})")));
  CHECK(b.until_next_call() >= seconds(2));
  CHECK(has(b.transport.path(), "sendInitialEvents=true"));
}

TEST_CASE("a stream that never tells its end falls back to a list") {
  Bench b;
  b.reflector->start();
  b.run(seconds(3));
  b.transport.status(200);
  b.transport.bytes(event_line("ADDED", object_json("a", "u1", 5)));
  const Duration waited = b.until_next_call();
  CHECK(waited >= seconds(10));
  CHECK(waited < seconds(11));
  CHECK(b.transport.calls[0].cancelled);
  CHECK(has(b.transport.path(), "resourceVersion=0"));
  b.transport.answer(200, list_json(9, {object_json("b", "u2", 5)}));
  CHECK(b.sink.log == "+a(u1) +b(u2) -a(u1) synced ");
  SUBCASE("also when events keep coming") {
    Bench busy;
    busy.reflector->start();
    busy.transport.status(200);
    for (int i = 0; i < 200 && busy.transport.count() == 1; ++i) {
      busy.transport.bytes(event_line("MODIFIED", object_json("a", "u1", 100 + i)));
      busy.run(seconds(1));
    }
    CHECK(busy.transport.count() == 2);
    CHECK(has(busy.transport.path(), "resourceVersion=0"));
  }
}

TEST_CASE("an empty list may be null or absent") {
  for (const char* items : {R"("items":null)", R"("items":[])", R"("kind":"PodList")"}) {
    Bench b;
    refuse_stream(b);
    b.transport.answer(200, std::string(R"({"metadata":{"resourceVersion":"5"},)") + items + "}");
    CHECK(b.sink.log == "synced ");
    CHECK(has(b.transport.path(), "resourceVersion=5"));
  }
}

TEST_CASE("a relist is applied as a difference, new incarnations included") {
  Bench b;
  b.sync();
  b.transport.bytes(event_line("ADDED", object_json("b", "u2", 11)) + event_line("ADDED", object_json("c", "u3", 12)));
  b.sink.take_log();
  b.transport.bytes(event_line("ERROR", status_json(410, "Expired")));
  REQUIRE(b.transport.count() == 2);  // at once
  CHECK(has(b.transport.path(), "sendInitialEvents"));
  b.transport.status(200);
  b.transport.bytes(event_line("ADDED", object_json("b", "u2", 11)) + event_line("ADDED", object_json("c", "u9", 30)));
  CHECK(b.sink.take_log() == "+b(u2) -c(u3) +c(u9) ");
  b.transport.bytes(bookmark(31, true));
  CHECK(b.sink.take_log() == "-a(u1) synced ");
  CHECK(b.relists(Relist::expired) == 1);
  CHECK(b.restarts(Restart::expired) == 1);
}

TEST_CASE("410 as a status means the same, and the list asks for the latest state") {
  ReflectorLimits limits;
  Bench b(limits);
  refuse_stream(b);
  b.transport.answer(200, list_json(50, {}));
  b.transport.answer(410, status_json(410, "Expired"));
  CHECK(has(b.transport.path(), "limit=500"));
  CHECK(!has(b.transport.path(), "resourceVersion"));
  b.transport.answer(200, list_json(60, {}));
  CHECK(has(b.transport.path(), "resourceVersion=60"));
  CHECK(b.sink.synced == 2);
}

TEST_CASE("a version that is expired again and again leads to back-off, not to a storm") {
  Bench b;
  refuse_stream(b);
  for (int i = 0; i < 200; ++i) {
    if (!b.transport.running()) break;
    if (has(b.transport.path(), "watch=1")) b.transport.answer(410, status_json(410, "Expired"));
    else b.transport.answer(200, list_json(50, {}));
  }
  CHECK(b.transport.count() < 12);
  CHECK(b.status().state == ReflectorState::waiting);
}

TEST_CASE("expired pages start the list again, and at last without pages") {
  Bench b;
  refuse_stream(b);
  b.transport.answer(200, list_json(50, {object_json("a", "u1", 1)}, "t1"));
  b.transport.answer(410, status_json(410, "Expired"));
  CHECK(has(b.transport.path(), "limit=500"));
  CHECK(!has(b.transport.path(), "resourceVersion"));
  b.transport.answer(200, list_json(51, {object_json("b", "u2", 1)}, "t2"));
  b.transport.answer(410, status_json(410, "Expired"));
  CHECK(!has(b.transport.path(), "limit"));
  b.transport.answer(200, list_json(52, {object_json("c", "u3", 1)}));
  CHECK(b.sink.log.starts_with("+a(u1) +b(u2) +c(u3) -"));
  CHECK(b.sink.log.ends_with(") synced "));
  CHECK(b.sink.held.size() == 1);
}

TEST_CASE("a later list asks for at least what was seen; too large a version means the latest") {
  Bench b;
  refuse_stream(b);
  b.transport.answer(200, list_json(50, {object_json("a", "u1", 1)}));
  b.transport.status(200);
  b.transport.bytes(bookmark(70));
  b.reflector->refresh();
  CHECK(has(b.transport.path(), "limit=500&resourceVersion=70&resourceVersionMatch=NotOlderThan"));
  CHECK(b.relists(Relist::asked) == 1);
  b.transport.answer(
      504, status_json(504, "Timeout",
                       R"({"causes":[{"reason":"ResourceVersionTooLarge","message":"x"}],"retryAfterSeconds":1})"));
  CHECK(!has(b.transport.path(), "resourceVersion"));
  b.transport.answer(200, list_json(20, {object_json("a", "u1", 1)}));  // restored from a backup
  CHECK(has(b.transport.path(), "resourceVersion=20"));
  CHECK(b.restarts(Restart::too_large) == 1);
  SUBCASE("a 504 of another kind is a server error") {
    b.transport.answer(504, "gateway timeout");
    CHECK(b.restarts(Restart::server_error) == 1);
    CHECK(b.status().state == ReflectorState::waiting);
    b.until_next_call();
    CHECK(has(b.transport.path(), "resourceVersion=20"));
  }
}

TEST_CASE("429 keeps the version and obeys Retry-After") {
  Bench b;
  b.sync();
  b.run(seconds(2));
  b.transport.done();
  Duration waited;
  SUBCASE("of the head") {
    b.transport.answer(429, "slow down", seconds(7));
    waited = b.until_next_call();
    CHECK(waited >= seconds(7));
    CHECK(waited < milliseconds(7200));
  }
  SUBCASE("of the body") {
    b.transport.answer(429, status_json(429, "TooManyRequests", R"({"retryAfterSeconds":3})"));
    waited = b.until_next_call();
    CHECK(waited >= seconds(3));
    CHECK(waited < milliseconds(3200));
  }
  SUBCASE("but not for hours") {
    b.transport.answer(429, "slow down", seconds(9999));
    waited = b.until_next_call();
    CHECK(waited < seconds(61));
  }
  SUBCASE("or backs off without one") {
    b.transport.answer(429, "slow down");
    waited = b.until_next_call();
    CHECK(waited >= milliseconds(800));
    CHECK(waited < milliseconds(1700));
  }
  CHECK(has(b.transport.path(), "resourceVersion=10"));
  CHECK(b.restarts(Restart::overloaded) == 1);
  CHECK(b.sink.held.size() == 1);
}

TEST_CASE("401: credentials again and a try at once, then back-off") {
  Bench b;
  b.reflector->start();
  b.transport.answer(401, status_json(401, "Unauthorized"));
  CHECK(b.transport.refreshes == 1);
  REQUIRE(b.transport.count() == 2);
  b.transport.answer(401, status_json(401, "Unauthorized"));
  CHECK(b.transport.refreshes == 2);
  CHECK(b.transport.count() == 2);
  CHECK(b.status().last_error.find("unauthorized") != std::string::npos);
  CHECK(b.until_next_call() >= milliseconds(800));
  b.transport.status(200);
  CHECK(b.status().last_error.empty());
}

TEST_CASE("403 is surfaced and tried again, soon at first and slowly then, with what is known kept") {
  Bench b;
  b.sync();
  b.run(seconds(2));
  b.transport.done();
  for (int i = 0; i < 7; ++i) {
    b.transport.answer(403, status_json(403, "Forbidden"));
    CHECK(b.status().state == ReflectorState::forbidden);
    const Duration waited = b.until_next_call();
    CHECK(waited >= (i < 4 ? milliseconds(800) * (1 << i) : milliseconds(30'000)));
    CHECK(waited <= (i < 4 ? milliseconds(1650) * (1 << i) : milliseconds(61'000)));
  }
  CHECK(b.sink.held.size() == 1);
  CHECK(b.restarts(Restart::forbidden) == 7);
  b.transport.status(200);
  CHECK(b.status().state == ReflectorState::watching);
}

TEST_CASE("404: a resource that is not installed is empty, and looked for again") {
  Bench b;
  b.reflector->start();
  b.transport.answer(404, "404 page not found");
  CHECK(b.sink.log == "synced ");
  CHECK(b.status().state == ReflectorState::absent);
  CHECK(b.status().synced);
  for (int i = 0; i < 3; ++i) {
    const Duration waited = b.until_next_call();
    CHECK(waited >= seconds(30));
    CHECK(waited <= seconds(46));
    b.transport.answer(404, "404 page not found");
  }
  CHECK(b.sink.synced == 1);
  b.until_next_call();
  b.transport.status(200);
  b.transport.bytes(event_line("ADDED", object_json("a", "u1", 5)) + bookmark(10, true));
  CHECK(b.sink.held.size() == 1);
  CHECK(b.sink.synced == 2);
}

TEST_CASE("404 after objects were there: believed only when it stays") {
  Bench b;
  b.sync();
  b.run(seconds(2));
  b.transport.done();
  b.transport.answer(404, "404 page not found");
  CHECK(b.sink.held.size() == 1);
  b.until_next_call();
  b.transport.answer(404, "404 page not found");
  CHECK(b.sink.held.size() == 1);
  b.until_next_call();
  b.transport.answer(404, "404 page not found");
  CHECK(b.sink.held.empty());
  CHECK(b.sink.log == "-a(u1) synced ");
}

TEST_CASE("a watch that ends at once backs off, one that ends as agreed does not") {
  ReflectorLimits limits;
  limits.relist_min = limits.relist_max = seconds(100'000);
  Bench b(limits);
  b.sync();
  b.run(seconds(125));
  b.transport.bytes(bookmark(10));
  b.run(seconds(120));
  b.transport.done();
  CHECK(b.transport.count() == 2);
  Duration last{0};
  for (int i = 0; i < 8; ++i) {
    b.transport.status(200);
    b.transport.done();
    CHECK(b.status().state == ReflectorState::waiting);
    last = b.until_next_call();
    CHECK(last <= seconds(61));
  }
  CHECK(last >= seconds(30));  // 0.8 s, doubled up to 30 s, and jitter
  CHECK(b.restarts(Restart::too_short) == 8);
  CHECK(has(b.transport.path(), "resourceVersion=10"));
  SUBCASE("and after two healthy minutes the pauses start over") {
    b.transport.status(200);
    for (int i = 0; i < 3; ++i) {
      b.run(seconds(60));
      b.transport.bytes(bookmark(11 + i));
    }
    b.transport.done(Failure::connect);
    CHECK(b.until_next_call() <= milliseconds(1700));
  }
}

TEST_CASE("a healthy watch that is cut comes back at once, a refused connection backs off") {
  Bench b;
  b.sync();
  b.run(seconds(20));
  b.transport.bytes(R"({"type":"MODIFIED","object":{"metadata":{"na)");
  b.transport.done(Failure::cut);
  CHECK(b.until_next_call() <= milliseconds(110));
  CHECK(has(b.transport.path(), "resourceVersion=10"));
  b.transport.done(Failure::connect);
  const Duration first = b.until_next_call();
  CHECK(first >= milliseconds(800));
  b.transport.done(Failure::connect);
  CHECK(b.until_next_call() >= milliseconds(1600));
  CHECK(b.restarts(Restart::connect) == 2);
  CHECK(b.sink.held.size() == 1);
}

TEST_CASE("an answer that ends inside an event was cut") {
  Bench b;
  b.sync();
  b.run(seconds(5));
  b.transport.bytes(R"({"type":"MODIFIED")");
  b.transport.done();
  CHECK(b.restarts(Restart::cut) == 1);
  b.until_next_call();
  CHECK(has(b.transport.path(), "resourceVersion=10"));
}

TEST_CASE("silence ends a watch after 150 s, and a fresh connection is taken") {
  Bench b;
  b.sync();
  b.run(seconds(100));
  b.transport.bytes(bookmark(12));
  b.run(seconds(149));
  CHECK(b.transport.count() == 1);
  CHECK(b.status().seconds_since_byte == doctest::Approx(149).epsilon(0.01));
  const Duration waited = b.until_next_call();
  CHECK(waited < seconds(4));
  CHECK(b.transport.calls[0].cancelled);
  CHECK(b.transport.last().fresh_connection);
  CHECK(has(b.transport.path(), "resourceVersion=12"));
  CHECK(b.restarts(Restart::stalled) == 1);
}

TEST_CASE("a watch that the server does not end is ended by us") {
  Bench b;
  b.sync();
  for (int i = 0; i < 40 && b.transport.count() == 1; ++i) {
    b.run(seconds(10));
    if (b.transport.count() == 1) b.transport.bytes(bookmark(20 + i));
  }
  CHECK(b.transport.count() == 2);
  CHECK(b.restarts(Restart::overrun) == 1);
  CHECK(to_seconds(b.network.now().time_since_epoch()) >= 270);
}

TEST_CASE("an answer that does not begin is given up after a minute, also that of a watch") {
  Bench b;
  b.reflector->start();
  CHECK(b.until_next_call() >= seconds(60));
  CHECK(b.restarts(Restart::stalled) == 1);
  CHECK(has(b.transport.path(), "sendInitialEvents"));  // the server may well know it
  b.transport.status(200);
  b.transport.bytes(bookmark(10, true));
  b.run(seconds(2));
  b.transport.done();
  CHECK(b.until_next_call() < seconds(62));
  CHECK(has(b.transport.path(), "resourceVersion=10"));
}

TEST_CASE("a list that stalls is asked for again") {
  Bench b;
  refuse_stream(b);
  b.transport.status(200);
  b.transport.bytes(R"({"metadata":{)");
  const Duration waited = b.until_next_call();
  CHECK(waited >= seconds(60));
  CHECK(waited < seconds(63));
  CHECK(b.restarts(Restart::stalled) == 1);
}

TEST_CASE("everything is listed again every ten minutes or so, and a failure leads back to the watch") {
  Bench b;
  b.sync();
  const auto live = [&] {  // for at most fifteen minutes
    const uint64_t before = b.relists(Relist::safety);
    for (int i = 0; i < 900 && b.relists(Relist::safety) == before; i += 10) {
      b.run(seconds(10));
      if (b.transport.calls.back().events == nullptr) continue;
      if (has(b.transport.path(), "sendInitialEvents") && b.relists(Relist::safety) > before) break;
      b.transport.bytes(bookmark(1000 + i));
    }
    return b.relists(Relist::safety) > before;
  };
  const Instant start = b.network.now();
  REQUIRE(live());
  CHECK(b.network.now() - start >= seconds(480));
  CHECK(b.network.now() - start <= seconds(730));
  CHECK(has(b.transport.path(), "sendInitialEvents"));
  b.transport.done(Failure::connect);
  b.until_next_call();
  CHECK(!has(b.transport.path(), "sendInitialEvents"));
  CHECK(has(b.transport.path(), "resourceVersion=1"));
  b.transport.status(200);
  CHECK(live());
}

TEST_CASE("a server that was away is asked for everything within a minute of its return") {
  Bench b;
  b.sync();
  b.run(seconds(20));
  b.transport.done(Failure::cut);
  b.until_next_call();
  b.transport.done(Failure::connect);
  b.until_next_call();
  CHECK(has(b.transport.path(), "resourceVersion=10"));
  b.transport.status(200);
  const Duration waited = b.until_next_call();
  CHECK(waited >= seconds(30));
  CHECK(waited <= seconds(61));
  CHECK(b.relists(Relist::safety) == 1);
  b.transport.status(200);
  b.transport.bytes(bookmark(3, true));  // its versions are those of the past
  CHECK(b.sink.log == "-a(u1) synced ");
  b.run(seconds(2));
  b.transport.done();
  CHECK(has(b.transport.path(), "resourceVersion=3"));
}

TEST_CASE("lines are whole however the bytes are cut") {
  std::string stream;
  for (int i = 0; i < 40; ++i) {
    stream += event_line("ADDED",
                         object_json("p" + std::to_string(i), "u" + std::to_string(i), 20 + i,
                                     R"(,"spec":{"text":")" + std::string(static_cast<size_t>(i) * 97, 'x') + "\"}"));
  }
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{100}, size_t{4096}, stream.size()}) {
    Bench b;
    b.sync();
    for (size_t at = 0; at < stream.size(); at += piece) b.transport.bytes(std::string_view(stream).substr(at, piece));
    CHECK(b.sink.held.size() == 41);
    CHECK(b.sink.held["ns/p39"].json.size() > 3700);
    CHECK(b.status().undecodable == 0);
  }
}

TEST_CASE("an event that cannot be decoded is skipped and counted, its version remembered") {
  Bench b;
  b.sync();
  b.transport.bytes(event_line("ADDED", R"({"metadata":{"resourceVersion":"31"}})") +
                    event_line("STRANGE", object_json("x", "u5", 32)) + "\n\r\n" +
                    event_line("ADDED", object_json("b", "u2", 33)));
  CHECK(b.status().undecodable == 2);
  CHECK(b.sink.held.size() == 2);
  CHECK(b.transport.count() == 1);
  b.transport.bytes(event_line("ADDED", R"({"metadata":{"resourceVersion":"40"}})"));
  b.run(seconds(2));
  b.transport.done();
  CHECK(has(b.transport.path(), "resourceVersion=40"));
}

TEST_CASE("a garbled line restarts the watch from the last version, and at last lists everything") {
  Bench b;
  b.sync();
  for (int i = 0; i < 3; ++i) {
    CHECK(!(i > 0 && has(b.transport.path(), "sendInitialEvents")));
    if (i > 0) b.transport.status(200);
    b.transport.bytes(i == 1 ? "{\"type\":\"ADDED\"}\n" : "{]garbage\n");
    CHECK(!b.transport.running());
    b.until_next_call();
  }
  CHECK(b.status().undecodable == 3);
  CHECK(b.restarts(Restart::framing) == 3);
  CHECK(has(b.transport.path(), "sendInitialEvents"));
  CHECK(b.relists(Relist::framing) == 1);
}

TEST_CASE("a line without end is not gathered for ever") {
  ReflectorLimits limits;
  limits.event_bytes_max = 100'000;
  Bench b(limits);
  b.sync();
  for (int i = 0; i < 20 && b.transport.running(); ++i) b.transport.bytes(std::string(10'000, 'x'));
  CHECK(!b.transport.running());
  CHECK(b.restarts(Restart::framing) == 1);
}

TEST_CASE("an item without a name is skipped, a broken list is not believed") {
  Bench b;
  refuse_stream(b);
  SUBCASE("item") {
    b.transport.answer(200, list_json(9, {R"({"metadata":{}})", object_json("a", "u1", 1)}));
    CHECK(b.sink.log == "+a(u1) synced ");
    CHECK(b.status().undecodable == 1);
  }
  SUBCASE("cut") {
    const std::string whole = list_json(9, {object_json("a", "u1", 1), object_json("b", "u2", 1)});
    b.transport.answer(200, whole.substr(0, whole.size() - 20));
    CHECK(b.sink.synced == 0);
    CHECK(b.restarts(Restart::framing) == 1);
  }
  SUBCASE("another thing") {
    b.transport.answer(200, status_json(200, "ok"));
    CHECK(b.sink.synced == 0);
  }
  SUBCASE("without a version") {
    b.transport.answer(200, R"({"metadata":{},"items":[]})");
    CHECK(b.sink.synced == 0);
  }
}

TEST_CASE("a deletion of another incarnation than ours is not ours") {
  Bench b;
  b.sync();
  b.transport.bytes(event_line("DELETED", object_json("a", "other", 11)));
  CHECK(b.sink.held.size() == 1);
  b.transport.bytes(event_line("DELETED", object_json("nobody", "u7", 12)));
  b.transport.bytes(event_line("ADDED", object_json("a", "u8", 13)));
  CHECK(b.sink.log == "-a(u1) +a(u8) ");
}

TEST_CASE("after a watch that ended too early the full list comes again soon, but not each time") {
  for (const bool in_good_order : {false, true}) {
    CAPTURE(in_good_order);
    Bench b;
    b.sync();
    const uint64_t before = b.reflector->status().relists[static_cast<size_t>(Relist::safety)];
    for (int i = 0; i < 3; ++i) {
      b.run(seconds(20));
      b.transport.bytes(R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"11"}}})"
                        "\n");
      b.transport.done(in_good_order ? Failure::none : Failure::cut);
      b.until_next_call();
      b.transport.status(200);
    }
    b.run(seconds(40));
    CHECK(b.reflector->status().relists[static_cast<size_t>(Relist::safety)] == before + 1);
  }
}

}  // namespace penstock::kube::test
