// The real transport over loopback, on both rings: plain and TLS, rotation, plugins, breaks.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>

#include "fake_transport.h"
#include "folder.h"
#include "penstock/kube/transport.h"
#include "test_server.h"

namespace penstock::kube::test {
namespace {

struct Answer final : CallEvents {
  void on_status(int code, std::optional<Duration> after) override {
    CHECK(status == 0);
    status = code;
    retry_after = after;
  }
  void on_bytes(std::string_view bytes) override {
    CHECK(status != 0);
    CHECK(!ended);
    body += bytes;
    if (when_bytes) when_bytes();
  }
  void on_done(Failure f, std::string_view t) override {
    CHECK(!ended);
    ended = true;
    failure = f;
    text = t;
    if (when_done) when_done();
  }
  int status = 0;
  std::optional<Duration> retry_after;
  std::string body, text;
  bool ended = false;
  Failure failure = Failure::none;
  std::function<void()> when_bytes, when_done;
};

struct Epoll {
  static constexpr net::RingKind kind = net::RingKind::epoll;
};
struct Best {
  static constexpr net::RingKind kind = net::RingKind::automatic;  // io_uring where it can be had
};

template <typename Engine>
struct RealBench {
  explicit RealBench(ClientConfig config, CurlLimits limits = {}) {
    std::signal(SIGPIPE, SIG_IGN);
    auto made = net::make_ring({.kind = Engine::kind}, net::probe_rings());
    REQUIRE(made.ok());
    ring = std::move(*made);
    loop = std::make_unique<net::EventLoop>(*ring, net::system_clock());
    auto transport_made = make_curl_transport(*loop, std::move(config), limits);
    REQUIRE(transport_made.ok());
    transport = std::move(*transport_made);
  }
  CallId get(Answer& answer, const std::string& path) {
    Call call;
    call.path = path;
    return transport->start(std::move(call), answer);
  }
  [[nodiscard]] bool until(const std::function<bool()>& done) {
    const Instant deadline = net::system_clock().now() + seconds(100);
    while (!done()) {
      if (net::system_clock().now() > deadline) return false;
      loop->run_turn(milliseconds(20));
    }
    return true;
  }
  // One call to its end.
  Answer whole(const std::string& path) {
    Answer answer;
    get(answer, path);
    CHECK(until([&] { return answer.ended; }));
    answer.when_bytes = answer.when_done = nullptr;
    return answer;
  }

  std::unique_ptr<net::Ring> ring;
  std::unique_ptr<net::EventLoop> loop;
  std::unique_ptr<Transport> transport;
};

ClientConfig to(const TestServer& server) {
  ClientConfig config;
  config.server = server.url();
  return config;
}

const auto echo = [](Connection& c, const std::string& request) { c.answer(200, request); };

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_TEMPLATE("calls over plain HTTP: head, body, Retry-After, bodies sent, connections used again", E, Epoll,
                   Best) {
  TestServer server([](Connection& c, const std::string& request) {
    if (has(request, "GET /busy")) c.answer(429, "later", "retry-after: 7\r\n");
    else c.answer(200, request);
  });
  ClientConfig config = to(server);
  config.server += "/prefix";
  config.token = "secret";
  RealBench<E> b(config);
  Answer answer = b.whole("/api/v1/pods?limit=500&x=a%20b");
  CHECK(answer.status == 200);
  CHECK(answer.failure == Failure::none);
  CHECK(answer.body.starts_with("GET /prefix/api/v1/pods?limit=500&x=a%20b HTTP/1.1\r\n"));
  CHECK(has(answer.body, "Authorization: Bearer secret\r\n"));
  CHECK(has(answer.body, "Accept: application/json\r\n"));
  CHECK(!has(answer.body, "Accept-Encoding"));

  Call patch;
  patch.method = "PATCH";
  patch.path = "/x/status";
  patch.content_type = "application/apply-patch+yaml";
  patch.body = R"({"status":{}})";
  Answer patched;
  b.transport->start(std::move(patch), patched);
  REQUIRE(b.until([&] { return patched.ended; }));
  CHECK(patched.body.starts_with("PATCH /prefix/x/status HTTP/1.1\r\n"));
  CHECK(has(patched.body, "Content-Type: application/apply-patch+yaml\r\n"));
  CHECK(patched.body.ends_with("\r\n\r\n{\"status\":{}}"));
  CHECK(server.connections() == 1);

  RealBench<E> busy(to(server));
  answer = busy.whole("/busy");
  CHECK(answer.status == 429);
  CHECK(answer.retry_after == seconds(7));
  CHECK(answer.body == "later");
  Call fresh;
  fresh.path = "/";
  fresh.fresh_connection = true;
  Answer other;
  busy.transport->start(std::move(fresh), other);
  REQUIRE(busy.until([&] { return other.ended; }));
  CHECK(server.connections() == 3);
}

TEST_CASE_TEMPLATE("a stream comes piece by piece, beside other calls, and can be cancelled", E, Epoll, Best) {
  std::mutex mutex;
  std::condition_variable told;
  int step = 0;
  TestServer server([&](Connection& c, const std::string& request) {
    if (!has(request, "GET /watch")) return void(c.answer(200, "x"));
    c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    {
      std::unique_lock lock(mutex);
      told.wait(lock, [&] { return step == 1; });
    }
    c.write("6\r\nsecond\r\n");
    c.wait_for_end();
  });
  RealBench<E> b(to(server));
  Answer watch, other;
  const CallId id = b.get(watch, "/watch");
  REQUIRE(b.until([&] { return watch.body == "first"; }));
  b.get(other, "/other");
  REQUIRE(b.until([&] { return other.ended; }));
  {
    const std::lock_guard lock(mutex);
    step = 1;
  }
  told.notify_all();
  SUBCASE("from outside") {
    REQUIRE(b.until([&] { return watch.body == "firstsecond"; }));
    b.transport->cancel(id);
    b.transport->cancel(id);
  }
  SUBCASE("from inside its own event, with another begun there") {
    Answer third;
    watch.when_bytes = [&] {
      b.transport->cancel(id);
      b.get(third, "/third");
    };
    REQUIRE(b.until([&] { return third.ended; }));
    CHECK(third.body == "x");
  }
  for (int i = 0; i < 5; ++i) b.loop->run_turn(Duration{0});
  CHECK(!watch.ended);
  CHECK(watch.body == "firstsecond");
}

TEST_CASE_TEMPLATE("a large answer arrives whole", E, Epoll, Best) {
  const std::string large(20 << 20, 'z');
  TestServer server([&](Connection& c, const std::string&) { c.answer(200, large); });
  RealBench<E> b(to(server));
  const Answer answer = b.whole("/");
  CHECK(answer.body.size() == large.size());
  CHECK(answer.body == large);
}

TEST_CASE_TEMPLATE("ends that are none", E, Epoll, Best) {
  TestServer server([](Connection& c, const std::string& request) {
    if (has(request, "/end-after-length")) c.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
    if (has(request, "/end-after-chunk")) c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
    if (has(request, "/end-after-reset")) {
      c.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
      c.reset();
    }
    if (has(request, "/end-after-noise")) c.write("SSH-2.0-nothing\r\n\r\n");
    if (has(request, "/silence")) c.wait_for_end();
  });
  RealBench<E> b(to(server));
  for (const char* path : {"/end-after-length", "/end-after-chunk", "/end-after-reset", "/end-after-nothing"}) {
    CAPTURE(path);
    const Answer answer = b.whole(path);
    CHECK(answer.failure == Failure::cut);
    CHECK(!answer.text.empty());
  }
  CHECK(b.whole("/end-after-noise").failure == Failure::protocol);
  Call call;
  call.path = "/silence";
  call.timeout = milliseconds(50);
  Answer answer;
  b.transport->start(std::move(call), answer);
  REQUIRE(b.until([&] { return answer.ended; }));
  CHECK(answer.failure == Failure::timeout);
}

TEST_CASE_TEMPLATE("nobody listens", E, Epoll, Best) {
  ClientConfig config;
  {
    const TestServer gone(echo);
    config = to(gone);
  }
  RealBench<E> b(config);
  const Answer answer = b.whole("/");
  CHECK(answer.failure == Failure::connect);
  CHECK(answer.status == 0);
}

TEST_CASE_TEMPLATE("names are resolved beside the loop; a proxy is asked when one is configured", E, Epoll, Best) {
  TestServer server(echo);
  ClientConfig config;
  config.server = "http://localhost:" + server.port();
  CHECK(RealBench<E>(config).whole("/x").status == 200);
  config.server = "http://api.test:8080";
  config.proxy_url = server.url();
  CHECK(RealBench<E>(config).whole("/x").body.starts_with("GET http://api.test:8080/x HTTP/1.1\r\n"));
  config.server = "https://api.test:8443";
  TestServer refuses([](Connection& c, const std::string&) { c.answer(403, "no tunnel"); });
  config.proxy_url = refuses.url();
  const Answer answer = RealBench<E>(config).whole("/x");
  CHECK(answer.status == 0);  // the proxy's head is not the server's
  CHECK(answer.failure == Failure::cut);
  REQUIRE(!refuses.requests().empty());
  CHECK(refuses.requests()[0].starts_with("CONNECT api.test:8443 HTTP/1.1\r\n"));
}

TEST_CASE_TEMPLATE("a reflector over the real transport: stream, cut, and on from the last version", E, Epoll, Best) {
  const Certificate authority = make_authority("ca");
  const auto chunk = [](const std::string& text) {
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", text.size());
    return size + text + "\r\n";
  };
  TestServer server(
      [&](Connection& c, const std::string& request) {
        c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        if (has(request, "sendInitialEvents=true")) {
          std::string events = event_line("ADDED", object_json("a", "u1", 5)) + bookmark(10, true);
          for (const char byte : events) c.write(chunk(std::string(1, byte)));
          c.write(chunk(event_line("ADDED", object_json("b", "u2", 11)) + "{\"type\":"));
          return c.leave();
        }
        c.write(chunk(event_line("DELETED", object_json("a", "u1", 12))));
        c.wait_for_end();
      },
      issue(authority, "api", loopback_ip));
  ClientConfig config = to(server);
  config.ca_pem = authority.pem;
  RealBench<E> b(config);
  Random random(1);
  RecordingSink sink;
  ReflectorLimits limits;
  limits.backoff_first = milliseconds(1);
  Reflector reflector(*b.loop, *b.transport, random, "pods", {"/api/v1", "pods", "ns", "app=x", ""}, sink, limits);
  reflector.start();
  REQUIRE(b.until([&] { return sink.log == "+a(u1) synced +b(u2) -a(u1) "; }));
  CHECK(reflector.status().restarts[static_cast<size_t>(Restart::cut)] == 1);
  CHECK(has(server.requests().back(), "&resourceVersion=11 HTTP/1.1\r\n"));
  reflector.stop();
}

TEST_CASE("an answer that ends may start the next call, many times") {
  TestServer server(echo);
  RealBench<Epoll> b(to(server));
  int rounds = 0;
  Answer answer;
  answer.when_done = [&] {
    if (++rounds == 50) return;
    answer.status = 0;
    answer.ended = false;
    answer.body.clear();
    b.get(answer, "/" + std::to_string(rounds));
  };
  b.get(answer, "/0");
  REQUIRE(b.until([&] { return rounds == 50; }));
  CHECK(server.connections() == 1);
}

TEST_CASE("a transport may go while calls run") {
  TestServer server([](Connection& c, const std::string&) { c.wait_for_end(); });
  Answer first, second;
  RealBench<Epoll> b(to(server));
  b.get(first, "/");
  REQUIRE(b.until([&] { return server.connections() == 1; }));
  b.get(second, "/");
  b.transport.reset();
  CHECK(!first.ended);
}

TEST_CASE("a token file is read again for each call; when it vanishes the old token is used") {
  const Folder folder;
  TestServer server(echo);
  ClientConfig config = to(server);
  config.token_file = folder.path() + "/token";
  RealBench<Epoll> b(config);
  Answer answer = b.whole("/");
  CHECK(answer.failure == Failure::credentials);
  CHECK(has(answer.text, config.token_file));
  folder.write("token", "one\n");
  CHECK(has(b.whole("/").body, "Bearer one\r\n"));
  folder.write("token", "two");
  CHECK(has(b.whole("/").body, "Bearer two\r\n"));
  std::filesystem::remove(config.token_file);
  CHECK(has(b.whole("/").body, "Bearer two\r\n"));
}

TEST_CASE_TEMPLATE("TLS: the authority of the file counts, nothing else, and it may rotate", E, Epoll, Best) {
  const Folder folder;
  const Certificate authority = make_authority("ca"), stranger = make_authority("stranger");
  TestServer server(echo, issue(authority, "api", loopback_ip));
  ClientConfig config = to(server);
  config.ca_file = folder.write("ca.crt", stranger.pem);
  RealBench<E> b(config);
  const Answer refused = b.whole("/");
  CHECK(refused.failure == Failure::tls);
  CHECK(server.requests().empty());
  folder.write("ca.crt", stranger.pem + authority.pem);  // both, as while rotating
  CHECK(b.whole("/").status == 200);
  folder.write("ca.crt", stranger.pem);
  CHECK(b.whole("/").failure == Failure::tls);  // also not over the connection that is open
  folder.write("ca.crt", "nonsense");
  CHECK(b.whole("/").failure == Failure::credentials);
  std::filesystem::remove(config.ca_file);
  CHECK(b.whole("/").failure == Failure::credentials);
}

TEST_CASE("TLS: without an authority the system's roots decide; verification can be switched off by name only") {
  const Certificate authority = make_authority("ca");
  TestServer server(echo, issue(authority, "api", loopback_ip));
  ClientConfig config = to(server);
  CHECK(RealBench<Epoll>(config).whole("/").failure == Failure::tls);
  config.insecure_skip_tls_verify = true;
  CHECK(RealBench<Epoll>(config).whole("/").status == 200);
}

TEST_CASE("TLS: the name in the certificate must be right, or the one that was asked for") {
  const Certificate authority = make_authority("ca");
  TestServer server(echo, issue(authority, "api", "DNS:kubernetes.test"));
  ClientConfig config = to(server);
  config.ca_pem = authority.pem;
  CHECK(RealBench<Epoll>(config).whole("/").failure == Failure::tls);
  config.tls_server_name = "kubernetes.test";
  const Answer answer = RealBench<Epoll>(config).whole("/x");
  CHECK(answer.status == 200);
  CHECK(has(answer.body, "Host: 127.0.0.1:" + server.port()));
  config.tls_server_name = "elsewhere.test";
  CHECK(RealBench<Epoll>(config).whole("/").failure == Failure::tls);
}

TEST_CASE("TLS: client certificates") {
  const Certificate authority = make_authority("ca");
  TestServer server([](Connection& c, const std::string&) { c.answer(200, c.client_name()); },
                    issue(authority, "api", loopback_ip), authority.pem);
  ClientConfig config = to(server);
  config.ca_pem = authority.pem;
  CHECK(RealBench<Epoll>(config).whole("/").failure != Failure::none);
  const Certificate client = issue(authority, "penstock-user", "");
  config.client_certificate_pem = client.pem;
  config.client_key_pem = client.key_pem;
  CHECK(RealBench<Epoll>(config).whole("/").body == "penstock-user");
}

TEST_CASE_TEMPLATE("an exec plugin is run once, until its answer expires or is refused", E, Epoll, Best) {
  const Folder folder;
  TestServer server(echo);
  ClientConfig config = to(server);
  // Counts its runs; prints what it was told into a file.
  const std::string plugin = folder.script("plugin", R"sh(cd "$(dirname "$0")"
echo x >> runs
printf '%s' "$KUBERNETES_EXEC_INFO" > told
printf '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"%s-%s"%s}}' "$1" "$(wc -l < runs)" "$MORE"
)sh");
  config.exec = ExecPlugin{.api_version = "client.authentication.k8s.io/v1", .command = plugin, .arguments = {"token"}};
  SUBCASE("cached") {
    RealBench<E> b(config);
    CHECK(has(b.whole("/").body, "Bearer token-1\r\n"));
    CHECK(has(b.whole("/").body, "Bearer token-1\r\n"));
    b.transport->refresh_credentials();
    CHECK(has(b.whole("/").body, "Bearer token-2\r\n"));
    std::ifstream told(folder.path() + "/told");
    const std::string text((std::istreambuf_iterator<char>(told)), {});
    CHECK(has(text, R"("spec":{"interactive":false})"));
  }
  SUBCASE("two calls at once wait for one run") {
    RealBench<E> b(config);
    Answer first, second;
    b.get(first, "/1");
    b.get(second, "/2");
    REQUIRE(b.until([&] { return first.ended && second.ended; }));
    CHECK(has(first.body, "Bearer token-1\r\n"));
    CHECK(has(second.body, "Bearer token-1\r\n"));
  }
  SUBCASE("far expiry") {
    config.exec->environment = {{"MORE", R"(,"expirationTimestamp":"2999-01-01T00:00:00Z")"}};
    RealBench<E> b(config);
    CHECK(has(b.whole("/").body, "Bearer token-1\r\n"));
    CHECK(has(b.whole("/").body, "Bearer token-1\r\n"));
  }
  SUBCASE("expired already") {
    config.exec->environment = {{"MORE", R"(,"expirationTimestamp":"2020-01-01T00:00:00Z")"}};
    RealBench<E> b(config);
    const Answer answer = b.whole("/");
    CHECK(answer.failure == Failure::credentials);
    CHECK(has(answer.text, "expired"));
  }
}

TEST_CASE_TEMPLATE("an exec plugin that fails says why", E, Epoll, Best) {
  const Folder folder;
  TestServer server(echo);
  ClientConfig config = to(server);
  config.exec = ExecPlugin{.api_version = "client.authentication.k8s.io/v1"};
  config.exec->install_hint = "get it from there";
  CurlLimits limits;
  std::vector<std::string> parts;
  SUBCASE("exit code") {
    config.exec->command = folder.script("p", "echo please log in >&2; exit 3\n");
    parts = {"exit code 3", "please log in", "get it from there"};
  }
  SUBCASE("missing") {
    config.exec->command = folder.path() + "/nothing";
    parts = {"nothing", "get it from there"};
  }
  SUBCASE("slow") {
    limits.exec_time_limit = milliseconds(100);
    config.exec->command = folder.script("p", "exec tail -f /dev/null\n");
    parts = {"takes too long"};
  }
  SUBCASE("killed") {
    config.exec->command = folder.script("p", "kill -9 $$\n");
    parts = {"signal 9"};
  }
  SUBCASE("chatty") {
    limits.exec_output_max = 1000;
    config.exec->command = folder.script("p", "exec yes\n");
    parts = {"prints too much"};
  }
  SUBCASE("nonsense") {
    config.exec->command = folder.script("p", "echo hello\n");
    parts = {"not JSON"};
  }
  RealBench<E> b(config, limits);
  const Answer answer = b.whole("/");
  CHECK(answer.failure == Failure::credentials);
  CAPTURE(answer.text);
  for (const std::string& part : parts) CHECK(has(answer.text, part));
  CHECK(server.requests().empty());
}

}  // namespace penstock::kube::test
