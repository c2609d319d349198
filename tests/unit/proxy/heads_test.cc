#include "src/proxy/heads.h"

#include "fixture.h"
#include "penstock/proxy/client_identity.h"

using namespace penstock;
using namespace penstock::proxy;

namespace {

ForwardedHead forwarded(const std::string& fields, const std::string& start = "POST /v1/completions HTTP/1.1") {
  const Parsed parsed(http::Parser::Kind::request, start + "\r\nHost: example.com\r\n" + fields + "\r\n");
  Random random(1);
  ForwardedHead out;
  out.assign(parsed.head(), {.ip = "10.0.0.9"}, random);
  return out;
}

http::Fields answer_fields(const std::string& fields, AnswerContext context = {}, bool keeps_length = true) {
  const Parsed parsed(http::Parser::Kind::response, "HTTP/1.1 200 OK\r\n" + fields + "\r\n");
  context.request_id = "id-1";
  context.endpoint = "10.1.1.1:8000";
  http::Fields out;
  append_answer_fields(out, parsed.head(), keeps_length, context);
  return out;
}

std::string answered(const std::string& fields, const AnswerContext& context = {}) {
  return std::string(answer_fields(fields, context).lines());
}

std::string lines(const ForwardedHead& head) {
  return std::string(head.fields.lines());
}

const std::string kAdded = "via: 1.1 penstock\r\nx-request-id: id-1\r\nx-penstock-endpoint: 10.1.1.1:8000\r\n";

}  // namespace

TEST_CASE("end-to-end fields are forwarded as they came, ours follow") {
  const ForwardedHead head = forwarded(
      "X-One:  two words \r\nConnection: keep-alive, x-gone\r\nX-Gone: 1\r\nACCEPT: */*\r\nx-request-id: abc\r\n");
  CHECK(lines(head) ==
        "X-One:  two words \r\nACCEPT: */*\r\n"
        "x-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\nvia: 1.1 penstock\r\nx-request-id: abc\r\n");
  CHECK(head.host == "example.com");
  CHECK(head.path == "/v1/completions");
  CHECK(head.json);
  std::string out;
  append_request_head(out, head, "10.1.1.1:8000", true, 42);
  CHECK(out == "POST /v1/completions HTTP/1.1\r\nhost: example.com\r\n" + lines(head) + "content-length: 42\r\n\r\n");
  out.clear();
  append_request_head(out, head, "10.1.1.1:8000", false, 0);
  CHECK(out == "POST /v1/completions HTTP/1.1\r\nhost: example.com\r\n" + lines(head) + "\r\n");
  out.clear();
  append_request_head(out, head, "10.1.1.1:8000", false, 0, "x-prefiller-host-port: 10.1.1.2:8000\r\n");
  CHECK(out == "POST /v1/completions HTTP/1.1\r\nhost: example.com\r\n" + lines(head) +
                   "x-prefiller-host-port: 10.1.1.2:8000\r\n\r\n");
}

TEST_CASE("a target with a host names both the path and the host") {
  const auto of = [](const std::string& target) { return forwarded("", "GET " + target + " HTTP/1.1"); };
  CHECK(of("http://other:81/a/b?c").path == "/a/b?c");
  CHECK(of("http://other:81/a/b?c").host == "other:81");
  CHECK(of("HTTPS://other").path == "/");
  CHECK(of("https://other?to=/no").path == "/?to=/no");
  CHECK(of("/to?http://other/").path == "/to?http://other/");
  CHECK(of("/to?http://other/").host == "example.com");
  const ForwardedHead asterisk = forwarded("", "OPTIONS * HTTP/1.1");
  CHECK(asterisk.path == "*");
  CHECK(asterisk.host == "example.com");
}

TEST_CASE("the lists of hops before us are kept") {
  const ForwardedHead head = forwarded("X-Forwarded-For: 1.2.3.4\r\nA: b\r\nVia: 1.0 fred\r\nx-request-id: i\r\n");
  CHECK(lines(head) ==
        "A: b\r\nx-forwarded-for: 1.2.3.4, 10.0.0.9\r\nx-forwarded-proto: http\r\nvia: 1.0 fred, 1.1 penstock\r\n"
        "x-request-id: i\r\n");
}

TEST_CASE("a list of hops in several fields becomes one, in their order") {
  const ForwardedHead head = forwarded(
      "X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nVia: 1.0 fred\r\nx-forwarded-for:\r\nx-forwarded-for: 9.9.9.9\r\n"
      "via: 1.1 p\r\nx-request-id: i\r\n");
  CHECK(lines(head) ==
        "x-forwarded-for: 1.2.3.4, 5.6.7.8, 9.9.9.9, 10.0.0.9\r\nx-forwarded-proto: http\r\n"
        "via: 1.0 fred, 1.1 p, 1.1 penstock\r\nx-request-id: i\r\n");
  CHECK(answered("Via: 1.0 a\r\nvia: 1.1 b\r\nContent-Length: 0\r\n").find("via: 1.0 a, 1.1 b, 1.1 penstock\r\n") !=
        std::string::npos);
}

TEST_CASE("a request without an id gets a random UUID") {
  const std::string id = forwarded("").request_id;
  REQUIRE(id.size() == 36);
  for (size_t i = 0; i < id.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    CHECK((dash ? id[i] == '-' : std::string_view("0123456789abcdef").find(id[i]) != std::string_view::npos));
  }
  CHECK(id[14] == '4');
  CHECK(std::string_view("89ab").find(id[19]) != std::string_view::npos);
}

TEST_CASE("who says no fairness id has that of the first field that names a session") {
  const std::vector<std::string> names = {"x-mine", "Session-Id", "session_id"};
  const auto identified = [&](const std::string& fields) {
    const Parsed parsed(http::Parser::Kind::request, "POST / HTTP/1.1\r\nhost: h\r\n" + fields + "\r\n");
    Random random(1);
    ForwardedHead head;
    head.assign(parsed.head(), {.ip = "10.0.0.9"}, random, names);
    return head.fairness_id;
  };
  CHECK(identified("").empty());
  CHECK(identified("session_id: c\r\nsession-id: b\r\n") == "b");
  CHECK(identified("session-id: b\r\nX-Mine: \r\n") == "b");
  CHECK(identified("session-id: b\r\nX-Mine: a\r\n") == "a");
  CHECK(identified("session_id: c\r\n") == "c");
  CHECK(identified("x-gateway-inference-fairness-id: tenant\r\nx-mine: a\r\n") == "tenant");
}

TEST_CASE("fields for the gateway are obeyed and not forwarded") {
  const ForwardedHead head = forwarded(
      "x-gateway-inference-objective: batch\r\nx-gateway-inference-fairness-id: tenant\r\nx-session-token: s\r\n"
      "x-gateway-model-name-rewrite: other\r\nx-slo-ttft-ms: 250\r\nx-slo-tpot-ms: bad\r\nx-penstock-explain: 1\r\n"
      "x-request-id: i\r\nContent-Type: text/plain\r\ntest-epp-endpoint-selection: 10.0.0.1,::1\r\n"
      "x-prefiller-host-port: a:1\r\nx-encoder-hosts-ports: a:1,b:1\r\nx-data-parallel-host-port: a:1\r\n"
      "X-KV-Cache-Source-Host-Port: a:1\r\nx_kv_cache_source_host_port: a:1\r\n");
  CHECK(head.test_endpoints == "10.0.0.1,::1");
  CHECK(head.objective == "batch");
  CHECK(head.fairness_id == "tenant");
  CHECK(head.session == "s");
  CHECK(head.model_rewrite == "other");
  CHECK(head.slo_ttft_ms == 250);
  CHECK(head.slo_tpot_ms == 0);
  CHECK(head.explain);
  CHECK_FALSE(head.json);
  CHECK(lines(head) ==
        "Content-Type: text/plain\r\nx-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\nvia: 1.1 penstock\r\n"
        "x-request-id: i\r\n");
}

TEST_CASE("a latency that is no positive, finite number is not asked for") {
  for (const std::string value : {"inf", "infinity", "nan", "-inf", "-5", "0", "1e999", "5x", ""}) {
    CAPTURE(value);
    const ForwardedHead head = forwarded("x-slo-ttft-ms: " + value + "\r\nx-slo-tpot-ms: " + value + "\r\n");
    CHECK(head.slo_ttft_ms == 0);
    CHECK(head.slo_tpot_ms == 0);
  }
  CHECK(forwarded("x-slo-ttft-ms: 1.5e2\r\n").slo_ttft_ms == 150);
}

TEST_CASE("fields that a server could take for ours are not forwarded") {
  const ForwardedHead head = forwarded(
      "Content_Length: 5\r\ntransfer_encoding: chunked\r\nX_Penstock-Explain: 1\r\nX_Forwarded_For: 1.2.3.4\r\nHost_: "
      "x\r\n"
      "proxy_connection: close\r\nX_Api_Key: k\r\nConnection: x-listed\r\nX_Listed: y\r\nx-request-id: i\r\n_: z\r\n");
  CHECK_FALSE(head.explain);
  CHECK(lines(head) ==
        "Host_: x\r\nX_Api_Key: k\r\n_: z\r\nx-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\nvia: 1.1 "
        "penstock\r\n"
        "x-request-id: i\r\n");
}

TEST_CASE("x-llm-d names win over x-gateway names, whichever comes first") {
  CHECK(forwarded("x-gateway-inference-objective: a\r\nX-LLM-D-Inference-Objective: b\r\n").objective == "b");
  CHECK(forwarded("x-llm-d-inference-objective: b\r\nx-gateway-inference-objective: a\r\n").objective == "b");
  CHECK(forwarded("x-slo-ttft-ms: 5\r\nx-llm-d-slo-ttft-ms: 7\r\n").slo_ttft_ms == 7);
  CHECK(forwarded("x-llm-d-slo-ttft-ms: 7\r\nx-slo-ttft-ms: 5\r\n").slo_ttft_ms == 7);
  CHECK(forwarded("x-gateway-inference-objective: a\r\nx-gateway-inference-objective: c\r\n").objective == "a");
}

TEST_CASE("an answer's fields are passed on, with ours, but for those of the connection") {
  CHECK(answered("Server: vllm\r\nContent-Length: 3\r\nX-Request-Id: theirs\r\nA: b\r\n") ==
        "Server: vllm\r\nContent-Length: 3\r\nA: b\r\n" + kAdded);
  CHECK(answered("Transfer-Encoding: chunked\r\nVia: 1.1 x\r\nKeep-Alive: timeout=5\r\n") ==
        "via: 1.1 x, 1.1 penstock\r\nx-request-id: id-1\r\nx-penstock-endpoint: 10.1.1.1:8000\r\n");
}

TEST_CASE("a session token of ours replaces the endpoint's") {
  CHECK(answered("X-Session-Token: theirs\r\nContent-Length: 0\r\n") ==
        "X-Session-Token: theirs\r\nContent-Length: 0\r\n" + kAdded);
  CHECK(answered("X-Session-Token: theirs\r\nContent-Length: 0\r\n", {.session_token = "Yg=="}) ==
        "Content-Length: 0\r\n" + kAdded + "x-session-token: Yg==\r\n");
}

TEST_CASE("a route changes what is forwarded, but leaves the rest") {
  using Op = objects::HeaderChange::Op;
  ForwardedHead head = forwarded("X-A: 1\r\nx-ab: 2\r\nX-a: 3\r\nX-C: 4\r\nx-request-id: i\r\n");
  const std::string ours =
      "x-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\nvia: 1.1 penstock\r\nx-request-id: i\r\n";
  const objects::HeaderChange changes[] = {
      {Op::set, "x-a", "5"}, {Op::add, "x-c", "6"}, {Op::remove, "X-AB", ""}, {Op::set, "Host", "other"}};
  head.change(changes);
  CHECK(lines(head) == "X-C: 4\r\n" + ours + "x-a: 5\r\nx-c: 6\r\n");
  CHECK(head.host == "other");
  const objects::HeaderChange without[] = {{Op::remove, "x-c", ""}, {Op::remove, "x-a", ""}, {Op::remove, "none", ""}};
  head.change(without);
  CHECK(lines(head) == ours);
}

TEST_CASE("a rewritten path is what the endpoint sees, the client's is kept") {
  ForwardedHead head = forwarded("", "GET /team/v1/models?a=b HTTP/1.1");
  head.rewritten = "/v1/models?a=b";
  CHECK(head.path == "/team/v1/models?a=b");
  CHECK(head.target() == "/v1/models?a=b");
  std::string out;
  append_request_head(out, head, "pod:8000", false, 0);
  CHECK(out.starts_with("GET /v1/models?a=b HTTP/1.1\r\nhost: example.com\r\n"));
  head.clear();
  CHECK(head.target().empty());
}

TEST_CASE("a route changes an answer's head, and its length may come later") {
  using Op = objects::HeaderChange::Op;
  http::Fields fields = answer_fields("Server: vllm\r\nContent-Length: 3\r\nA: b\r\n", {}, false);
  CHECK(fields.lines() == "Server: vllm\r\nA: b\r\n" + kAdded);
  const objects::HeaderChange changes[] = {{Op::remove, "server", ""}, {Op::set, "a", "c"}};
  change_fields(fields, changes);
  CHECK(fields.lines() == kAdded + "a: c\r\n");
}

TEST_CASE("the trace id of traceparent, if it is one") {
  const auto of = [](const std::string& value) {
    return std::string(forwarded("traceparent: " + value + "\r\n").trace_id());
  };
  const std::string id = "4bf92f3577b34da6a3ce929d0e0e4736";
  CHECK(of("00-" + id + "-00f067aa0ba902b7-01") == id);
  CHECK(of("cc-" + id + "-00f067aa0ba902b7-01-more") == id);
  CHECK(of("00-" + std::string(32, '0') + "-00f067aa0ba902b7-01").empty());
  CHECK(of("00-" + id).empty());
  CHECK(of("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01").empty());
  CHECK(of("").empty());
  CHECK(forwarded("").trace_id().empty());
  CHECK(lines(forwarded("traceparent: 00-" + id + "-00f067aa0ba902b7-01\r\n")).find(id) != std::string::npos);
}

TEST_CASE("Via names the version in which a request or an answer came") {
  const Parsed request(http::Parser::Kind::request, "GET / HTTP/1.0\r\n\r\n");
  Random random(1);
  ForwardedHead head;
  head.assign(request.head(), {.protocol = downstream::Protocol::http_1_0}, random);
  CHECK(lines(head).find("via: 1.0 penstock\r\n") != std::string::npos);
  const Parsed answer(http::Parser::Kind::response, "HTTP/1.0 200 OK\r\n\r\n");
  http::Fields fields;
  append_answer_fields(fields, answer.head(), false, {});
  CHECK(fields.lines().find("via: 1.0 penstock\r\n") != std::string::npos);
}

TEST_CASE("a trusted proxy says whether a request came by https, and else the connection; Via says by which version") {
  const Parsed parsed(http::Parser::Kind::request, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: HTTPS\r\n\r\n");
  Random random(1);
  struct Case {
    bool from_proxy, tls;
    const http::Head& head;
    std::string_view expected;
  };
  const Parsed plain(http::Parser::Kind::request, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n");
  const Parsed silent(http::Parser::Kind::request, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  for (const Case& one : {Case{true, false, parsed.head(), "https"}, Case{false, false, parsed.head(), "http"},
                          Case{true, true, plain.head(), "http"}, Case{false, true, plain.head(), "https"},
                          Case{true, true, silent.head(), "https"}, Case{true, false, silent.head(), "http"}}) {
    CAPTURE(one.from_proxy);
    CAPTURE(one.tls);
    ForwardedHead head;
    const downstream::Protocol protocol = one.tls ? downstream::Protocol::http_2 : downstream::Protocol::http_1_1;
    head.assign(one.head,
                {.protocol = protocol,
                 .tls = {.version = one.tls ? net::TlsVersion::tls1_3 : net::TlsVersion::none},
                 .from_proxy = one.from_proxy},
                random);
    CHECK(lines(head).find("x-forwarded-proto: " + std::string(one.expected) + "\r\n") != std::string::npos);
    CHECK(lines(head).find(one.tls ? "via: 2 penstock\r\n" : "via: 1.1 penstock\r\n") != std::string::npos);
  }
}

TEST_CASE("an endpoint that is not shown is not in the answer") {
  const std::string answer = answered("x-penstock-endpoint: forged\r\ncontent-length: 1\r\n");
  CHECK(answer.find("x-penstock-endpoint: 10.1.1.1:8000\r\n") != std::string::npos);
  const Parsed parsed(http::Parser::Kind::response, "HTTP/1.1 200 OK\r\nx-penstock-endpoint: forged\r\n\r\n");
  http::Fields hidden;
  append_answer_fields(hidden, parsed.head(), true, {});
  CHECK_FALSE(hidden.has("x-penstock-endpoint"));
}

TEST_CASE("who a client is") {
  const auto address = [](std::string_view text) { return net::IpAddress::parse(text); };
  ClientTrust trust;
  trust.proxies = net::IpRanges({"10.0.0.0/8"});
  trust.trusted = net::IpRanges({"192.168.0.0/16", "10.0.0.0/8"});
  const auto who = [&](std::string_view peer, const std::string& fields) {
    const Parsed parsed(http::Parser::Kind::request, "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n");
    return identify(address(peer), parsed.head(), trust);
  };
  const std::string forwarded_for = "X-Forwarded-For: 6.6.6.6, 192.168.1.1\r\nX-Forwarded-For: 10.0.0.2\r\n";
  CHECK(who("192.168.1.9", "").trusted);
  CHECK_FALSE(who("8.8.8.8", "").trusted);
  CHECK_FALSE(who("192.168.1.9", forwarded_for).trusted);  // behind a proxy that nobody vouches for
  CHECK(who("192.168.1.9", forwarded_for).address == address("192.168.1.9"));
  CHECK_FALSE(who("192.168.1.9", forwarded_for).forwarded);
  CHECK(who("10.0.0.1", forwarded_for).address == address("192.168.1.1"));
  CHECK(who("10.0.0.1", forwarded_for).trusted);
  CHECK(who("10.0.0.1", "X-Forwarded-For: 192.168.1.1, 6.6.6.6\r\n").address == address("6.6.6.6"));
  CHECK_FALSE(who("10.0.0.1", "X-Forwarded-For: 192.168.1.1, 6.6.6.6\r\n").trusted);
  CHECK(who("10.0.0.1", "X-Forwarded-For: 10.0.0.7, 10.0.0.8\r\n").address == address("10.0.0.7"));
  CHECK(who("10.0.0.1", "X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.8\r\n").address == address("10.0.0.8"));
  CHECK_FALSE(who("10.0.0.1", "").forwarded);
  CHECK(who("10.0.0.1", "").from_proxy);
  const Parsed parsed(http::Parser::Kind::request, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK_FALSE(identify(std::nullopt, parsed.head(), trust).trusted);
}
