// Small conversions, and the JSON that this layer looks into.
#include "src/kube/encoding.h"
#include "penstock/base/base64.h"

#include <doctest/doctest.h>

#include "penstock/kube/reflector.h"
#include "src/kube/credentials.h"
#include "src/kube/decode.h"
#include "src/kube/event_body.h"

namespace penstock::kube::test {

TEST_CASE("base64 both ways") {
  for (const std::string text : {"", "a", "ab", "abc", "\xff\x01\x80zz"})
    CHECK(base64_decode(base64_encode(text)) == text);
  CHECK(base64_encode("ab") == "YWI=");
  CHECK(base64_decode("YW\nI") == "ab");
  for (const char* wrong : {"Y", "YWI=x", "Y*==", "===="}) CHECK(!base64_decode(wrong));
}

TEST_CASE("times") {
  CHECK(parse_rfc3339("1970-01-01T00:00:01Z") == 1'000'000);
  CHECK(parse_rfc3339("2024-02-29T12:00:00.25+01:00") == 1'709'204'400'250'000);
  for (const char* wrong : {"", "2024-02-30T00:00:00Z", "2024-02-01T24:00:00Z", "2024-02-01T00:00:00", "2024-02-01"}) {
    CHECK(!parse_rfc3339(wrong));
  }
  CHECK(format_micro_time(1'709'204'400'250'000) == "2024-02-29T11:00:00.250000Z");
  CHECK(parse_rfc3339(format_micro_time(1'709'204'400'250'001)) == 1'709'204'400'250'001);
}

TEST_CASE("texts are cut between characters") {
  CHECK(cut_utf8("h\xc3\xa9llo", 2) == "h");
  CHECK(cut_utf8("h\xc3\xa9llo", 3) == "h\xc3\xa9");
  CHECK(cut_utf8("abc", 9) == "abc");
}

TEST_CASE("what an exec plugin prints") {
  const std::string v1 = "client.authentication.k8s.io/v1";
  const auto parse = [&](const std::string& status) {
    return parse_exec_credential(R"({"kind":"ExecCredential","apiVersion":")" + v1 + R"(","status":)" + status + "}",
                                 v1);
  };
  const auto good = parse(
      R"({"token":"t","expirationTimestamp":"1970-01-01T00:00:09Z","clientCertificateData":"c","clientKeyData":"k"})");
  REQUIRE(good.ok());
  CHECK(good.value().token == "t");
  CHECK(good.value().certificate_pem == "c");
  CHECK(good.value().expires_us == 9'000'000);
  CHECK(parse(R"({"token":"t"})").ok());
  for (const char* wrong : {"{}", "null", R"({"token":""})", R"({"clientCertificateData":"c"})",
                            R"({"token":"t","clientKeyData":"k"})", R"({"token":"t","expirationTimestamp":"soon"})"}) {
    CAPTURE(wrong);
    CHECK(!parse(wrong).ok());
  }
  CHECK(!parse_exec_credential("not json", v1).ok());
  CHECK(!parse_exec_credential(R"({"kind":"ExecCredential","apiVersion":"v2","status":{"token":"t"}})", v1).ok());
}

TEST_CASE("what an exec plugin is told") {
  ClientConfig config;
  config.server = "https://h:1";
  config.tls_server_name = "n";
  const ExecPlugin quiet{.api_version = "client.authentication.k8s.io/v1", .command = "x"};
  CHECK(exec_info(quiet, config, "ca") ==
        R"({"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}})");
  ExecPlugin told = quiet;
  told.provide_cluster_info = true;
  CHECK(exec_info(told, config, "ca") ==
        R"({"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false,)"
        R"("cluster":{"server":"https://h:1","tls-server-name":"n","certificate-authority-data":"Y2E="}}})");
}

TEST_CASE("a Status is recognised in any order of its members, and nothing else is one") {
  Decoder decoder;
  const auto status = [&](std::string text) {
    text.reserve(text.size() + json_padding);
    return decoder.status(text);
  };
  const auto found = status(
      R"({"code":504,"details":{"causes":[{"x":1},{"reason":"ResourceVersionTooLarge"}],"retryAfterSeconds":2},"message":"m","reason":"Timeout","kind":"Status"})");
  REQUIRE(found);
  CHECK(found->code == 504);
  CHECK(found->version_too_large);
  CHECK(found->retry_after == seconds(2));
  CHECK(status(R"({"kind":"Status","message":"Too large resource version: 9, current: 3"})")->version_too_large);
  CHECK(status(R"({"kind":"Status","reason":7,"code":"x","details":null})"));
  for (const char* other :
       {"", "404 page not found", "<html>", "[]", R"({"kind":"Pod"})", "{", R"({"kind":"Status")"}) {
    CAPTURE(other);
    CHECK(!status(other));
  }
}

TEST_CASE("an Event keeps to what the API allows") {
  Event event{.api_version = "v1", .kind = "Pod", .ns = "ns", .name = std::string(253, 'n'), .uid = "u"};
  event.reason = "Because";
  event.note = std::string(1023, 'x') + "\xc3\xa9";
  event.warning = true;
  const std::string body = event_body(event, {.reporting_instance = "gw-1"}, 1'709'204'400'250'000, 3);
  CHECK(body.find(R"("type":"Warning","reason":"Because","action":"Because","note":")" + std::string(1023, 'x') +
                  "\"") != std::string::npos);
  CHECK(body.find(R"("eventTime":"2024-02-29T11:00:00.250000Z")") != std::string::npos);
  CHECK(body.find(R"("reportingController":"penstock.dev/penstock","reportingInstance":"gw-1")") != std::string::npos);
  const size_t name = body.find(R"("name":")") + 8;
  CHECK(body.find('"', name) - name <= 253);
}

}  // namespace penstock::kube::test
