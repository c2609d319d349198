#include <string>

#include "tests/unit/downstream/http2_scene.h"

namespace penstock::downstream {
namespace {

TEST_CASE("both protocols are spoken on one port, however the preface is cut") {
  Http2Scene scene;
  SimPeer plain(scene.network);
  REQUIRE(plain.connect(scene.at));
  plain.send("GET /now HTTP/1.1\r\nhost: a\r\n\r\n");
  Http2Client client(scene.network, scene.at);
  const int32_t id = client.get("/now");
  SimPeer slow(scene.network);
  REQUIRE(slow.connect(scene.at));
  for (const char c : http2_preface) {
    slow.send({&c, 1});
    scene.run(milliseconds(1));
  }
  scene.run();
  CHECK(plain.received().starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(client.answers[id].status == 200);
  CHECK(client.answers[id].body == "at once");
  CHECK(client.answers[id].ended);
  CHECK(slow.received().find(http2_frame(4, 1, 0, "")) != std::string::npos);  // its SETTINGS are acknowledged
  CHECK(scene.server.connections() == 3);
  plain.close();
}

TEST_CASE("where HTTP/2 is off, and behind an empty line or another request, its preface is none") {
  for (const std::string before : {"\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"}) {
    Http2Scene scene;
    SimPeer peer(scene.network);
    REQUIRE(peer.connect(scene.at));
    peer.send(before + http2_preface);
    scene.run();
    if (before.size() > 2) scene.request(0).answer(200, "");
    scene.run();
    CHECK(scene.service.bad_heads == "400 ");
    peer.close();
  }
  Http2Scene scene;
  ServerOptions options = scene.server.options();
  options.http2.enabled = false;
  scene.server.set_options(options);
  SimPeer peer(scene.network);
  REQUIRE(peer.connect(scene.at));
  peer.send(http2_preface);
  scene.run();
  CHECK(scene.service.bad_heads == "400 ");
  peer.close();
}

TEST_CASE("a preface that ends otherwise ends the connection") {
  Http2Scene scene;
  SimPeer peer(scene.network);
  REQUIRE(peer.connect(scene.at));
  peer.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
  scene.run();
  CHECK(peer.eof());
  peer.close();
}

TEST_CASE("a request is read as one of HTTP/1.1, and its answer has fields that HTTP/2 allows") {
  Http2Scene scene;
  Http2Client client(scene.network, scene.at);
  CHECK(client.settings.empty());
  const int32_t id = client.ask({{":method", "POST"},
                                 {":scheme", "http"},
                                 {":authority", "a:80"},
                                 {":path", "/v1/x?y"},
                                 {"cookie", "a=1"},
                                 {"x", "y"},
                                 {"cookie", "b=2"}},
                                false);
  client.send_body(id, "hello", true);
  scene.run();
  CHECK(client.settings[3] == 128);
  CHECK(client.settings[4] == 1024 * 1024);
  CHECK(client.settings[6] == 64 * 1024);
  Request& request = scene.request(0);
  CHECK(request.head == "POST /v1/x?y chunked host=a:80 x=y cookie=a=1; b=2");
  CHECK(request.body == "hello");
  CHECK(request.complete);
  CHECK(request.client.protocol() == Protocol::http_2);
  http::Fields fields;
  fields.add_lines("Content-Type: text/plain\r\nconnection: close\r\nTransfer-Encoding: chunked\r\nkeep-alive: 5\r\n");
  CHECK(request.client.begin({.status = 201, .fields = fields, .form = BodyForm::open}, "one ") == Sent::ok);
  CHECK(request.client.send("two ") == Sent::ok);
  CHECK(request.client.insert("three") == Sent::ok);
  scene.run();
  CHECK_FALSE(client.answers[id].ended);
  request.finish();
  scene.run();
  const Http2Client::Answer& answer = client.answers[id];
  CHECK(answer.fields == Http2Fields{{":status", "201"}, {"content-type", "text/plain"}});
  CHECK(answer.body == "one two three");
  CHECK(answer.ended);
  CHECK(answer.closed);
  CHECK(answer.error == 0);
}

TEST_CASE("trailers follow the body, and end the answer") {
  for (const size_t body : {0, 5, 1024 * 1024}) {
    Http2Scene scene;
    Http2Client client(scene.network, scene.at);
    const int32_t id = client.get("/");
    const int32_t none = client.get("/");
    scene.run();
    for (const size_t i : {0, 1}) {
      CHECK(scene.request(i).begin(200) == Sent::ok);
      if (body > 0) CHECK(scene.request(i).client.send(std::string(body, 'x')) != Sent::lost);
    }
    scene.request(0).finish("X-Sum: 4 2\r\nTE: x\r\nx-last: 1\r\n\r\n");
    scene.request(1).finish("TE: x\r\n\r\n");
    scene.run();
    const Http2Client::Answer& answer = client.answers[id];
    CHECK(answer.body.size() == body);
    CHECK(answer.ended);
    CHECK(answer.error == 0);
    CHECK(answer.fields ==
          Http2Fields{{":status", "200"}, {"x-case", "Kept Value"}, {"x-sum", "4 2"}, {"x-last", "1"}});
    CHECK(client.answers[none].ended);
    CHECK(client.answers[none].fields == Http2Fields{{":status", "200"}, {"x-case", "Kept Value"}});
  }
}

TEST_CASE("answers without a body end with their head, and one may ask to be told to continue") {
  Http2Scene scene;
  Http2Client client(scene.network, scene.at);
  const int32_t head = client.ask({{":method", "HEAD"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}});
  const int32_t post = client.ask({{":method", "POST"},
                                   {":scheme", "http"},
                                   {":authority", "a"},
                                   {":path", "/"},
                                   {"content-length", "2"},
                                   {"expect", "100-continue"}},
                                  false);
  scene.run();
  CHECK(scene.request(0).begin(304, BodyForm::none) == Sent::ok);
  scene.request(0).finish();
  scene.run();
  CHECK(client.answers[head].status == 304);
  CHECK(client.answers[head].ended);
  CHECK(client.answers[head].field("x-case") == "Kept Value");
  CHECK(client.answers[post].status == 100);
  CHECK(scene.request(1).head.find("chunked") == std::string::npos);
  client.send_body(post, "ab", true);
  scene.run();
  scene.request(1).answer(200, "ok");
  scene.run();
  CHECK(client.answers[post].status == 200);
  CHECK(client.answers[post].heads == 2);
}

TEST_CASE("streams go on beside each other, and a body may be larger than its window") {
  Http2Scene scene;
  Http2Client client(scene.network, scene.at);
  const std::string large(5'000'000, 'b');
  const int32_t first = client.post("/large", large);
  std::vector<int32_t> others;
  for (int i = 0; i < 50; ++i) others.push_back(client.get("/" + std::to_string(i)));
  scene.run(seconds(5));
  CHECK(scene.request(0).body.size() == large.size());
  CHECK(scene.request(0).complete);
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 1; i <= 50; ++i) {
      if (round == 0) CHECK(scene.request(i).begin(200) == Sent::ok);
      CHECK(scene.request(i).client.send("piece ") == Sent::ok);
    }
    scene.run();
  }
  for (size_t i = 0; i < 50; ++i) {
    CHECK(client.answers[others[i]].body == "piece piece piece ");
    scene.request(i + 1).finish();
  }
  scene.request(0).answer(200, std::string(3'000'000, 'a'));
  scene.run(seconds(5));
  CHECK(client.answers[first].body.size() == 3'000'000);
  CHECK(client.answers[first].ended);
}

TEST_CASE("a client that resets its stream is gone, and the others are not") {
  Http2Scene scene;
  Http2Client client(scene.network, scene.at);
  const int32_t first = client.get("/a"), second = client.post("/b", "half", /*ends=*/false);
  const int32_t third = client.get("/c");
  scene.run();
  CHECK(scene.request(0).begin(200, BodyForm::open, "begun") == Sent::ok);
  scene.run();
  client.reset(first);
  client.reset(second);
  scene.run();
  CHECK(scene.request(0).gone == "reset");
  CHECK(scene.request(1).gone == "reset");
  scene.request(2).answer(200, "well");
  scene.run();
  CHECK(client.answers[third].body == "well");
  CHECK(client.goaways == 0);
}

TEST_CASE("a client that closes its connection is gone with all its streams") {
  for (const bool reset : {false, true}) {
    Http2Scene scene;
    Http2Client client(scene.network, scene.at);
    client.get("/a");
    client.get("/b");
    scene.run();
    CHECK(scene.request(0).begin(200, BodyForm::open, "begun") == Sent::ok);
    client.peer.on_event = {};
    client.peer.close(reset);
    scene.run();
    for (const size_t i : {0, 1}) CHECK(scene.request(i).gone == (reset ? "reset" : "closed"));
    CHECK(scene.server.connections() == 0);
  }
}

TEST_CASE("an answer that is aborted ends with a reset behind what was given, never with END_STREAM") {
  Http2Scene scene;
  Http2Client client(scene.network, scene.at);
  const int32_t first = client.get("/a"), second = client.get("/b"), third = client.get("/c");
  scene.run();
  CHECK(scene.request(0).begin(200, BodyForm::open, "some") == Sent::ok);
  CHECK(scene.request(0).client.send(std::string(100'000, 'x')) == Sent::congested);
  scene.request(0).abort();
  CHECK(scene.request(1).begin(200) == Sent::ok);
  scene.request(1).abort();
  CHECK(scene.request(2).begin(200, BodyForm::open, "never seen") == Sent::ok);
  scene.request(2).abandon();
  scene.run(seconds(1));
  CHECK(client.answers[first].body.size() == 100'004);
  for (const int32_t id : {first, second, third}) {
    CHECK_FALSE(client.answers[id].ended);
    CHECK(client.answers[id].closed);
    CHECK(client.answers[id].error == 2);  // INTERNAL_ERROR
  }
  CHECK(client.answers[third].body.empty());
  CHECK(client.goaways == 0);
}

TEST_CASE("an answer before the end of its request asks for no more of the body") {
  Http2Scene scene;
  Http2Client client(scene.network, scene.at);
  const int32_t id = client.post("/a", std::string(100'000, 'b'), /*ends=*/false);
  scene.run();
  scene.request(0).answer(413, "too much");
  scene.run();
  CHECK(client.answers[id].body == "too much");
  CHECK(client.answers[id].ended);
  CHECK(client.answers[id].closed);
  CHECK(client.answers[id].error == 0);  // NO_ERROR
  CHECK(scene.service.limits.empty());
}

TEST_CASE("who does not read pauses its source alone, and goes on when it reads") {
  Http2Scene scene;
  Http2Client client(scene.network, scene.at, {.updates = false});
  const int32_t slow = client.get("/slow");
  scene.run();
  Request& request = scene.request(0);
  CHECK(request.begin(200) == Sent::ok);
  size_t given = 0;
  Sent sent = Sent::ok;
  while (sent == Sent::ok) {
    sent = request.client.send(std::string(10'000, 's'));
    given += 10'000;
    scene.run(milliseconds(1));
    REQUIRE(given < 2'000'000);
  }
  CHECK(sent == Sent::congested);
  scene.run();
  CHECK(client.answers[slow].body.size() == 65535);
  CHECK(scene.loop.pool().budget().taken() < 512 * 1024);
  CHECK(request.client.unsent() == given - 65535);
  CHECK(request.drained == 0);
  client.open_windows(1'000'000);
  scene.run();
  CHECK(request.drained == 1);
  CHECK(client.answers[slow].body.size() == given);
  request.finish();
  scene.run();
  CHECK(client.answers[slow].ended);
}

TEST_CASE("a connection whose socket takes nothing keeps little beside what its streams have") {
  Http2Scene scene({.write_timeout = seconds(3600)});
  Http2Client client(scene.network, scene.at, {.window = 1u << 30});
  client.open_windows(1u << 30);
  client.get("/a");
  client.get("/b");
  scene.run();
  for (const size_t i : {0, 1}) CHECK(scene.request(i).begin(200) == Sent::ok);
  scene.run();
  client.peer.pause();
  for (const size_t i : {0, 1}) {
    size_t given = 0;
    while (scene.request(i).client.send(std::string(10'000, 's')) == Sent::ok) {
      given += 10'000;
      scene.run(milliseconds(1));
      REQUIRE(given < 4'000'000);
    }
  }
  CHECK(scene.loop.pool().budget().taken() < 1024 * 1024);
  client.peer.resume();
  scene.run(seconds(2));
  for (const size_t i : {0, 1}) {
    CHECK(scene.request(i).drained == 1);
    scene.request(i).finish();
  }
  scene.run();
  for (const auto& [id, answer] : client.answers) CHECK(answer.ended);
}

TEST_CASE("a memory budget that is full loses the answer that needs more, and gives everything back") {
  Http2Scene scene({}, 1024 * 1024);
  Http2Client client(scene.network, scene.at, {.window = 0});
  const int32_t id = client.get("/a");
  scene.run();
  CHECK(scene.request(0).begin(200) == Sent::ok);
  Sent sent = Sent::ok;
  for (int i = 0; i < 200 && sent != Sent::lost; ++i) sent = scene.request(0).client.send(std::string(10'000, 's'));
  CHECK(sent == Sent::lost);
  CHECK(scene.request(0).client.starved());
  scene.request(0).abandon();
  scene.run();
  CHECK(client.answers[id].error == 2);
  CHECK(scene.server.connections() == 1);
}

TEST_CASE("without memory for a connection it is told so, and without memory for a request that is answered") {
  SUBCASE("connection") {
    Http2Scene scene({}, 30 * 1024);
    Http2Client client(scene.network, scene.at);
    client.get("/a");
    scene.run();
    CHECK(client.goaway_error == 11);
    CHECK(client.peer.eof());
    CHECK(scene.service.limits == "memory ");
    CHECK(scene.service.all.empty());
  }
  SUBCASE("request") {
    Http2Scene scene({}, 37 * 1024);
    Http2Client client(scene.network, scene.at);
    const int32_t id = client.get("/a");
    scene.run();
    CHECK(client.answers[id].status == 503);
    CHECK(scene.service.bad_heads == "503 ");
  }
}

TEST_CASE("an idle connection ends after its time, politely, and can be evicted before") {
  Http2Scene scene({.idle_timeout = seconds(5)});
  Http2Client client(scene.network, scene.at), other(scene.network, scene.at);
  const int32_t id = client.get("/a");
  other.get("/now");
  scene.run(seconds(4));
  CHECK(scene.server.connections() == 2);
  CHECK(scene.server.evict_idle());
  scene.run();
  CHECK(other.peer.ended());
  CHECK(scene.service.evicted == 1);
  CHECK_FALSE(scene.server.evict_idle());
  scene.run(seconds(20));
  scene.request(0).answer(200, "late");
  scene.run(seconds(4));
  CHECK(client.answers[id].body == "late");
  CHECK(client.goaways == 0);
  scene.run(seconds(2));
  CHECK(client.goaways == 1);
  CHECK(client.goaway_error == 0);
  CHECK(client.peer.eof());
}

TEST_CASE("a drain says so, takes what is on its way, and waits for the answers") {
  Http2Scene scene({.parting_silence = seconds(1)});
  Http2Client client(scene.network, scene.at), idle(scene.network, scene.at);
  Raw late(scene);
  const int32_t id = client.get("/a");
  late.peer.send(get_frame(1));
  scene.run(seconds(3));
  scene.server.drain();
  scene.run(milliseconds(500));
  CHECK(idle.goaways >= 1);
  CHECK(idle.peer.eof());
  CHECK(client.goaways == 1);
  CHECK(client.last_stream == 0x7fffffff);
  late.peer.send(get_frame(3));  // which was on its way
  scene.run(seconds(2));
  CHECK(client.goaways == 2);
  CHECK(client.last_stream == id);
  late.peer.send(get_frame(5));  // which comes behind the last GOAWAY
  scene.run();
  CHECK(scene.service.all.size() == 3);
  CHECK(scene.server.connections() == 2);
  for (const auto& request : scene.service.all) request->answer(200, "well");
  scene.run();
  CHECK(client.answers[id].body == "well");
  CHECK(client.peer.eof());
  CHECK(late.peer.eof());
  scene.run(seconds(6));
  CHECK(scene.server.connections() == 0);
}

TEST_CASE("answers that begin before a drain ask for no new requests, and the end cuts what is left") {
  Http2Scene scene({.parting_silence = seconds(1)});
  Http2Client client(scene.network, scene.at), quiet(scene.network, scene.at);
  client.get("/a");
  const int32_t second = client.get("/b");
  scene.run();
  scene.server.announce_drain();
  scene.run();
  CHECK(client.goaways == 0);
  CHECK(quiet.goaways == 0);
  scene.request(0).answer(200, "well");
  CHECK(scene.request(1).begin(200, BodyForm::open, "begun") == Sent::ok);
  scene.run();
  CHECK(client.goaways == 1);
  scene.server.announce_end();
  CHECK(scene.request(1).endings == 1);
  scene.run();
  scene.server.cut_all();
  scene.run();
  CHECK(scene.request(1).gone == "cut");
  CHECK_FALSE(client.answers[second].ended);
  CHECK(scene.server.connections() == 0);
}

}  // namespace
}  // namespace penstock::downstream
