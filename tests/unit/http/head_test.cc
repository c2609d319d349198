#include "penstock/http/head.h"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/parsed_head.h"

using namespace penstock::http;

namespace {

penstock::test::ParsedHead parse(const std::string& fields) {
  return penstock::test::ParsedHead(Parser::Kind::request, "GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n");
}

}  // namespace

TEST_CASE("field names are found in any case and nothing else is") {
  CHECK(field_of("Content-Length") == Field::content_length);
  CHECK(field_of("CONTENT-LENGTH") == Field::content_length);
  CHECK(field_of("te") == Field::te);
  CHECK(field_of("x-gateway-destination-endpoint-subset") == Field::x_gateway_destination_endpoint_subset);
  CHECK(field_of("X-Gateway-Destination-Endpoint-Served") == Field::x_gateway_destination_endpoint_served);
  CHECK(field_of("Content-Lengthy") == Field::other);
  CHECK(field_of("Content-Lengtx") == Field::other);
  CHECK(field_of("xontent-length") == Field::other);
  CHECK(field_of("") == Field::other);
  CHECK(field_of("t") == Field::other);
  CHECK(field_of(std::string(1000, 'x')) == Field::other);
}

TEST_CASE("the newer names of the control headers mean the same fields") {
  CHECK(field_of("x-llm-d-inference-objective") == Field::x_gateway_inference_objective);
  CHECK(field_of("x-llm-d-inference-fairness-id") == Field::x_gateway_inference_fairness_id);
  CHECK(field_of("x-llm-d-model-name-rewrite") == Field::x_gateway_model_name_rewrite);
  CHECK(field_of("x-llm-d-slo-ttft-ms") == Field::x_slo_ttft_ms);
  CHECK(field_of("X-LLM-D-SLO-TPOT-MS") == Field::x_slo_tpot_ms);
}

TEST_CASE("every field that has a name is found by it") {
  const char* const names[] = {"host",
                               "connection",
                               "keep-alive",
                               "proxy-connection",
                               "te",
                               "trailer",
                               "transfer-encoding",
                               "upgrade",
                               "content-length",
                               "content-type",
                               "expect",
                               "accept",
                               "authorization",
                               "retry-after",
                               "date",
                               "server",
                               "via",
                               "x-forwarded-for",
                               "x-forwarded-proto",
                               "x-request-id",
                               "traceparent",
                               "x-session-token",
                               "x-gateway-inference-objective",
                               "x-gateway-inference-fairness-id",
                               "x-gateway-model-name-rewrite",
                               "x-gateway-destination-endpoint",
                               "x-gateway-destination-endpoint-subset",
                               "x-gateway-destination-endpoint-served",
                               "x-prefiller-host-port",
                               "x-encoder-hosts-ports",
                               "x-data-parallel-host-port",
                               "x-kv-cache-source-host-port",
                               "x-slo-ttft-ms",
                               "x-slo-tpot-ms",
                               "x-penstock-resume",
                               "x-penstock-explain",
                               "x-penstock-endpoint",
                               "test-epp-endpoint-selection",
                               "proxy-authenticate",
                               "proxy-authorization"};
  int expected = static_cast<int>(Field::other);
  for (const char* const name : names) {
    CAPTURE(name);
    CHECK(static_cast<int>(field_of(name)) == ++expected);
  }
  CHECK(expected == static_cast<int>(Field::proxy_authorization));
}

TEST_CASE("get gives the first value and has tells an empty one from none") {
  const auto parsed = parse("Accept: a\r\nAccept: b\r\nVia:\r\n");
  CHECK(parsed.head().get(Field::accept) == "a");
  CHECK(parsed.head().has(Field::via));
  CHECK(parsed.head().get(Field::via).empty());
  CHECK_FALSE(parsed.head().has(Field::server));
  CHECK(parsed.head().bytes() > 40);
}

TEST_CASE("Connection names fields in any case, in any of its values") {
  const auto parsed =
      parse("Connection: keep-alive, X-One\r\nConnection: x-two ,\r\nX-One: 1\r\nX-TWO: 2\r\nX-Thr: 3\r\n");
  CHECK(parsed.head().named_by_connection("x-one"));
  CHECK(parsed.head().named_by_connection("X-Two"));
  CHECK_FALSE(parsed.head().named_by_connection("x-thr"));
  CHECK_FALSE(parsed.head().named_by_connection("x"));
  int hops = 0;
  for (const Header& header : parsed.head().headers()) hops += is_hop_by_hop(parsed.head(), header);
  CHECK(hops == 4);
}

TEST_CASE("the path of a target has neither query nor authority") {
  CHECK(path_of("/") == "/");
  CHECK(path_of("/v1/models?x=/y") == "/v1/models");
  CHECK(path_of("/a#b?c") == "/a");
  CHECK(path_of("http://host:80/v1/models?q") == "/v1/models");
  CHECK(path_of("http://host") == "/");
  CHECK(path_of("http://host?q=/no") == "/");
  CHECK(path_of("/redirect?to=http://host/x") == "/redirect");
  CHECK(path_of("*") == "*");
  CHECK(path_of("") == "");
}
