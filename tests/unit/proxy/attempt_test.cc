#include "src/proxy/attempt.h"

#include <optional>

#include "fixture.h"

namespace penstock::proxy {
namespace {

struct Sink final : upstream::ResponseSink {
  void on_connected() override { happened += "connected "; }
  void on_response_head(http::Head& head) override { happened += std::to_string(head.status) + ' '; }
  void on_response_data(std::string_view decoded) override { happened.append(decoded) += ' '; }
  void on_response_raw(std::string_view) override {}
  void on_response_end(std::string_view /*trailers*/) override { happened += "end "; }
  void on_response_failed(upstream::Failure, bool, bool) override { happened += "failed "; }
  std::string happened;
};

struct Endpoint {
  explicit Endpoint(Scene& of)
      : scene(of),
        server(of.network, test::sim_address(9000)),
        target{.key = 1, .incarnation = 1, .address = server.address()} {}
  Attempt::To to() { return {.target = target, .host_header = "pod:8000", .stage_fields = {}}; }
  test::SimPeer& peer() {
    scene.network.run_for(milliseconds(10));
    REQUIRE(server.peers().size() == 1);
    return *server.peers().front();
  }
  Scene& scene;
  test::SimServer server;
  upstream::Target target;
};

TEST_CASE("the endpoint gets the head that it is meant to get, and the body") {
  Scene scene;
  Endpoint endpoint(scene);
  Attempt::Kept kept;
  Sink sink;
  const std::string body = R"({"model":"m","prompt":"p"})";
  const Asked asked(scene, "POST /v1/completions", "x-request-id: r\r\nconnection: close\r\na: b\r\n", body);
  Attempt::To to = endpoint.to();
  to.stage_fields = "x-prefiller-host-port: p:1\r\n";
  Attempt attempt(scene.context, asked.intake, to, kept, sink);
  CHECK(attempt.under_way());
  CHECK(endpoint.peer().received() ==
        "POST /v1/completions HTTP/1.1\r\nhost: h\r\na: b\r\nx-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\n"
        "via: 1.1 penstock\r\nx-request-id: r\r\nx-prefiller-host-port: p:1\r\ncontent-length: " +
            std::to_string(body.size()) + "\r\n\r\n" + body);
  CHECK(sink.happened == "connected ");
  CHECK(attempt.request_sent());
  endpoint.peer().send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
  scene.network.run_for(milliseconds(10));
  CHECK(sink.happened == "connected 200 hi end ");
  attempt.ended();
  CHECK_FALSE(attempt.under_way());
}

TEST_CASE("a model of another name is put in, whatever the size of the body") {
  for (const size_t size : {10, 100'000}) {
    CAPTURE(size);
    Scene scene;
    Endpoint endpoint(scene);
    Attempt::Kept kept;
    Sink sink;
    const std::string rest = R"(,"prompt":")" + std::string(size, 'p') + R"("})";
    const Asked asked(scene, "POST /v1/completions", "x-gateway-model-name-rewrite: longer\r\n",
                      R"({"model":"m")" + rest);
    Attempt attempt(scene.context, asked.intake, endpoint.to(), kept, sink);
    const std::string& received = endpoint.peer().received();
    CHECK(received.ends_with("\r\n\r\n{\"model\":\"longer\"" + rest));
    CHECK(received.find("content-length: " + std::to_string(rest.size() + 17) + "\r\n") != std::string::npos);
    attempt.cancel();
  }
}

TEST_CASE("an attempt that is destroyed resets its connection, and its sink hears nothing more") {
  Scene scene;
  Endpoint endpoint(scene);
  Attempt::Kept kept;
  Sink sink;
  const Asked asked(scene, "GET /v1/models/m", "", "");
  std::optional<Attempt> attempt(std::in_place, scene.context, asked.intake, endpoint.to(), kept, sink);
  test::SimPeer& peer = endpoint.peer();
  attempt.reset();
  scene.network.run_for(milliseconds(10));
  CHECK(peer.error() != 0);
  CHECK(sink.happened == "connected ");
}

}  // namespace
}  // namespace penstock::proxy
