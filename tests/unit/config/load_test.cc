#include "penstock/config/load.h"

#include <doctest/doctest.h>

#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::config;
using namespace penstock::test;

namespace {

std::string problems_of(const LoadResult& result) {
  std::string out;
  for (const Problem& problem : result.problems) out += to_string(problem) + "\n";
  return out;
}

}  // namespace

TEST_CASE("a file that says only its kind gives the defaults") {
  const LoadResult result = load_text("kind: GatewayConfig\n", "f.yaml");
  REQUIRE_MESSAGE(result.ok(), problems_of(result));
  CHECK(result.options.listen == "0.0.0.0:8080");
  CHECK(result.options.proxy.connect_timeout == seconds(1));
  CHECK(result.options.endpoints.empty());
}

TEST_CASE("every key of the file reaches its option") {
  const LoadResult result = load_file(source_file("tests/golden/config/full.yaml"));
  REQUIRE_MESSAGE(result.ok(), problems_of(result));
  const Options& o = result.options;
  CHECK(o.listen == "127.0.0.1:18080");
  CHECK(o.admin == "[::1]:19090");
  CHECK(o.pool_name == "llama");
  REQUIRE(o.endpoints.size() == 2);
  CHECK(o.endpoints[0].url == "http://10.0.0.1:8000");
  CHECK(o.endpoints[0].name == "10.0.0.1:8000");
  CHECK(o.endpoints[0].engine.empty());
  CHECK(o.endpoints[1].url == "http://gpu-2.example:8000");
  CHECK(o.endpoints[1].name == "gpu-2");
  CHECK(o.endpoints[1].engine == "sglang");
  CHECK(o.shards == 3);
  CHECK_FALSE(o.pin);
  CHECK(o.ring.kind == net::RingKind::epoll);
  CHECK(o.ring.spin == microseconds(50));
  CHECK(o.log_level == log::Level::debug);
  CHECK(o.log_format == log::Format::json);
  CHECK_FALSE(o.access_log.enabled);
  CHECK(o.access_log.format == log::Format::json);
  CHECK(o.access_log.path == "/var/log/penstock.log");
  CHECK(o.server.header_timeout == seconds(90));
  CHECK(o.server.body_timeout == Duration{0});
  CHECK(o.server.idle_timeout == seconds(7200));
  CHECK(o.server.write_timeout == milliseconds(1500));
  CHECK(o.proxy.connect_timeout == milliseconds(250));
  CHECK(o.proxy.first_byte_timeout == seconds(300));
  CHECK(o.proxy.chunk_idle_timeout == seconds(10));
  CHECK(o.proxy.total_timeout == seconds(3600));
  CHECK(o.client.idle_timeout == seconds(3));
  CHECK(o.server.parser.head_bytes_max == 32 * 1024);
  CHECK(o.proxy.body_bytes_max == 1'000'000'000);
  CHECK(o.limits.connections == 100);
  CHECK(o.proxy.requests_max == 50);
  CHECK(o.limits.memory_bytes == size_t{2} << 30);
  CHECK_FALSE(o.proxy.paths.defaults);
  CHECK(o.proxy.paths.allow == std::vector<std::string>{"/lab/**", "/sleep"});
  CHECK(o.responses.remembered == 1000);
  CHECK(o.responses.ttl == seconds(3600));
}

TEST_CASE("every key that concerns clients, retries and metrics reaches its option") {
  const LoadResult result = load_file(source_file("tests/golden/config/full.yaml"));
  REQUIRE_MESSAGE(result.ok(), problems_of(result));
  const Options& o = result.options;
  CHECK(o.server.min_rate == 1024);
  CHECK(o.limits.incomplete_heads_percent == 2.5);
  CHECK(o.proxy.connections_per_client == 12);
  CHECK(o.server.rate_grace == seconds(20));
  CHECK_FALSE(o.server.http2.enabled);
  CHECK(o.server.http2.streams == 1000);
  CHECK(o.server.http2.stream_window == 256 * 1024);
  CHECK(o.server.http2.connection_window == 1024 * 1024);
  CHECK(o.server.http2.resets == 5);
  CHECK(o.server.http2.idle_frames == 300);
  CHECK(o.access_log.query);
  CHECK(o.trusted_proxies == std::vector<std::string>{"10.0.0.0/8", "2001:db8::1"});
  CHECK(o.proxy.clients.endpoint_header == proxy::ShownTo::nobody);
  CHECK(o.proxy.clients.explain == proxy::ShownTo::everyone);
  CHECK(o.identity.trusted == std::vector<std::string>{"192.0.2.0/24"});
  CHECK(o.proxy.attempts_max == 5);
  CHECK(o.retry_budget.percent == 12.5);
  CHECK(o.retry_budget.minimum == 1);
  CHECK(o.proxy.second_opinions == 7);
  CHECK(o.proxy.ejection.consecutive_failures == 2);
  CHECK(o.proxy.ejection.base_penalty == milliseconds(100));
  CHECK(o.proxy.ejection.max_penalty == seconds(2));
  CHECK(o.proxy.ejection.slow_start == Duration{0});
  CHECK(o.poll.interval == milliseconds(20));
  CHECK(o.poll.idle_interval == milliseconds(500));
  CHECK(o.poll.timeout == seconds(2));
  CHECK(o.poll.metrics_path == "/m");
  CHECK(o.poll.health_path == "/h");
  CHECK(o.poll.health_interval == seconds(3));
  CHECK(o.metrics.engine == "trtllm-serve");
  CHECK(o.metrics.epp_names == observability::EppNames::both);
  CHECK(o.metrics.series_idle == seconds(180));
  CHECK(o.limits.metrics_page == 1024 * 1024);
  CHECK(o.policy == "least-load");
  CHECK(o.prefix_index_entries == 65536);
  CHECK(o.drain_delay == Duration{0});
  CHECK(o.drain_limit == seconds(30));
}

TEST_CASE("every key of the Kubernetes section reaches its option") {
  const LoadResult result = load_file(source_file("tests/golden/config/full.yaml"));
  REQUIRE_MESSAGE(result.ok(), problems_of(result));
  const Kubernetes& k = result.options.kubernetes;
  CHECK_FALSE(k.enabled);
  CHECK(k.pools == std::vector<std::string>{"llama", "team-b/qwen"});
  CHECK(k.namespaces == std::vector<std::string>{"team-a"});
  CHECK(k.endpoint_selector == "app=vllm,tier=gpu");
  CHECK(k.endpoint_ports == std::vector<uint16_t>{8000, 65535});
  CHECK(k.services == std::vector<std::string>{"vllm", "team-b/sglang:http"});
  CHECK(k.api == "http://127.0.0.1:8001/prefix");
  CHECK(k.kubeconfig == "/etc/kubeconfig");
  CHECK(k.context == "kind");
  CHECK_FALSE(k.write);
  CHECK_FALSE(k.gateway_api);
  CHECK(k.gateway_address == "203.0.113.7");
  CHECK(k.controller == "example.com/gateway");
  CHECK(k.own_service == "edge/gate");
}

TEST_CASE("every problem of a bad file is reported at once with its line and what would be right") {
  const std::string text = read_whole(source_file("tests/golden/config/bad.yaml"));
  check_golden("tests/golden/config/bad.txt", problems_of(load_text(text, "bad.yaml")));
}

TEST_CASE("a file that is not YAML, is empty, is no map or cannot be read is one problem") {
  for (const char* text :
       {"", "a: [", "- 1\n", "just text", "kind: GatewayConfig\n---\nkind: GatewayConfig\n",
        "? [a]\n: b\nkind: GatewayConfig", "kind: GatewayConfig\nendpoints: *nowhere", "\tkind: GatewayConfig"}) {
    INFO(text);
    const LoadResult result = load_text(text, "f.yaml");
    CHECK(result.problems.size() == 1);
    CHECK(problems_of(result).starts_with("f.yaml:"));
  }
  CHECK(problems_of(load_file("/nowhere/gateway.yaml")) ==
        "/nowhere/gateway.yaml: cannot be read: No such file or directory\n");
}

TEST_CASE("a section whose keys are all commented out is no problem") {
  CHECK(load_text("kind: GatewayConfig\ntimeouts:\n  # connect: 1s\nendpoints:\n", "f").ok());
}

TEST_CASE("flags override the file, and --endpoint replaces its list") {
  const Source source{.file = source_file("tests/golden/config/full.yaml"),
                      .flags = {{"--listen", "listen", "127.0.0.1:1"},
                                {"--endpoint", "endpoints", "http://127.0.0.1:7"},
                                {"--endpoint", "endpoints", "http://127.0.0.1:8"},
                                {"--spin-us", "ring.spin_us", "9"}}};
  const LoadResult result = load(source);
  REQUIRE_MESSAGE(result.ok(), problems_of(result));
  CHECK(result.options.listen == "127.0.0.1:1");
  CHECK(result.options.ring.spin == microseconds(9));
  REQUIRE(result.options.endpoints.size() == 2);
  CHECK(result.options.endpoints[0].name == "127.0.0.1:7");
  CHECK(result.options.shards == 3);
}

TEST_CASE("patterns of paths are checked, and one that opens a model server's control is noted") {
  CHECK(problems_of(load_text("kind: GatewayConfig\npaths:\n  allow: [/a/**/b]\n", "f"))
            .find("f:3: paths.allow[0]: \"/a/**/b\" has ** elsewhere than as its last segment") == 0);
  const LoadResult quiet = load_text("kind: GatewayConfig\npaths:\n  allow: [/lab/**]\n", "f");
  CHECK(quiet.ok());
  CHECK(quiet.notes.empty());
  const LoadResult open = load_text("kind: GatewayConfig\npaths:\n  allow:\n    - \"/**\"\n", "f");
  CHECK(open.ok());
  REQUIRE(open.notes.size() == 1);
  CHECK(open.notes[0].key == "paths.allow");
  CHECK(open.notes[0].message.find("/shutdown") != std::string::npos);
}

TEST_CASE("problems that only the whole shows point at a line of the file or at the flags") {
  CHECK(problems_of(load_text("kind: GatewayConfig\nlimits:\n  memory: 1MiB\n", "f")) ==
        "f:3: limits.memory: is smaller than limits.body_bytes (64MiB): the largest request could never be held\n");
  CHECK(problems_of(load(Source{.flags = {{"--admin", "admin", "0.0.0.0:8080"}}})) ==
        "command line: --admin: takes the same port as listen (0.0.0.0:8080)\n");
  CHECK(problems_of(load_text("kind: GatewayConfig\nlisten: 127.0.0.1:9090\n", "f")) ==
        "f:2: listen: takes the same port as admin (0.0.0.0:9090)\n");
  CHECK(problems_of(load_text("kind: GatewayConfig\nejection:\n  max_penalty: 1ms\n", "f")) ==
        "f:3: ejection.max_penalty: is shorter than ejection.base_penalty (1s)\n");
  CHECK(problems_of(load_text("kind: GatewayConfig\nejection:\n  base_penalty: 1h\n", "f")) ==
        "f:3: ejection.base_penalty: is longer than ejection.max_penalty (1m)\n");
  const LoadResult twice =
      load(Source{.flags = {{"--endpoint", "endpoints", "http://h:1"}, {"--endpoint", "endpoints", "http://h:1/"}}});
  CHECK(problems_of(twice) == "command line: --endpoint: \"http://h:1\" is listed twice\n");
}

TEST_CASE("the admin port is an address, or a map of its address and debug") {
  const auto loaded = [](const std::string& text) { return load_text("kind: GatewayConfig\n" + text, "f.yaml"); };
  CHECK(loaded("admin: 127.0.0.1:1\n").options.admin == "127.0.0.1:1");
  CHECK_FALSE(loaded("admin: 127.0.0.1:1\n").options.admin_debug);
  const LoadResult both = loaded("admin: {listen: '127.0.0.1:1', debug: true}\n");
  CHECK(both.options.admin == "127.0.0.1:1");
  CHECK(both.options.admin_debug);
  CHECK(loaded("admin: {debug: true}\n").options.admin == Options().admin);
  CHECK(problems_of(loaded("admin: {debgu: true}\n")).find("did you mean debug? (known here: listen tls debug)") !=
        std::string::npos);
  CHECK(problems_of(loaded("admin: {listen: 7}\n")).find("admin") != std::string::npos);
}

TEST_CASE("clients and admin pages cannot share a port where one address covers the other") {
  const auto overlap = [](const std::string& listen, const std::string& admin) {
    return !load(Source{.flags = {{"--listen", "listen", listen}, {"--admin", "admin", admin}}}).ok();
  };
  for (const char* all : {"0.0.0.0:80", ":80", "[::]:80"}) {
    INFO(all);
    for (const char* other : {"0.0.0.0:80", ":80", "[::]:80", "127.0.0.1:80"}) {
      CHECK(overlap(all, other));
      CHECK(overlap(other, all));
    }
    CHECK_FALSE(overlap(all, "127.0.0.1:81"));
  }
  CHECK(overlap("[::]:80", "[::1]:80"));
  CHECK(overlap("127.0.0.1:80", "127.0.0.1:80"));
  CHECK_FALSE(overlap("0.0.0.0:80", "[::1]:80"));
  CHECK_FALSE(overlap("127.0.0.1:80", "127.0.0.2:80"));
  CHECK_FALSE(overlap("0.0.0.0:0", "127.0.0.1:0"));
}

TEST_CASE("an endpoint's name is one visible word") {
  for (const char* name : {"\"two words\"", "\"a\\nb\"", "\"\\x7f\""}) {
    const LoadResult result = load_text(
        "kind: GatewayConfig\nendpoints:\n- {url: \"http://h:1\", name: " + std::string(name) + "}\n", "f.yaml");
    REQUIRE(result.problems.size() == 1);
    CHECK(result.problems[0].line == 3);
    CHECK(result.problems[0].key == "endpoints[0].name");
  }
}

TEST_CASE("an endpoint says what its name stands for; name servers are addresses") {
  const LoadResult good = load_text(
      "kind: GatewayConfig\n"
      "dns: {servers: [127.0.0.1, '127.0.0.1:5353', '::1', '[::1]:53'], addresses: all, min_ttl: 1s}\n"
      "readiness: {no_endpoint: ready}\n"
      "endpoints:\n- http://a:1\n- {url: http://b:1, dns: first}\n- {url: http://c:1, dns: all}\n",
      "f.yaml");
  REQUIRE_MESSAGE(good.ok(), problems_of(good));
  CHECK(good.options.all_addresses);
  CHECK(good.options.dns.servers.size() == 4);
  CHECK(good.options.no_endpoint == NoEndpoint::ready);
  CHECK(!good.options.endpoints[0].all_addresses.has_value());
  CHECK(good.options.endpoints[1].all_addresses == false);
  CHECK(good.options.endpoints[2].all_addresses == true);
  REQUIRE(good.endpoint_places.size() == 3);
  CHECK(to_string(good.endpoint_places[1]) == "f.yaml:6: endpoints[1]: ");

  const LoadResult bad = load_text(
      "kind: GatewayConfig\ndns:\n  servers: [dns.example, '127.0.0.1:0']\n  min_ttl: 1m\n"
      "endpoints:\n- {url: http://b:1, dns: some}\n",
      "f.yaml");
  CHECK(problems_of(bad) ==
        "f.yaml:3: dns.servers[0]: \"dns.example\" is no IP address, and has no port; expected list: up to 8: IP or "
        "IP:PORT\n"
        "f.yaml:3: dns.servers[1]: \"127.0.0.1:0\" is no IP address, and has the port \"0\" (expected 1 to 65535); "
        "expected list: up to 8: IP or IP:PORT\n"
        "f.yaml:4: dns.min_ttl: is longer than dns.max_ttl (30s)\n"
        "f.yaml:6: endpoints[0].dns: \"some\" is not one of: first, all\n");
}
