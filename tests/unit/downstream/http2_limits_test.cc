// What a client must not do over HTTP/2: limited, answered, counted.
#include <string>

#include "tests/unit/downstream/http2_scene.h"

namespace penstock::downstream {
namespace {

TEST_CASE("requests that are broken off have a limit, whoever resets them") {
  const std::string all("\x7f\xff\xff\xff", 4);
  for (const bool by_client : {true, false}) {
    CAPTURE(by_client);
    Http2Scene scene({.http2 = {.resets = 20}});
    Raw raw(scene);
    uint32_t stream = 1;
    for (; stream < 200 && goaway_of(raw.peer.received()) < 0; stream += 2) {
      raw.peer.send(get_frame(stream));
      // A window that grows too large is an error of the stream: the server must reset it.
      raw.peer.send(by_client ? http2_frame(kReset, 0, stream, std::string("\0\0\0\x8", 4))
                              : http2_frame(kWindow, 0, stream, all));
      scene.run(milliseconds(1));
    }
    CHECK(goaway_of(raw.peer.received()) == 11);
    CHECK(scene.service.limits == "http2_resets ");
    CHECK(scene.service.all.size() <= 22);
    for (const auto& request : scene.service.all) CHECK(request->gone == "reset");
    scene.run(seconds(6));
    CHECK(scene.server.connections() == 0);
  }
}

TEST_CASE("now and then a request may be broken off") {
  Http2Scene scene({.http2 = {.resets = 20}});
  Http2Client client(scene.network, scene.at);
  for (int i = 0; i < 100; ++i) {
    const int32_t id = client.get("/a");
    scene.run(milliseconds(300));
    client.reset(id);
    scene.run(milliseconds(300));
  }
  CHECK(client.goaways == 0);
  CHECK(scene.service.all.size() == 100);
}

TEST_CASE("frames that ask for nothing have a limit, and are forgiven beside those that work") {
  const std::string ping = http2_frame(kPing, 0, 0, "12345678");
  const std::string settings = http2_frame(kSettings, 0, 0, std::string("\0\x4\0\0\x10\0", 6));
  const std::string priority = http2_frame(kPriority, 0, 1, std::string("\0\0\0\0\x10", 5));
  const std::string window = http2_frame(kWindow, 0, 0, std::string("\0\0\0\1", 4));
  const std::string empty = http2_frame(kData, 0, 1, "");
  for (const std::string& frame : {ping, settings, priority, window, empty}) {
    CAPTURE(static_cast<int>(frame[3]));
    Http2Scene scene;
    Raw raw(scene);
    raw.peer.send(get_frame(1, kEndHeaders));
    for (int i = 0; i < 100 && goaway_of(raw.peer.received()) < 0; ++i) {
      for (int j = 0; j < 100; ++j) raw.peer.send(frame);
      scene.run(milliseconds(1));
    }
    CHECK(goaway_of(raw.peer.received()) == 11);
    CHECK(scene.service.limits == "http2_idle_frames ");
    CHECK(scene.request(0).gone == "reset");
  }
  Http2Scene scene({.http2 = {.idle_frames = 50}});
  Http2Client client(scene.network, scene.at);
  const int32_t id = client.get("/a");
  scene.run();
  CHECK(scene.request(0).begin(200) == Sent::ok);
  for (int i = 0; i < 1000; ++i) {
    CHECK(scene.request(0).client.send("event") == Sent::ok);
    client.ping();
    scene.run(milliseconds(1));
  }
  scene.run();
  CHECK(client.pings == 1000);
  CHECK(client.answers[id].body.size() == 5000);
  CHECK(client.goaways == 0);
  scene.request(0).finish();
}

TEST_CASE("acknowledgements that nobody reads have a limit") {
  Http2Scene scene({.http2 = {.idle_frames = 1'000'000}});
  Raw raw(scene);
  raw.peer.pause();
  const std::string ping = http2_frame(kPing, 0, 0, "12345678");
  std::string many;
  for (int i = 0; i < 1000; ++i) many += ping;
  for (int i = 0; i < 100 && scene.service.limits.empty(); ++i) {
    raw.peer.send(many);
    scene.run(milliseconds(10));
  }
  CHECK(scene.service.limits == "http2_idle_frames ");
  CHECK(scene.loop.pool().budget().taken() < 1024 * 1024);
}

TEST_CASE("a head over the limit is answered, and the connection goes on") {
  Http2Scene scene({.parser = {.head_bytes_max = 4096, .headers_max = 20, .uri_bytes_max = 1000}});
  Http2Client client(scene.network, scene.at);
  Http2Fields large = plain_get, many = plain_get, far = plain_get;
  large.emplace_back("x", std::string(5000, 'x'));
  for (int i = 0; i < 30; ++i) many.emplace_back("x" + std::to_string(i), "y");
  far[3].second = "/" + std::string(1000, 'p');
  const int32_t first = client.ask(large), second = client.ask(many), third = client.ask(far);
  Http2Fields head = large;
  head[0].second = "HEAD";
  const int32_t fourth = client.ask(head);
  const int32_t well = client.get("/now");
  scene.run();
  CHECK(client.answers[first].status == 431);
  CHECK(client.answers[first].body == "bad");
  CHECK(client.answers[second].status == 431);
  CHECK(client.answers[third].status == 414);
  CHECK(client.answers[fourth].status == 431);
  CHECK(client.answers[fourth].ended);
  CHECK(client.answers[well].status == 200);
  CHECK(scene.service.bad_heads == "431 431 414 431-head ");
  CHECK(client.goaways == 0);
}

TEST_CASE("a head that never ends, in frames or within one, is answered after its time") {
  for (const bool within : {false, true}) {
    CAPTURE(within);
    Http2Scene scene({.header_timeout = seconds(5)});
    Raw raw(scene);
    raw.peer.send(get_frame(1));
    raw.peer.send(within ? get_frame(3).substr(0, 20) : get_frame(3, kEndStream));
    scene.run(seconds(4));
    CHECK(scene.service.bad_heads.empty());
    scene.run(seconds(2));
    CHECK(scene.service.bad_heads == "408 ");
    CHECK(goaway_of(raw.peer.received()) == 0);
    CHECK(scene.server.connections() == 1);  // the other request is still answered
    scene.request(0).answer(200, "well");
    scene.run();
    CHECK(raw.peer.received().find("well") != std::string::npos);
    CHECK(raw.peer.eof());
  }
}

TEST_CASE("heads that are unfinished give way to others, oldest first, whatever the protocol") {
  Http2Scene scene({.unfinished_heads = 10'000});
  Raw first(scene), second(scene);
  Http2Fields some = plain_get;
  some.emplace_back("x", std::string(2000, 'x'));
  for (Raw* raw : {&first, &second}) {
    raw->peer.send(http2_frame(kHeaders, kEndStream, 1, http2_block(some)));
    scene.run();
  }
  SimPeer plain(scene.network);
  REQUIRE(plain.connect(scene.at));
  plain.send("GET / HTTP/1.1\r\nhost: a\r\nx: " + std::string(1000, 'x') + "\r\n");
  scene.run();
  CHECK(scene.service.bad_heads == "503 ");
  CHECK(scene.service.limits == "incomplete_heads ");
  CHECK(first.peer.eof());
  CHECK_FALSE(second.peer.eof());
  plain.close();
}

TEST_CASE("more CONTINUATION than any head needs ends the connection") {
  Http2Scene scene;
  Raw raw(scene);
  raw.peer.send(get_frame(1, kEndStream));
  for (int i = 0; i < 100 && goaway_of(raw.peer.received()) < 0 && !raw.peer.eof(); ++i) {
    raw.peer.send(http2_frame(kContinuation, 0, 1, http2_block({{"a", "b"}})));
    scene.run(milliseconds(1));
  }
  scene.run();
  CHECK(goaway_of(raw.peer.received()) == 11);
  CHECK(scene.service.all.empty());
}

TEST_CASE("heads that break the rules are reset and counted as bad heads") {
  const auto with = [](std::string name, std::string value) {
    Http2Fields fields = plain_get;
    fields.emplace_back(std::move(name), std::move(value));
    return fields;
  };
  const Http2Fields no_path = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}};
  const Http2Fields late = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {"x", "y"}, {":path", "/"}};
  size_t index = 0;
  for (const Http2Fields& fields :
       {with("Upper", "x"), with("connection", "close"), with("transfer-encoding", "chunked"), with("te", "gzip"),
        with(":path", "/b"), with(":other", "x"), no_path, late, with("content-length", "5"),
        with("x", std::string("a\0b", 3))}) {
    CAPTURE(index++);
    Http2Scene scene;
    Raw raw(scene);
    raw.peer.send(http2_frame(kHeaders, kEndStream | kEndHeaders, 1, http2_block(fields)));
    scene.run();
    CHECK(scene.service.all.empty());
    CHECK(scene.service.bad_heads == "400 ");
    CHECK(raw.peer.received().find(http2_frame(kReset, 0, 1, std::string("\0\0\0\1", 4))) != std::string::npos);
    CHECK(goaway_of(raw.peer.received()) < 0);
    raw.peer.send(get_frame(3));
    scene.run();
    CHECK(scene.service.all.size() == 1);
  }
}

TEST_CASE("heads that HTTP/1.1 would refuse are answered so") {
  const std::vector<std::pair<Http2Fields, std::string>> cases = {
      {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}, {"host", "b"}}, "400 "},
      {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a,b"}, {":path", "/"}}, "400 "},
      {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/#x"}}, "400 "},
      {{{":method", "BREW"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}, "501 "}};
  for (const auto& [fields, answer] : cases) {
    CAPTURE(fields[0].second + fields[2].second + fields[3].second);
    Http2Scene scene;
    Http2Client client(scene.network, scene.at);
    const int32_t id = client.ask(fields);
    scene.run();
    CHECK(scene.service.bad_heads == answer);
    CHECK(std::to_string(client.answers[id].status) + ' ' == answer);
  }
  Http2Scene scene;
  Http2Client client(scene.network, scene.at);
  client.ask({{":method", "GET"},
              {":scheme", "http"},
              {":authority", "A"},
              {":path", "/"},
              {"host", "a"},
              {"te", "trailers"}});
  client.ask({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"host", "a"}});
  scene.run();
  CHECK(scene.service.all.size() == 2);
  for (auto& request : scene.service.all) request->answer(200, "");
}

TEST_CASE("more streams than allowed are refused, and counted") {
  Http2Scene scene({.http2 = {.streams = 5}});
  Raw raw(scene);  // which acknowledges no settings: it may not know of the limit yet
  for (uint32_t stream = 1; stream < 17; stream += 2) raw.peer.send(get_frame(stream));
  scene.run();
  CHECK(scene.service.all.size() == 5);
  CHECK(scene.service.limits == "http2_streams http2_streams http2_streams ");
  CHECK(raw.peer.received().find(http2_frame(kReset, 0, 15, std::string("\0\0\0\7", 4))) != std::string::npos);
  CHECK(goaway_of(raw.peer.received()) < 0);
}

TEST_CASE("a body that stops, or is too slow, is answered; other streams go on") {
  Http2Scene scene({.body_timeout = seconds(5), .min_rate = 256, .rate_grace = seconds(20)});
  Http2Client client(scene.network, scene.at);
  const int32_t other = client.get("/other");
  const int32_t stops = client.post("/stops", "x", /*ends=*/false);
  const int32_t slow = client.post("/slow", "x", /*ends=*/false);
  for (int i = 0; i < 25; ++i) {
    client.send_body(slow, "x", false);
    scene.run(seconds(1));
    if (i == 3) CHECK(client.answers[stops].status == 0);
    if (i == 6) CHECK(client.answers[stops].status == 408);
    if (i == 18) CHECK(client.answers[slow].status == 0);
  }
  CHECK(client.answers[slow].status == 408);
  CHECK(scene.service.limits == "client_min_rate ");
  scene.request(0).answer(200, "well");
  scene.run();
  CHECK(client.answers[other].body == "well");
}

TEST_CASE("a stream whose window stays shut is given up after its time, the connection is not") {
  Http2Scene scene({.write_timeout = seconds(5)});
  Http2Client client(scene.network, scene.at, {.updates = false});
  const int32_t first = client.get("/a"), second = client.get("/b");
  scene.run();
  for (const size_t i : {0, 1}) CHECK(scene.request(i).begin(200) == Sent::ok);
  static_cast<void>(scene.request(0).client.send(std::string(100'000, 'x')));
  scene.run(seconds(4));
  CHECK(scene.request(0).gone.empty());
  scene.run(seconds(3));  // the first look at it still saw progress
  CHECK(scene.request(0).gone == "write-timeout");
  CHECK(scene.request(0).unsent == 100'000 - 65535);
  CHECK(client.answers[first].error == 8);
  CHECK(scene.request(1).gone.empty());
  client.open_windows(65535);
  CHECK(scene.request(1).client.send("well") == Sent::ok);
  scene.request(1).finish();
  scene.run();
  CHECK(client.answers[second].body == "well");
}

TEST_CASE("a stream that is read too slowly is given up, and one whose answer is slow is not") {
  Http2Scene scene({.write_timeout = seconds(3600), .min_rate = 256, .rate_grace = seconds(20)});
  Http2Client client(scene.network, scene.at, {.window = 1000, .updates = false});
  client.get("/a");
  client.get("/b");
  scene.run();
  for (const size_t i : {0, 1}) CHECK(scene.request(i).begin(200) == Sent::ok);
  static_cast<void>(scene.request(0).client.send(std::string(100'000, 'x')));
  for (int i = 0; i < 200; ++i) {
    client.open_windows(1);
    CHECK(scene.request(1).client.send("x") == Sent::ok);
    scene.run(seconds(1));
  }
  CHECK(scene.request(0).gone == "too-slow");
  CHECK(scene.service.limits == "client_min_rate ");
  CHECK(scene.request(1).gone.empty());
  scene.request(1).finish();
  scene.run();
}

TEST_CASE("a socket that takes nothing is given up after the write timeout, with all its streams") {
  Http2Scene scene({.write_timeout = seconds(5)});
  Http2Client client(scene.network, scene.at, {.window = 1u << 30});
  client.open_windows(1u << 30);
  client.get("/a");
  client.get("/b");
  scene.run();
  for (const size_t i : {0, 1}) CHECK(scene.request(i).begin(200) == Sent::ok);
  scene.run();
  client.peer.pause();
  for (int i = 0; i < 100; ++i) {
    if (scene.request(0).client.send(std::string(10'000, 's')) == Sent::congested) break;
    scene.run(milliseconds(1));
  }
  scene.run(seconds(4));
  CHECK(scene.request(0).gone.empty());
  scene.run(seconds(3));
  for (const size_t i : {0, 1}) CHECK(scene.request(i).gone == "write-timeout");
  CHECK(scene.server.connections() == 0);
}

TEST_CASE("trailers over the limit fail the request, others are left out") {
  Http2Scene scene({.parser = {.head_bytes_max = 4096}});
  Raw raw(scene);
  for (const uint32_t stream : {1, 3}) {
    raw.peer.send(get_frame(stream, kEndHeaders));
    raw.peer.send(http2_frame(kHeaders, kEndStream | kEndHeaders, stream,
                              http2_block({{"x", std::string(stream == 1 ? 10 : 5000, 't')}})));
  }
  scene.run();
  CHECK(scene.request(0).complete);
  CHECK(scene.request(1).failed == "too-large");
}

TEST_CASE("a client that breaks the rules of the connection is told so, and its requests are gone") {
  Http2Scene scene;
  Raw raw(scene);
  raw.peer.send(get_frame(1));
  scene.run();
  raw.peer.send(http2_frame(kData, 0, 0, "data of no stream"));
  scene.run();
  CHECK(goaway_of(raw.peer.received()) == 1);
  CHECK(scene.request(0).gone == "reset");
  CHECK(raw.peer.eof());
  scene.run(seconds(6));
  CHECK(scene.server.connections() == 0);
}

// A client that reads nothing, whose socket is full, and which asks for `streams` answers with heads of 8 KB each.
struct WaitingHeads {
  WaitingHeads(Http2Scene& scene, uint32_t streams) : raw(scene), first(scene.service.all.size()) {
    raw.peer.pause();
    for (uint32_t i = 0; i <= streams; ++i) raw.peer.send(get_frame(2 * i + 1));
    scene.run();
    before = scene.loop.pool().budget().used();
    REQUIRE(scene.request(first).begin(200) == Sent::ok);
    static_cast<void>(scene.request(first).client.send(std::string(60'000, 'x')));
    scene.run();
    http::Fields fields;
    fields.add("x-long", std::string(8000, 'y'));
    for (size_t i = first + 1; i <= first + streams && !scene.request(i).over; ++i) {
      static_cast<void>(scene.request(i).client.begin({.status = 200, .fields = fields, .form = BodyForm::none}, ""));
    }
  }
  Raw raw;
  size_t first, before;
};

TEST_CASE("heads of answers that wait for the client count in the memory budget, until they have gone") {
  Http2Scene scene;
  scene.network.faults().socket_buffer_min = scene.network.faults().socket_buffer_max = 10'000;
  WaitingHeads waiting(scene, 60);
  const MemoryBudget& budget = scene.loop.pool().budget();
  CHECK(budget.used() > waiting.before + 60 * 8000);
  for (uint32_t i = 1; i <= 60; ++i) scene.request(i).finish();
  waiting.raw.peer.resume();
  scene.run(seconds(10));
  CHECK(waiting.raw.peer.received().size() > 60 * 2000);
  CHECK(budget.used() < waiting.before + 100'000);
  CHECK(scene.service.limits.empty());
  scene.request(0).abort();
}

TEST_CASE("where the memory budget has no room for a session's frames its connection ends, and no other") {
  Http2Scene scene({}, 600'000);
  Http2Client other(scene.network, scene.at);
  scene.network.faults().socket_buffer_min = scene.network.faults().socket_buffer_max = 10'000;
  const int32_t id = other.get("/other");
  scene.run();
  WaitingHeads waiting(scene, 60);
  scene.run();
  CHECK(scene.service.limits == "memory ");
  CHECK(scene.server.connections() == 1);
  for (size_t i = 1; i < scene.service.all.size(); ++i) CHECK(scene.request(i).over);
  scene.request(0).answer(200, "well");
  scene.run();
  CHECK(other.answers[id].body == "well");
}

}  // namespace
}  // namespace penstock::downstream
