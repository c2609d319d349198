// Where endpoints come from: combinations that contradict each other, and what the layers below are told.
#include <doctest/doctest.h>

#include "penstock/config/kubernetes.h"
#include "penstock/config/load.h"
#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::config;
using namespace penstock::test;

namespace {

std::string problems_of(const std::string& text) {
  std::string out;
  for (const Problem& problem : load_text("kind: GatewayConfig\n" + text, "f").problems)
    out += to_string(problem) + "\n";
  return out;
}

std::string problems_of_flags(std::vector<Flag> flags, const std::string& file = "") {
  std::string out;
  for (const Problem& problem : load(Source{.file = file, .flags = std::move(flags)}).problems) {
    out += to_string(problem) + "\n";
  }
  return out;
}

Options options_of(const std::string& text) {
  const LoadResult result = load_text("kind: GatewayConfig\nkubernetes:\n" + text, "f");
  REQUIRE_MESSAGE(result.ok(), to_string(result.problems.front()));
  return result.options;
}

}  // namespace

TEST_CASE("endpoints come from one source, and the error says what to drop") {
  CHECK(problems_of("endpoints: [http://h:1]\nkubernetes:\n  enabled: true\n") ==
        "f:2: endpoints: endpoints already come from the cluster; drop endpoints: or kubernetes.enabled\n");
  CHECK(problems_of("endpoints: [http://h:1]\nkubernetes:\n  api: http://h\n") ==
        "f:2: endpoints: endpoints already come from the cluster; drop endpoints: or kubernetes.api\n");
  CHECK(
      problems_of_flags({{"--endpoint", "endpoints", "http://h:1"}, {"--kubernetes", "kubernetes.enabled", "true"}}) ==
      "command line: --endpoint: endpoints already come from the cluster; drop --endpoint or --kubernetes\n");
  const std::string manifests = source_file("tests/golden/config/manifests");
  CHECK(problems_of_flags({{"--endpoint", "endpoints", "http://h:1"}, {"--manifests", "manifests", manifests}}) ==
        "command line: --endpoint: endpoints already come from the manifests; drop --endpoint or --manifests\n");
  CHECK(problems_of_flags({{"--kubernetes", "kubernetes.enabled", "true"}, {"--manifests", "manifests", manifests}}) ==
        "command line: --manifests: cannot be used together with a cluster: objects come from files or from the API "
        "server; drop --manifests or --kubernetes\n");
}

TEST_CASE("keys without a cluster to use them on are errors, unless the section is turned off") {
  CHECK(problems_of("kubernetes:\n  pools: a\n  write: true\n") ==
        "f:3: kubernetes.pools: has no effect without a cluster or manifests; add --kubernetes (kubernetes.enabled: "
        "true) or --manifests DIR\n"
        "f:4: kubernetes.write: has no effect without a cluster; add --kubernetes (kubernetes.enabled: true)\n");
  CHECK(problems_of("kubernetes:\n  enabled: false\n  pools: a\n  write: true\n").empty());
  CHECK(problems_of("kubernetes:\n  gateway_api: false\nmanifests: " + source_file("tests/golden/config/manifests") +
                    "\n")
            .starts_with("f:3: kubernetes.gateway_api: has no effect without a cluster; "));
  CHECK(problems_of("kubernetes:\n  pools: a\n  namespaces: b\nmanifests: " +
                    source_file("tests/golden/config/manifests") + "\n")
            .empty());
  CHECK(problems_of_flags({{"--pool", "kubernetes.pools", "a"}, {"--endpoint", "endpoints", "http://h:1"}})
            .starts_with("command line: --pool: has no effect without"));
}

TEST_CASE("a selector needs ports and one name, and ports need a selector") {
  const std::string on = "kubernetes:\n  enabled: true\n";
  CHECK(problems_of(on + "  endpoint_selector: app=vllm\n") ==
        "f:4: kubernetes.endpoint_selector: needs the ports of the model servers; add --endpoint-ports N,... "
        "(kubernetes.endpoint_ports)\n");
  CHECK(problems_of(on + "  endpoint_ports: [1]\n") ==
        "f:4: kubernetes.endpoint_ports: has no effect without labels that select pods; add --endpoint-selector "
        "KEY=VALUE,... (kubernetes.endpoint_selector)\n");
  CHECK(problems_of(on + "  endpoint_selector: app=vllm\n  endpoint_ports: [70000]\n") ==
        "f:5: kubernetes.endpoint_ports[0]: \"70000\" is not a port; expected list: up to 8: ports, 1 to 65535\n");
  CHECK(problems_of(on + "  endpoint_selector: app=vllm\n  endpoint_ports: 1\n  pools: [a, b]\n") ==
        "f:6: kubernetes.pools: names several pools, and kubernetes.endpoint_selector makes one; give one name\n");
}

TEST_CASE("credentials beside an address that uses none, and names that could be anywhere, are errors") {
  CHECK(
      problems_of("kubernetes:\n  api: http://h:1\n  kubeconfig: /k\n  context: c\n") ==
      "f:4: kubernetes.kubeconfig: has no effect with kubernetes.api, which uses no credentials; drop one of the two\n"
      "f:5: kubernetes.context: has no effect with kubernetes.api, which uses no credentials; drop one of the two\n");
  CHECK(problems_of("kubernetes:\n  enabled: true\n  namespaces: [\"*\", a]\n") ==
        "f:4: kubernetes.namespaces: lists * and names; give one of them\n");
  CHECK(problems_of("kubernetes:\n  enabled: true\n  namespaces: [\"*\"]\n  pools: [b, a/b]\n") ==
        "f:5: kubernetes.pools: \"b\" could be in any namespace; write NAMESPACE/b\n");
}

TEST_CASE("names get the home namespace, and every namespace that is named is looked at") {
  const objects::ResolveOptions two =
      resolve_options(options_of("  enabled: true\n  pools: [a, x/b]\n  services: [\"s:http\"]\n"), {}, "home");
  CHECK(two.pools == std::vector<objects::PoolName>{{"home", "a"}, {"x", "b"}});
  CHECK(two.service_pools == std::vector<objects::ServicePool>{{"home", "s", "http"}});
  CHECK(two.namespaces == std::vector<std::string>{"home", "x"});
  CHECK(two.inference_pools);
  CHECK_FALSE(two.implicit_gateway);
  const objects::ResolveOptions elsewhere =
      resolve_options(options_of("  enabled: true\n  pools: [x/b]\n"), {}, "home");
  CHECK(elsewhere.namespaces == std::vector<std::string>{"x"});
  const objects::ResolveOptions all = resolve_options(options_of("  enabled: true\n"), {}, "");
  CHECK(all.namespaces == std::vector<std::string>{"default"});
  CHECK(all.pools.empty());
  CHECK(resolve_options(options_of("  enabled: true\n  namespaces: [\"*\"]\n"), {}, "home").namespaces.empty());
  CHECK(resolve_options(options_of("  enabled: true\n  namespaces: [b, a]\n  pools: c\n"), {}, "home").pools ==
        std::vector<objects::PoolName>{{"b", "c"}});
}

TEST_CASE("Gateways are told of every listener, by the port that they call it") {
  const LoadResult loaded = load_text(
      "kind: GatewayConfig\nlisten: 0.0.0.0:8080\nlisteners:\n  - {address: '[::]:8081', gateway_port: 81}\n"
      "  - {name: any, address: '127.0.0.1:0'}\nkubernetes:\n  enabled: true\n",
      "f");
  REQUIRE_MESSAGE(loaded.ok(), to_string(loaded.problems.front()));
  CHECK(resolve_options(loaded.options, {}, "home").listeners ==
        std::vector<objects::OwnListener>{{"listen", 8080, false}, {"[::]:8081", 81, false}, {"any", 0, false}});
  Options without = loaded.options;
  without.listen = "none";
  CHECK(resolve_options(without, {}, "home").listeners.front().name == "[::]:8081");
}

TEST_CASE("a pool from labels is the only one, and is called default or what --pool says") {
  const std::string text = "  enabled: true\n  endpoint_selector: tier=gpu,app=vllm\n  endpoint_ports: [8000]\n";
  const objects::ResolveOptions plain = resolve_options(options_of(text), {}, "home");
  const objects::Labels labels{{"app", "vllm"}, {"tier", "gpu"}};
  CHECK(plain.selector_pools == std::vector<objects::SelectorPool>{{"home", "default", labels, {8000}}});
  CHECK_FALSE(plain.inference_pools);
  CHECK(plain.pools.empty());
  const objects::ResolveOptions named = resolve_options(options_of(text + "  pools: x/llama\n"), {}, "home");
  CHECK(named.selector_pools.at(0).ns == "x");
  CHECK(named.selector_pools.at(0).name == "llama");
  CHECK(named.namespaces == std::vector<std::string>{"x"});
}

TEST_CASE("our own Service is where the pod is") {
  const PodIdentity pod{.name = "penstock-0", .ns = "edge"};
  CHECK(resolve_options(options_of("  enabled: true\n"), pod, "home").self.ns == "edge");
  CHECK(resolve_options(options_of("  enabled: true\n"), {}, "home").self.ns == "home");
  const objects::ResolveOptions other =
      resolve_options(options_of("  enabled: true\n  own_service: x/y\n"), pod, "home");
  CHECK(other.self.ns == "x");
  CHECK(other.self.name == "y");
  CHECK(resolve_options(options_of("  enabled: true\n  own_service: \"\"\n"), pod, "home").self.name.empty());
}

TEST_CASE("without an address for Gateways it is that of our own Service") {
  const PodIdentity pod{.name = "penstock-0", .ns = "edge"};
  const auto address = [&](const std::string& more, const PodIdentity& who) {
    return resolve_options(options_of("  enabled: true\n" + more), who, "home").gateway_address;
  };
  CHECK(address("", pod) == "penstock.edge.svc");
  CHECK(address("", {}).empty());  // outside a cluster
  CHECK(address("  own_service: x/y\n", {}) == "y.x.svc");
  CHECK(address("  own_service: x/y\n", pod) == "y.x.svc");
  CHECK(address("  own_service: \"\"\n", pod).empty());
  CHECK(address("  own_service: x/y\n  gateway_address: llm.example.com\n", pod) == "llm.example.com");
}

TEST_CASE("where the API server is comes from the options") {
  const Options options = options_of("  enabled: true\n  kubeconfig: /k\n  context: c\n");
  CHECK(kube_sources(options).kubeconfig == "/k");
  CHECK(kube_sources(options).context == "c");
  CHECK(kube_sources(options_of("  api: http://h:1\n")).api_url == "http://h:1");
}
