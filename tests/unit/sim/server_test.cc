// The server over real sockets, driven turn by turn from the test's own thread, on both rings.
#include "sim/server.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>

#include "bench.h"

using namespace penstock;
using namespace penstock::sim;

namespace {

void on_both_rings(const std::function<void(net::RingKind)>& test) {
  for (const net::RingKind kind : {net::RingKind::epoll, net::RingKind::io_uring}) {
    if (kind == net::RingKind::io_uring && !net::probe_rings().io_uring_usable) continue;
    CAPTURE(static_cast<int>(kind));
    test(kind);
  }
}

constexpr std::string_view completion = R"({"model":"base","prompt":"hello gateway","max_tokens":5})";
constexpr std::string_view stream = R"({"model":"base","prompt":"hello gateway","max_tokens":5,"stream":true})";
constexpr std::string_view endless = R"({"model":"base","prompt":"hello gateway","max_tokens":200000,"stream":true})";

std::string text_of_stream(const std::string& received) {
  std::string text;
  for (size_t at = received.find("\"text\":\""); at != std::string::npos; at = received.find("\"text\":\"", at + 1)) {
    text += received.substr(at + 8, received.find('"', at + 8) - at - 8);
  }
  return text;
}

}  // namespace

TEST_CASE("A completion is answered with the same text whole, streamed and again") {
  on_both_rings([](net::RingKind kind) {
    Bench bench(kind);
    Client client(bench.address);
    client.post("/v1/completions", completion);
    bench.until(client, [&] { return client.whole(); });
    CHECK(client.status() == "HTTP/1.1 200 OK");
    const std::string text = text_of_stream(client.received);
    CHECK(text.size() == 20);
    CHECK(client.received.find("\"completion_tokens\":5") != std::string::npos);

    client.received.clear();
    client.post("/v1/completions", stream);
    bench.until(client, [&] { return client.stream_ended(); });
    CHECK(text_of_stream(client.received) == text);
    CHECK(client.received.find("transfer-encoding: chunked") != std::string::npos);
    CHECK(client.received.find("data: [DONE]") != std::string::npos);
    CHECK_FALSE(client.ended());
    CHECK(bench.engine_empty());
  });
}

TEST_CASE("Requests that come together are answered in their order") {
  on_both_rings([](net::RingKind kind) {
    Bench bench(kind);
    Client client(bench.address);
    std::string all;
    for (int i = 0; i < 20; ++i) {
      all += "POST /v1/completions HTTP/1.1\r\nHost: sim\r\nx-request-id: r" + std::to_string(i) +
             "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(stream.size()) + "\r\n\r\n" +
             std::string(stream);
      all += "GET /health HTTP/1.1\r\nHost: sim\r\nx-request-id: h" + std::to_string(i) + "\r\n\r\n";
    }
    client.send(all);
    bench.until(client, [&] { return client.received.find("x-request-id: h19") != std::string::npos; });
    size_t at = 0;
    for (int i = 0; i < 20; ++i) {
      for (const char* letter : {"r", "h"}) {
        const size_t found = client.received.find("x-request-id: " + (letter + std::to_string(i)) + "\r\n", at);
        REQUIRE(found != std::string::npos);
        at = found;
      }
    }
  });
}

TEST_CASE("A body that does not say that it is JSON is refused") {
  Bench bench(net::RingKind::epoll);
  const auto posted = [&](std::string_view type) {
    Client client(bench.address);
    client.send("POST /v1/completions HTTP/1.1\r\nHost: sim\r\n" + std::string(type) +
                "Content-Length: " + std::to_string(completion.size()) + "\r\n\r\n" + std::string(completion));
    bench.until(client, [&] { return client.received.find("\r\n\r\n{") != std::string::npos; });
    return client.received;
  };
  for (const char* type : {"", "Content-Type: text/plain\r\n", "Content-Type: application/jsonl\r\n"}) {
    CAPTURE(type);
    const std::string answer = posted(type);
    CHECK(answer.starts_with("HTTP/1.1 400 "));
    CHECK(answer.find(R"({"error":{"message":"Unsupported Media Type: Only 'application/json' is allowed")") !=
          std::string::npos);
  }
  CHECK(posted("content-type: Application/JSON; charset=utf-8\r\n").starts_with("HTTP/1.1 200 "));
}

TEST_CASE("A client that hangs up frees its blocks at once, in queue, in prefill and in decode") {
  on_both_rings([](net::RingKind kind) {
    Options options = Bench::instant();
    options.engine.max_num_seqs = 1;
    options.engine.max_num_batched_tokens = 64;
    options.engine.decode_ms = 5;
    options.engine.prefill_tokens_per_s = 1000;
    Bench bench(kind, options);
    Client decoding(bench.address), waiting(bench.address);
    decoding.post("/v1/completions", endless);
    bench.until(decoding, [&] { return decoding.received.find("\"text\"") != std::string::npos; });
    waiting.post("/v1/completions", completion);
    bench.until(waiting, [&] { return bench.server.engine().waiting() == 1; });
    waiting.hang_up();
    bench.until(decoding, [&] { return bench.server.engine().waiting() == 0; });
    CHECK(bench.server.engine().running() == 1);
    decoding.hang_up();
    bench.until(waiting, [&] { return bench.engine_empty(); });

    Client prefilling(bench.address);
    prefilling.post("/v1/completions", R"({"prompt":")" + std::string(40000, 'x') + R"(","max_tokens":5})");
    bench.until(prefilling, [&] { return bench.server.engine().running() == 1; });
    prefilling.hang_up();
    bench.until(waiting, [&] { return bench.engine_empty(); });
    CHECK(bench.server.engine().stats().finished_abort == 3);
  });
}

TEST_CASE("A stream that its reader takes slowly is not held in memory as bytes, and arrives whole") {
  on_both_rings([](net::RingKind kind) {
    Bench bench(kind);
    Client client(bench.address);
    client.post("/v1/completions", R"({"model":"base","prompt":"hello","max_tokens":50000,"stream":true})");
    // Nobody reads until the engine is done: about 9 MB of chunks are due, and only some are queued.
    Client idle(bench.address);
    bench.until(idle, [&] { return bench.server.engine().stats().finished_length == 1; });
    CHECK(bench.budget.used() < 2 * 1024 * 1024);
    bench.until(client, [&] { return client.stream_ended(); });
    CHECK(text_of_stream(client.received).size() == 200000);
    CHECK(bench.budget.used() == 0);
  });
}

TEST_CASE("Tokens come at their pace") {
  on_both_rings([](net::RingKind kind) {
    Options options = Bench::instant();
    options.engine.decode_ms = 10;
    Bench bench(kind, options);
    Client client(bench.address);
    const auto start = std::chrono::steady_clock::now();
    client.post("/v1/completions", R"({"prompt":"hello","max_tokens":11,"stream":true})");
    bench.until(client, [&] { return client.stream_ended(); });
    CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(100));
    CHECK(bench.server.engine().stats().inter_token_latency.sum() == doctest::Approx(0.1));
  });
}

TEST_CASE("Every fault happens as it is asked for") {
  on_both_rings([](net::RingKind kind) {
    Bench bench(kind);
    const auto fail = [&](std::string_view fault, std::string_view body, const std::function<bool(Client&)>& done) {
      CAPTURE(fault);
      Client client(bench.address);
      client.post("/v1/completions", body, "x-sim-fail: " + std::string(fault) + "\r\n");
      bench.until(client, [&] { return done(client); });
      const bool served_after = bench.engine_empty();
      CHECK(served_after);
      return std::make_pair(client.received, client.reset);
    };
    const auto ended = [](Client& client) { return client.ended(); };
    const auto whole = [](Client& client) { return client.whole(); };

    CHECK(fail("refuse", completion, ended) == std::make_pair(std::string(), true));
    CHECK(fail("status=503", completion, whole).first.starts_with("HTTP/1.1 503 Service Unavailable"));
    CHECK(fail("nonsense", completion, whole).first.starts_with("HTTP/1.1 400 Bad Request"));
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{300}}) {
      const auto [received, reset] = fail("reset-after=" + std::to_string(bytes), stream, ended);
      CHECK(reset);
      CHECK(received.size() - received.find("\r\n\r\n") - 4 == bytes);
    }
    const auto [streamed, stream_reset] = fail("truncate-chunk", stream, ended);
    CHECK_FALSE(stream_reset);
    CHECK(streamed.find("data: {") != std::string::npos);
    CHECK(streamed.find("[DONE]") == std::string::npos);
    const auto [body, body_reset] = fail("truncate-chunk", completion, ended);
    CHECK_FALSE(body_reset);
    CHECK(body.find("content-length: ") != std::string::npos);
    CHECK_FALSE(body.ends_with("}"));
    const auto start = std::chrono::steady_clock::now();
    fail("slow-header=50", completion, whole);
    CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(50));
  });
}

TEST_CASE("A stalled answer stays open without another byte until its client leaves") {
  on_both_rings([](net::RingKind kind) {
    Bench bench(kind);
    Client stalled(bench.address), other(bench.address);
    stalled.post("/v1/completions", stream, "x-sim-fail: stall-after=100\r\n");
    bench.until(stalled, [&] { return bench.server.engine().stats().finished_length == 1; });
    other.post("/v1/completions", completion);
    bench.until(other, [&] { return other.whole(); });
    stalled.poll();
    CHECK(stalled.received.size() - stalled.body_at() == 100);
    CHECK_FALSE(stalled.ended());
  });
}

TEST_CASE("Connections are refused as often as planned, and served afterwards") {
  on_both_rings([](net::RingKind kind) {
    Options options = Bench::instant();
    options.faults = {*parse_fault("refusex2")};
    Bench bench(kind, options);
    for (int i = 0; i < 2; ++i) {
      Client refused(bench.address);
      bench.until(refused, [&] { return refused.ended(); });
      CHECK(refused.reset);
    }
    Client served(bench.address);
    served.post("/v1/completions", completion);
    bench.until(served, [&] { return served.whole(); });
    CHECK(served.status() == "HTTP/1.1 200 OK");
  });
}

TEST_CASE("Draining finishes what runs, refuses what is new and ends the loop") {
  on_both_rings([](net::RingKind kind) {
    Options options = Bench::instant();
    options.engine.decode_ms = 2;
    Bench bench(kind, options);
    Client running(bench.address), idle(bench.address);
    running.post("/v1/completions", R"({"prompt":"hello","max_tokens":20,"stream":true})");
    bench.until(running, [&] { return running.received.find("\"text\"") != std::string::npos; });
    bench.server.shut_down();
    bench.until(idle, [&] { return idle.ended(); });
    bench.until(running, [&] { return running.ended(); });
    CHECK(running.stream_ended());
    CHECK(running.eof);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, bench.address.data(), bench.address.size()) != 0);
    close(fd);
  });
}

TEST_CASE("An HTTP/1.0 client gets its stream without chunks, until the connection ends") {
  on_both_rings([](net::RingKind kind) {
    Bench bench(kind);
    Client client(bench.address);
    client.send("POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(stream.size()) + "\r\n\r\n" + std::string(stream));
    bench.until(client, [&] { return client.ended(); });
    CHECK(client.eof);
    CHECK(client.received.find("chunked") == std::string::npos);
    CHECK(client.received.ends_with("data: [DONE]\n\n"));
  });
}

TEST_CASE("Running and waiting adapters are named in the metrics") {
  on_both_rings([](net::RingKind kind) {
    Options options = Bench::instant();
    options.loras = {"red", "blue"};
    options.max_loras = 1;
    options.engine.decode_ms = 5;
    Bench bench(kind, options);
    Client red(bench.address), blue(bench.address);
    red.post("/v1/completions", R"({"model":"red","prompt":"hello","max_tokens":2000,"stream":true})");
    bench.until(red, [&] { return red.received.find("\"text\"") != std::string::npos; });
    blue.post("/v1/completions", R"({"model":"blue","prompt":"hello","max_tokens":5})");
    bench.until(blue, [&] { return bench.server.engine().lora_waiting(1) == 1; });
    bench.until(red, [&] {
      return bench.server.metrics_text().find(
                 R"(max_lora="1",running_lora_adapters="red",waiting_lora_adapters="blue"})") != std::string::npos;
    });
    red.hang_up();
    bench.until(blue, [&] { return blue.whole(); });
    CHECK(blue.status() == "HTTP/1.1 200 OK");
  });
}
