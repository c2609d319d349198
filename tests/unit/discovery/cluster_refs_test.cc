// What a Cluster reads because objects of the Gateway API refer to it: Secrets and ConfigMaps.
#include <algorithm>

#include "tests/unit/discovery/cluster_bench.h"

namespace penstock::discovery::test {
namespace {

const std::string secrets = "/api/v1/secrets", grants = "/apis/gateway.networking.k8s.io/v1beta1/referencegrants";

void put_https_gateway(Bench& b, const std::string& refs) {
  b.api->put(classes, "", "c", "uc", R"(},"spec":{"controllerName":"penstock.dev/gateway"})");
  b.api->put(gateways, "ns", "g", "ug",
             R"(},"spec":{"gatewayClassName":"c","listeners":[{"name":"l","port":443,"protocol":"HTTPS",)"
             R"("tls":{"certificateRefs":[)" +
                 refs + "]}}]}");
}

void put_secret(Bench& b, const std::string& ns, const std::string& name, const std::string& key = "a2V5") {
  b.api->put(secrets, ns, name, "us",
             R"(},"type":"kubernetes.io/tls","data":{"tls.crt":"Y2VydA==","tls.key":")" + key + "\"}");
}

ClusterOptions https_options() {
  ClusterOptions options = options_of(true);
  options.resolve.listeners = {{.name = "secure", .port = 8443, .tls = true}};
  return options;
}

std::string key_of(const Bench& b) {
  const auto& all = b.cluster->desired().certificates;
  return all.empty() || all[0].empty() || all[0][0].secret == nullptr ? "" : all[0][0].secret->key;
}

size_t secrets_asked(const Bench& b) {
  size_t count = 0;
  for (const std::string& one : b.api->asked()) count += one.starts_with(secrets);
  return count;
}

TEST_CASE("of Secrets only those are read that a listener of ours names, and may") {
  Bench b(https_options());
  b.put_pool();
  put_secret(b, "ns", "mine");
  put_https_gateway(b, R"({"name":"mine"},{"name":"theirs","namespace":"other"},{"name":"map","kind":"ConfigMap"})");
  b.start();
  CHECK(b.api->asked().contains(secrets + " in ns named mine"));
  CHECK(secrets_asked(b) == 1);
  CHECK(key_of(b) == "key");
  const int told = b.events.told;
  put_secret(b, "ns", "mine", "a2V5Mg==");
  b.run();
  CHECK(key_of(b) == "key2");
  CHECK(b.events.told == told + 1);
  b.api->put(grants, "other", "grant", "uf",
             R"(},"spec":{"from":[{"group":"gateway.networking.k8s.io","kind":"Gateway",)"
             R"("namespace":"ns"}],"to":[{"group":"","kind":"Secret"}]})");
  b.run(milliseconds(5));
  CHECK(b.api->asked().contains(secrets + " in other named theirs"));
  b.api->put(gateways, "ns", "g", "ug",
             R"(},"spec":{"gatewayClassName":"c","listeners":[{"name":"l","port":80,"protocol":"HTTP"}]})");
  b.run(seconds(6));
  CHECK(secrets_asked(b) == 0);
}

TEST_CASE("many Secrets are watched together") {
  Bench b(https_options());
  b.put_pool();
  std::string refs;
  for (int i = 0; i < 40; ++i)
    refs += (refs.empty() ? "" : ",") + std::string(R"({"name":"s)") + std::to_string(i) + R"("})";
  put_https_gateway(b, refs);
  b.start();
  CHECK(secrets_asked(b) == 1);
  CHECK(b.api->asked().contains(secrets));
}

TEST_CASE("without the right to read its Secret a listener says so, and everything else goes on") {
  Bench b(https_options());
  b.api->set_mode(secrets, FakeApi::Mode::forbidden);
  b.put_pool();
  put_https_gateway(b, R"({"name":"mine"})");
  b.start();
  b.run(seconds(11));
  CHECK(b.cluster->synced());
  const auto problems = b.cluster->status().problems;
  CHECK(std::any_of(problems.begin(), problems.end(), [](const objects::Notice& one) {
    return one.reason == "InvalidCertificateRef" && one.message.find("may not read it") != std::string::npos;
  }));
}

TEST_CASE("of ConfigMaps only those are read that a BackendTLSPolicy names, and a pool follows them") {
  const std::string maps = "/api/v1/configmaps", policies = gateway_api + "backendtlspolicies";
  Bench b(options_of(true));
  b.put_pool();
  b.api->put(maps, "ns", "ca", "um", R"(},"data":{"ca.crt":"one"})");
  b.api->put(
      policies, "ns", "tls", "ut",
      R"(},"spec":{"targetRefs":[{"group":"inference.networking.k8s.io","kind":"InferencePool","name":"p"}],)"
      R"("validation":{"hostname":"a.test","caCertificateRefs":[{"group":"","kind":"ConfigMap","name":"ca"}]}})");
  b.start();
  CHECK(b.api->asked().contains(maps + " in ns named ca"));
  const auto tls = [&] { return b.cluster->desired().pools.at(0)->tls; };
  REQUIRE(tls() != nullptr);
  CHECK(tls()->authorities == "one\n");
  const int told = b.events.told;
  b.api->put(maps, "ns", "ca", "um", R"(},"data":{"ca.crt":"two"})");
  b.run();
  CHECK(tls()->authorities == "two\n");
  CHECK(b.events.told == told + 1);
  b.api->remove(maps, "ns", "ca");
  b.run();
  CHECK_FALSE(tls()->usable);
  b.api->remove(policies, "ns", "tls");
  b.run();
  CHECK(tls() == nullptr);
}

}  // namespace
}  // namespace penstock::discovery::test
