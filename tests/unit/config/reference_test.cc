#include "penstock/config/reference.h"

#include <doctest/doctest.h>

#include "penstock/routing/router.h"
#include "src/config/table.h"
#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::config;
using namespace penstock::test;

TEST_CASE("docs/CONFIGURATION.md is what the table says") {
  check_golden("docs/CONFIGURATION.md", reference_markdown());
}

TEST_CASE("each default is a value that its own key accepts") {
  const Options defaults;
  for (const Key& key : table()) {
    INFO(key.name);
    Options options;
    CHECK(set_from_text(key, options, to_text(key, defaults)).empty());
    CHECK(to_text(key, options) == to_text(key, defaults));
    CHECK(key.doc.ends_with('.') == true);
  }
}

TEST_CASE("no two keys have the same name and no key is also a section") {
  for (const Key& key : table()) {
    CHECK(find_key(key.name) == &key);
    if (key.name != "admin") CHECK_FALSE(is_section(key.name));  // its address alone, or a section with admin.listen
  }
}

TEST_CASE("a diff names each changed key and endpoint, and equal options have none") {
  Options from, to;
  CHECK(diff(from, to).empty());
  from.endpoints = {{"http://a:1", "a", ""}, {"http://b:1", "b", ""}};
  to.endpoints = {{"http://b:2", "b", ""}, {"http://c:1", "c", "sglang"}};
  to.proxy.connect_timeout = seconds(2);
  to.proxy.total_timeout = seconds(60);
  to.kubernetes.endpoint_ports = {8000, 8001};
  to.kubernetes.api = "http://h";
  CHECK(diff(from, to) == std::vector<std::string>{
                              "kubernetes.endpoint_ports: [] -> 8000, 8001",
                              "kubernetes.api: none -> http://h",
                              "timeouts.connect: 1s -> 2s",
                              "timeouts.total: none -> 1m",
                              "endpoints: removed a (http://a:1)",
                              "endpoints: b (http://b:1) -> b (http://b:2)",
                              "endpoints: added c (http://c:1, sglang)",
                          });
  CHECK(changes_needing_restart(from, to) == std::vector<std::string>{"kubernetes.endpoint_ports", "kubernetes.api"});
}

TEST_CASE("listen, admin, shards, ring and the prefix index need a restart, timeouts do not") {
  for (const char* key :
       {"listen", "admin", "shards", "pin", "ring.engine", "ring.spin_us", "pool", "routing.policy",
        "routing.shadow_policy", "routing.prefix_index_entries", "metrics.epp_names", "limits.metrics_page"}) {
    CHECK(reload_needs_restart(key));
  }
  for (const Key& key : table()) {
    if (key.name.starts_with("kubernetes.") || key.name == "manifests") CHECK(key.needs_restart);
  }
  for (const char* key :
       {"timeouts.connect", "limits.body_bytes", "access_log.path", "endpoints", "admin.debug", "no.such"}) {
    CHECK_FALSE(reload_needs_restart(key));
  }
  Options from, to;
  to.listen = "127.0.0.1:1";
  to.proxy.attempts_max = 2;
  to.ring.kind = net::RingKind::epoll;
  CHECK(changes_needing_restart(from, to) == std::vector<std::string>{"listen", "ring.engine"});
}

TEST_CASE("the policies that can be named are those that routing has") {
  const Key* const key = find_key("routing.policy");
  REQUIRE(key != nullptr);
  const auto names = routing::policy_names();
  CHECK(std::vector<std::string_view>(key->words.begin(), key->words.end()) ==
        std::vector<std::string_view>(names.begin(), names.end()));
  const Key* const shadow = find_key("routing.shadow_policy");
  REQUIRE(shadow != nullptr);
  CHECK(shadow->words.front() == "none");
  CHECK(std::vector<std::string_view>(shadow->words.begin() + 1, shadow->words.end()) ==
        std::vector<std::string_view>(names.begin(), names.end()));
}
