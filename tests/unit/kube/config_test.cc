// Where the API server is and how to authenticate: kubeconfig files, the pod's service account, --kube-api.
#include <doctest/doctest.h>

#include <map>

#include "folder.h"
#include "penstock/kube/config.h"

namespace penstock::kube::test {
namespace {

// Sources that see only these variables.
struct Sources {
  std::map<std::string, std::string> environment;
  ConfigSources sources;
  Sources() {
    sources.environment = [this](const char* name) {
      const auto found = environment.find(name);
      return found == environment.end() ? nullptr : found->second.c_str();
    };
  }
  Result<ClientConfig> load() const { return load_config(sources); }
};

std::string error_of(const Result<ClientConfig>& result) {
  return result.ok() ? std::string() : result.error().text;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::string kind_config = R"(
apiVersion: v1
kind: Config
current-context: kind
contexts:
- name: kind
  context: {cluster: kind, user: admin, namespace: models}
- name: other
  context: {cluster: far, user: robot}
clusters:
- name: kind
  cluster:
    server: https://127.0.0.1:6443/
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t
    tls-server-name: kubernetes
- name: far
  cluster:
    server: https://api.example:443/k8s/clusters/c1
    certificate-authority: pki/ca.crt
    proxy-url: http://proxy:3128
users:
- name: admin
  user:
    client-certificate-data: Y2VydA==
    client-key-data: a2V5
- name: robot
  user: {tokenFile: tokens/robot}
)";

// A kubeconfig of one user, given as YAML.
std::string with_user(const std::string& user) {
  return "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
         "clusters: [{name: k, cluster: {server: \"https://h\"}}]\nusers: [{name: u, user: " +
         user + "}]\n";
}

}  // namespace

TEST_CASE("a kubeconfig with certificates inside") {
  const Folder folder;
  Sources s;
  s.sources.kubeconfig = folder.write("config", kind_config);
  const Result<ClientConfig> config = s.load();
  REQUIRE_MESSAGE(config.ok(), error_of(config));
  const ClientConfig& c = config.value();
  CHECK(c.server == "https://127.0.0.1:6443");
  CHECK(c.ns == "models");
  CHECK(c.ca_pem == "-----BEGIN CERTIFICATE-----");
  CHECK(c.tls_server_name == "kubernetes");
  CHECK(c.client_certificate_pem == "cert");
  CHECK(c.client_key_pem == "key");
  CHECK(c.token.empty());
  CHECK(c.use_environment_proxy);
  CHECK(!c.insecure_skip_tls_verify);
  CHECK(has(c.source, "context kind"));
}

TEST_CASE("another context, with files relative to the kubeconfig") {
  const Folder folder;
  Sources s;
  s.sources.kubeconfig = folder.write("config", kind_config);
  s.sources.context = "other";
  CHECK(has(error_of(s.load()),
            "clusters[far].cluster.certificate-authority: cannot read " + folder.path() + "/pki/ca.crt"));
  folder.write("pki/ca.crt", "ca");
  CHECK(has(error_of(s.load()), "users[robot].user.tokenFile"));
  folder.write("tokens/robot", "t0ken\n");
  const Result<ClientConfig> config = s.load();
  REQUIRE_MESSAGE(config.ok(), error_of(config));
  CHECK(config.value().server == "https://api.example:443/k8s/clusters/c1");
  CHECK(config.value().ca_file == folder.path() + "/pki/ca.crt");
  CHECK(config.value().token_file == folder.path() + "/tokens/robot");
  CHECK(config.value().proxy_url == "http://proxy:3128");
  CHECK(!config.value().use_environment_proxy);
  CHECK(config.value().ns == "default");
}

TEST_CASE("$KUBECONFIG lists files, and the first that says something wins") {
  const Folder folder;
  Sources s;
  const std::string first =
      folder.write("first", "current-context: other\nusers: [{name: robot, user: {token: mine}}]\n");
  folder.write("b/pki/ca.crt", "ca");
  const std::string second = folder.write("b/second", kind_config);
  s.environment["KUBECONFIG"] = folder.path() + "/missing:" + first + ":" + second;
  s.environment["HOME"] = folder.path();
  const Result<ClientConfig> config = s.load();
  REQUIRE_MESSAGE(config.ok(), error_of(config));
  CHECK(config.value().token == "mine");
  CHECK(config.value().ca_file == folder.path() + "/b/pki/ca.crt");
  s.environment["KUBECONFIG"] = folder.path() + "/missing";
  CHECK(has(error_of(s.load()), "/missing does not exist"));
  SUBCASE("in the home folder at last") {
    s.environment.erase("KUBECONFIG");
    CHECK(has(error_of(s.load()), "--kube-api"));
    folder.write(".kube/config", kind_config);
    CHECK(s.load().ok());
  }
}

TEST_CASE("an exec plugin") {
  const Folder folder;
  Sources s;
  s.sources.kubeconfig = folder.write("config", with_user(R"({exec: {apiVersion: client.authentication.k8s.io/v1beta1,
    command: ./bin/get-token, args: [a, "b c"], env: [{name: PROFILE, value: x}], installHint: install it,
    provideClusterInfo: true, interactiveMode: Never}})"));
  const Result<ClientConfig> config = s.load();
  REQUIRE_MESSAGE(config.ok(), error_of(config));
  const ExecPlugin& exec = *config.value().exec;
  CHECK(exec.api_version == "client.authentication.k8s.io/v1beta1");
  CHECK(exec.command == folder.path() + "/./bin/get-token");
  CHECK(exec.arguments == std::vector<std::string>{"a", "b c"});
  CHECK(exec.environment == std::vector<std::pair<std::string, std::string>>{{"PROFILE", "x"}});
  CHECK(exec.install_hint == "install it");
  CHECK(exec.provide_cluster_info);
}

TEST_CASE("what is wrong is said with file and key") {
  const std::pair<std::string, std::string> cases[] = {
      {"[1, 2]", "not a map"},
      {"a: [", ":"},
      {"current-context: c\n", "contexts: has no entry named \"c\""},
      {"contexts: []\n", "current-context: is missing"},
      {with_user("{username: me, password: x}"), "users[u].user.username: is not supported"},
      {with_user("{auth-provider: {name: gcp}}"), "users[u].user.auth-provider: is not supported"},
      {with_user("{as: root}"), "users[u].user.as: is not supported"},
      {with_user("{client-certificate-data: Y2VydA==}"), "users[u].user.client-key: is missing"},
      {with_user("{client-certificate-data: '*', client-key-data: a2V5}"), "client-certificate-data: is not base64"},
      {with_user("{client-certificate: /nowhere/c, client-key: /nowhere/k}"), "cannot read /nowhere/c"},
      {with_user("{token: [1]}"), "users[u].user.token: is not a text"},
      {with_user("{exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}}"),
       "users[u].user.exec.apiVersion"},
      {with_user("{exec: {apiVersion: client.authentication.k8s.io/v1}}"), "exec.command: is missing"},
      {with_user("{exec: {command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Always}}"),
       "interactiveMode"},
      {"current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: "
       "'ftp://h'}}]\n",
       "clusters[k].cluster.server"},
      {"current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: "
       "'https://h', "
       "insecure-skip-tls-verify: true, certificate-authority-data: Y2E=}}]\n",
       "insecure-skip-tls-verify: cannot be true beside"},
  };
  for (const auto& [text, part] : cases) {
    const Folder folder;
    Sources s;
    s.sources.kubeconfig = folder.write("config", text);
    const std::string error = error_of(s.load());
    CAPTURE(error);
    CHECK(error.starts_with(s.sources.kubeconfig));
    CHECK(has(error, part));
  }
}

TEST_CASE("in a pod") {
  const Folder folder;
  Sources s;
  s.sources.service_account_folder = folder.path();
  s.environment = {{"KUBERNETES_SERVICE_HOST", "fd00::1"}, {"KUBERNETES_SERVICE_PORT", "443"}, {"HOME", folder.path()}};
  folder.write(".kube/config", kind_config);  // the pod's own account goes first
  CHECK(has(error_of(s.load()), folder.path() + "/ca.crt: cannot open"));
  folder.write("ca.crt", "ca");
  CHECK(has(error_of(s.load()), folder.path() + "/token: cannot open"));
  folder.write("token", " \n");
  CHECK(has(error_of(s.load()), "token: is empty"));
  folder.write("token", "t");
  s.environment["POD_NAMESPACE"] = "from-env";
  CHECK(s.load().value().ns == "from-env");
  folder.write("namespace", "llm\n");
  const Result<ClientConfig> config = s.load();
  REQUIRE(config.ok());
  CHECK(config.value().server == "https://[fd00::1]:443");
  CHECK(config.value().ns == "llm");
  CHECK(config.value().ca_file == folder.path() + "/ca.crt");
  CHECK(config.value().token_file == folder.path() + "/token");
  CHECK(!config.value().use_environment_proxy);
  s.environment["KUBERNETES_SERVICE_PORT"] = "https";
  CHECK(has(error_of(s.load()), "KUBERNETES_SERVICE_PORT"));
}

TEST_CASE("--kube-api goes before everything, and needs nothing else") {
  Sources s;
  s.environment["KUBERNETES_SERVICE_HOST"] = "10.0.0.1";
  s.sources.api_url = "http://127.0.0.1:8001/";
  const Result<ClientConfig> config = s.load();
  REQUIRE(config.ok());
  CHECK(config.value().server == "http://127.0.0.1:8001");
  CHECK(config.value().token.empty());
  s.sources.api_url = "127.0.0.1:8001";
  CHECK(has(error_of(s.load()), "--kube-api"));
}

TEST_CASE("server addresses") {
  const Result<ServerAddress> plain = parse_server("https://[::1]:6443/prefix/");
  REQUIRE(plain.ok());
  CHECK(plain.value().host == "[::1]");
  CHECK(plain.value().port == "6443");
  CHECK(plain.value().prefix == "/prefix");
  CHECK(parse_server("http://h").value().port == "80");
  CHECK(parse_server("https://h").value().port == "443");
  for (const char* wrong : {"", "h:1", "https://", "https://h:0", "https://h:99999", "https://u@h", "https://h?x=1",
                            "https://[::1", "https://h:"}) {
    CAPTURE(wrong);
    CHECK(!parse_server(wrong).ok());
  }
}

}  // namespace penstock::kube::test
