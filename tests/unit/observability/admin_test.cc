#include "penstock/observability/admin.h"

#include "fixture.h"

using namespace penstock;
using namespace penstock::observability;

namespace {

AdminContext context_of(const Gateway& gateway, std::string not_ready = "") {
  return {
      .gather = [&gateway] { return gateway.input; }, .not_ready = [not_ready] { return not_ready; }, .decisions = {}};
}

}  // namespace

TEST_CASE("each admin page answers GET and HEAD with its type") {
  Gateway gateway;
  gateway.live();
  const AdminContext context = context_of(gateway);
  const std::pair<const char*, const char*> pages[] = {
      {"/", "text/html; charset=utf-8"},         {"/status", "application/json"},
      {"/healthz", "text/plain; charset=utf-8"}, {"/readyz?verbose", "text/plain; charset=utf-8"},
      {"/debug/decisions", "application/json"},  {"/metrics", "text/plain; version=0.0.4; charset=utf-8"},
  };
  for (const auto& page : pages) {
    const char *const path = page.first, *const type = page.second;
    for (const char* method : {"GET", "HEAD"}) {
      const AdminResponse response = handle_admin({method, path, true}, context);
      INFO(method << " " << path);
      CHECK(response.status == 200);
      CHECK(response.content_type == type);
      CHECK(response.body.empty() == response.metrics);
      CHECK(response.metrics == (std::string_view(path) == "/metrics"));
    }
  }
}

TEST_CASE("what does not exist is 404, another method is 405 and names what is allowed") {
  Gateway gateway;
  const AdminContext context = context_of(gateway);
  CHECK(handle_admin({"GET", "/nothing", true}, context).status == 404);
  CHECK(handle_admin({"GET", "/metrics/", true}, context).status == 404);
  CHECK(handle_admin({"GET", "", true}, context).status == 404);
  const AdminResponse refused = handle_admin({"POST", "/metrics", true}, context);
  CHECK(refused.status == 405);
  CHECK(refused.allow == "GET, HEAD");
}

TEST_CASE("a gateway that is not ready says why, and is alive all the same") {
  Gateway gateway;
  const AdminContext context = context_of(gateway, "draining");
  const AdminResponse response = handle_admin({"GET", "/readyz", true}, context);
  CHECK(response.status == 503);
  CHECK(response.body == "not ready: draining\n");
  CHECK(handle_admin({"GET", "/healthz", true}, context).status == 200);
}

TEST_CASE("from elsewhere debug pages are refused and the status is reduced, unless admin.debug opens them") {
  Gateway gateway;
  gateway.live();
  AdminContext context = context_of(gateway);
  const AdminResponse refused = handle_admin({"GET", "/debug/decisions", false}, context);
  CHECK(refused.status == 403);
  CHECK(refused.body.find("admin.debug: true") != std::string::npos);
  const auto shows = [&](bool local, std::string_view text) {
    return handle_admin({"GET", "/status", local}, context).body.find(text) != std::string::npos;
  };
  for (const char* detail : {"10.0.0.1:8000", "https://10.96.0.1", "403 Forbidden", "the filter CORS", "6.1.0"}) {
    INFO(detail);
    CHECK(shows(true, detail));
    CHECK_FALSE(shows(false, detail));
  }
  for (const char* plain : {"\"name\":\"pod-a\"", "\"in_flight\":2", "llama-8b", "\"problems_count\":2"})
    CHECK(shows(false, plain));
  for (const char* path : {"/", "/healthz", "/readyz", "/metrics"})
    CHECK(handle_admin({"GET", path, false}, context).status == 200);
  context.debug = [] { return true; };
  CHECK(handle_admin({"GET", "/debug/decisions", false}, context).status == 200);
  CHECK(shows(false, "https://10.96.0.1"));
}

TEST_CASE("which addresses are this host's own") {
  for (const char* ip : {"127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"}) CHECK(is_loopback(ip));
  for (const char* ip : {"", "10.0.0.1", "::", "::ffff:10.0.0.1", "1127.0.0.1", "fe80::1"})
    CHECK_FALSE(is_loopback(ip));
}

TEST_CASE("the status of a gateway with known numbers is this one") {
  Gateway gateway;
  gateway.live();
  check_golden("tests/golden/metrics/status.json", status_json(gateway.input, "draining"));
}

TEST_CASE("the status of a gateway that has just started is whole too") {
  Gateway gateway;
  gateway.input.snapshot = nullptr;
  gateway.input.memory = nullptr;
  gateway.input.shards[0].ring = nullptr;
  const std::string json = status_json(gateway.input, "");
  CHECK(json.find("\"pools\":[]") != std::string::npos);
  CHECK(json.find("\"ttft_ms_p50\":null") != std::string::npos);
  CHECK(json.find("\"ready\":true") != std::string::npos);
}

TEST_CASE("decisions of all shards are one list") {
  Gateway gateway;
  class StillClock final : public net::Clock {
    Instant now() override { return Instant(seconds(1)); }
    int64_t wall_time_us() override { return 0; }
  } clock;
  DecisionLog first(clock), silent(clock), last(clock);
  for (DecisionLog* log : {&first, &last}) {
    REQUIRE(log->slot(gateway.input.now) != nullptr);
    log->record(microseconds(1), &gateway.states[0], "m");
  }
  AdminContext context = context_of(gateway);
  CHECK(handle_admin({"GET", "/debug/decisions", true}, context).body == "{\"decisions\":[]}\n");
  context.decisions = {&first, &silent, &last};
  const std::string body = handle_admin({"GET", "/debug/decisions", true}, context).body;
  const auto line = [](int shard) {
    return R"({"time":"1970-01-01T00:00:00.000000Z","shard":)" + std::to_string(shard) +
           R"(,"model":"m","endpoint":"pod-a","cost_us":1,"attempt":1,"resumes":false,"why":null,"shadow":null,"inputs":null})";
  };
  CHECK(body == "{\"decisions\":[\n" + line(0) + ",\n" + line(2) + "]}\n");
}

TEST_CASE("the status page needs nothing from elsewhere") {
  const std::string_view page = status_page();
  CHECK(page.find("fetch('status'") != std::string_view::npos);
  CHECK(page.find("http://") == std::string_view::npos);
  CHECK(page.find("https://") == std::string_view::npos);
  CHECK(page.find("innerHTML") == std::string_view::npos);
}
