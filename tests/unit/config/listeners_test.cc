// `listeners` of the file, and the flags that make one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "penstock/config/load.h"
#include "penstock/config/reference.h"
#include "penstock/config/tls.h"
#include "tests/support/certificates.h"

using namespace penstock;
using namespace penstock::config;

namespace {

// A folder with a.crt and a.key, b.crt and b.key, and ca.crt.
class Files {
 public:
  Files() : path_(std::filesystem::temp_directory_path() / "penstock-listeners-XXXXXX") {
    REQUIRE(mkdtemp(path_.data()) != nullptr);
    const auto authority = test::make_authority("ca");
    put("ca.crt", authority.pem);
    for (const std::string name : {"a", "b"}) {
      const auto made = test::issue(authority, name, "DNS:" + name + ".test");
      put(name + ".crt", made.pem);
      put(name + ".key", made.key_pem);
    }
  }
  ~Files() { std::filesystem::remove_all(path_); }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  void put(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }
  std::string pair(const std::string& cert, const std::string& key) const {
    return "{cert: " + path(cert) + ", key: " + path(key) + "}";
  }

 private:
  std::string path_;
};

LoadResult load_listeners(const std::string& text) {
  return load_text("kind: GatewayConfig\nlisteners:\n" + text, "f.yaml");
}

std::string problems(const LoadResult& result) {
  std::string out;
  for (const Problem& problem : result.problems) out += to_string(problem) + "\n";
  return out;
}

TEST_CASE("a listener with everything reaches the options") {
  const Files files;
  const LoadResult result = load_listeners(
      "  - name: secure\n    address: 0.0.0.0:8443\n    protocol: https\n    tls:\n      certificates:\n        - " +
      files.pair("a.crt", "a.key") + "\n        - " + files.pair("b.crt", "b.key") +
      "\n      strict_sni: true\n      min_version: 1.3\n      client_certificates: required\n      client_ca: " +
      files.path("ca.crt") + "\n      client_names: [a, 'spiffe://b']\n      handshake_timeout: 3s\n" +
      "  - {address: ':8081', protocol: http, gateway_port: 80}\n");
  REQUIRE_MESSAGE(result.ok(), problems(result));
  REQUIRE(result.options.listeners.size() == 2);
  const ListenerEntry& entry = result.options.listeners[0];
  CHECK(entry.name == "secure");
  CHECK(entry.address == "0.0.0.0:8443");
  REQUIRE(entry.tls.has_value());
  CHECK(entry.tls->certificates.size() == 2);
  CHECK(entry.tls->certificates[1].key == files.path("b.key"));
  CHECK(entry.tls->strict_sni);
  CHECK(entry.tls->min_version == net::TlsVersion::tls1_3);
  CHECK(entry.tls->client_certificates == net::ClientCertificates::required);
  CHECK(entry.tls->client_ca == files.path("ca.crt"));
  CHECK(entry.tls->client_names == std::vector<std::string>{"a", "spiffe://b"});
  CHECK(entry.tls->handshake_timeout == seconds(3));
  CHECK(result.options.listeners[1].name == ":8081");
  CHECK_FALSE(result.options.listeners[1].tls.has_value());
  CHECK(entry.gateway_port == 0);
  CHECK(result.options.listeners[1].gateway_port == 80);
}

TEST_CASE("what is wrong with a listener is said with its place") {
  const Files files;
  const auto problem = [](const std::string& text) { return problems(load_listeners(text)); };
  const std::string tls = "    tls: {certificates: [" + files.pair("a.crt", "a.key") + "]";
  CHECK(problem("  - {}\n") == "f.yaml:3: listeners[0].address: is missing; expected ADDRESS:PORT\n");
  CHECK(problem("  - {address: ':1', protocol: https}\n") ==
        "f.yaml:3: listeners[0].tls.certificates: is missing; protocol: https needs at least one pair of cert and key, "
        "or "
        "Gateways that bring them\n");
  CHECK(problem("  - {address: ':1', protocol: gopher}\n") ==
        "f.yaml:3: listeners[0].protocol: \"gopher\" is not one of: http, https\n");
  CHECK(problem("  - {address: ':1', gateway_port: 70000}\n") ==
        "f.yaml:3: listeners[0].gateway_port: is not a port; expected a whole number from 1 to 65535\n");
  CHECK(problem("  - {adress: ':1'}\n")
            .starts_with("f.yaml:3: listeners[0].adress: is not a known key; did you mean address? (known here: name, "
                         "address, protocol, gateway_port, "
                         "tls)\n"));
  CHECK(problem("  - address: ':1'\n    protocol: http\n" + tls + "}\n") ==
        "f.yaml:3: listeners[0].tls: has no effect with protocol: http; expected protocol: https\n");
  CHECK(problem("  - address: ':1'\n" + tls + ", min_version: 1.1}\n") ==
        "f.yaml:4: listeners[0].tls.min_version: \"1.1\" is not one of: 1.2, 1.3\n");
  CHECK(problem("  - address: ':1'\n" + tls + ", handshake_timeout: 1ms}\n")
            .starts_with("f.yaml:4: listeners[0].tls.handshake_timeout: is not a time for a handshake"));
  CHECK(problem("  - address: ':1'\n    tls: {certificates: [{cert: a}]}\n")
            .find("f.yaml:4: listeners[0].tls.certificates[0]: needs both cert and key") != std::string::npos);
  CHECK(problem("  - address: ':8080'\n" + tls + "}\n") ==
        "f.yaml:3: listeners[0].address: takes the same port as listen (0.0.0.0:8080)\n");
  CHECK(problem("  - {address: ':1'}\n  - {address: ':1'}\n").find("f.yaml:4: listeners[1].name: the name") !=
        std::string::npos);
  CHECK(problem("  - address: ':1'\n" + tls + ", client_ca: x}\n").find("no effect with client_certificates: none") !=
        std::string::npos);
  CHECK(problem("  - address: ':1'\n    tls: {certificates: [" + files.pair("a.crt", "b.key") + "]}\n") ==
        "f.yaml:3: listeners[0].tls: " + files.path("a.crt") +
            ": certificate and private key do not belong together\n");
  CHECK(problem("  - address: ':1'\n    tls: {certificates: [" + files.pair("none.crt", "a.key") + "]}\n") ==
        "f.yaml:3: listeners[0].tls: " + files.path("none.crt") + ": cannot be read: No such file or directory\n");
}

TEST_CASE("flags make a listener, and say what they lack") {
  const Files files;
  const auto with = [](std::vector<Flag> flags) { return load(Source{.flags = std::move(flags)}); };
  const Flag address{"--listen-tls", "listeners", ":8443"};
  const Flag certs{"--tls-cert", "listeners", files.path("a.crt") + "," + files.path("b.crt")};
  const Flag keys{"--tls-key", "listeners", files.path("a.key") + "," + files.path("b.key")};
  const LoadResult good = with({address, certs, keys});
  REQUIRE_MESSAGE(good.ok(), problems(good));
  REQUIRE(good.options.listeners.size() == 1);
  CHECK(good.options.listeners[0].tls->certificates.size() == 2);
  CHECK(problems(with({certs, keys})).find("--listen-tls: --tls-cert and --tls-key need --listen-tls ADDR:PORT") !=
        std::string::npos);
  CHECK(problems(with({address, certs})).find("as many of the one as of the other") != std::string::npos);
  CHECK(problems(with({{"--listen-tls", "listeners", "here"}, certs, keys})).find("--listen-tls: \"here\"") !=
        std::string::npos);
}

TEST_CASE("a listener needs no certificate where Gateways bring them") {
  for (const std::string more : {"kubernetes: {enabled: true}\n", "manifests: /nowhere\n"}) {
    const LoadResult result = load_text(
        "kind: GatewayConfig\nlisteners: [{address: ':1', protocol: https, tls: {min_version: 1.3}}]\n" + more,
        "f.yaml");
    CHECK(problems(result).find("certificates") == std::string::npos);
    REQUIRE(result.options.listeners.size() == 1);
    CHECK(result.options.listeners[0].tls->certificates.empty());
  }
  const std::string no_gateways = "kubernetes: {enabled: true, gateway_api: false}\n";
  CHECK(problems(load_listeners("  - {address: ':1', protocol: https}\n" + no_gateways)).find("Gateways that bring") !=
        std::string::npos);
  CHECK(load(Source{.flags = {{"--listen-tls", "listeners", ":8443"}, {"--kubernetes", "kubernetes.enabled", "true"}}})
            .ok());
}

TEST_CASE("listen may be none where there are listeners") {
  CHECK(load_text("kind: GatewayConfig\nlisten: none\nlisteners: [{address: ':1'}]\n", "f.yaml").ok());
  CHECK(problems(load_text("kind: GatewayConfig\nlisten: none\n", "f.yaml")) ==
        "f.yaml:2: listen: is none, and there are no listeners: clients could not connect\n");
}

TEST_CASE("a reload may change what TLS asks for, but not where listeners are") {
  Options from;
  from.listeners = {{.name = "a", .address = ":1", .tls = ListenerTls{.certificates = {{"a.crt", "a.key"}}}}};
  Options to = from;
  to.listeners[0].tls->strict_sni = true;
  CHECK(changes_needing_restart(from, to).empty());
  CHECK(diff(from, to) == std::vector<std::string>{"listeners[0]: a (:1, https, a.crt a.key) -> a (:1, https, a.crt "
                                                   "a.key, strict_sni)"});
  to.listeners[0].address = ":2";
  CHECK(changes_needing_restart(from, to).size() == 1);
  to = from;
  to.listeners[0].tls.reset();
  CHECK(changes_needing_restart(from, to).size() == 1);
}

LoadResult load_admin(const std::string& text) {
  return load_text("kind: GatewayConfig\nadmin:\n" + text, "f.yaml");
}

TEST_CASE("TLS of the admin port says what that of a listener says") {
  const Files files;
  const LoadResult result = load_admin(
      "  listen: ':9443'\n  debug: true\n  tls:\n    certificates: [" + files.pair("a.crt", "a.key") +
      "]\n    min_version: 1.3\n    client_certificates: required\n    client_ca: " + files.path("ca.crt") + "\n");
  REQUIRE_MESSAGE(result.ok(), problems(result));
  CHECK(result.options.admin == ":9443");
  CHECK(result.options.admin_debug);
  REQUIRE(result.options.admin_tls.has_value());
  CHECK(result.options.admin_tls->certificates[0].cert == files.path("a.crt"));
  CHECK(result.options.admin_tls->min_version == net::TlsVersion::tls1_3);
  CHECK(result.options.admin_tls->client_certificates == net::ClientCertificates::required);
  for (const std::string plain : {"  listen: ':9443'\n", "  debug: true\n"}) {
    CHECK_FALSE(load_admin(plain).options.admin_tls.has_value());
  }
  CHECK_FALSE(load_text("kind: GatewayConfig\nadmin: ':9443'\n", "f.yaml").options.admin_tls.has_value());
}

TEST_CASE("what is wrong with TLS of the admin port is said with its place") {
  const Files files;
  const auto problem = [](const std::string& text) { return problems(load_admin(text)); };
  CHECK(problem("  tls: {}\n") ==
        "f.yaml:3: admin.tls: has no certificates; expected at least one pair of cert and key\n");
  // No Gateway brings certificates for it.
  CHECK(problem("  tls: {}\nkubernetes: {enabled: true}\n").starts_with("f.yaml:3: admin.tls: has no certificates"));
  CHECK(problem("  tls: true\n").starts_with("f.yaml:3: admin.tls: is a section: expected keys below it"));
  CHECK(problem("  debug: true\n  tls: {certificates: [" + files.pair("a.crt", "b.key") + "]}\n") ==
        "f.yaml:4: admin.tls: " + files.path("a.crt") + ": certificate and private key do not belong together\n");
  CHECK(problem("  tls:\n    certificate: []\n")
            .find("f.yaml:4: admin.tls.certificate: is not a known key; did you mean certificates?") !=
        std::string::npos);
  CHECK(problem("  tlss: {}\n").find("did you mean tls? (known here: listen tls debug)") != std::string::npos);
  const std::string good = "  tls: {certificates: [" + files.pair("a.crt", "a.key") + "]";
  CHECK(problem(good + ", client_ca: x}\n").find("no effect with client_certificates: none") != std::string::npos);
  CHECK(problem(good + "}\nlisteners: [{name: admin, address: ':1'}]\n")
            .starts_with("f.yaml:4: listeners[0].name: is what the admin port is called in metrics"));
  CHECK(problem("  debug: true\nlisteners: [{name: admin, address: ':1'}]\n").empty());
}

TEST_CASE("a reload may change what TLS of the admin port says, but not whether there is any") {
  Options from;
  from.admin_tls = ListenerTls{.certificates = {{"a.crt", "a.key"}}};
  Options to = from;
  to.admin_tls->certificates[0].cert = "b.crt";
  CHECK(changes_needing_restart(from, to).empty());
  CHECK(diff(from, to) == std::vector<std::string>{"admin.tls: https, a.crt a.key -> https, b.crt a.key"});
  to.admin_tls.reset();
  CHECK(diff(from, to) == std::vector<std::string>{"admin.tls: https, a.crt a.key -> http"});
  CHECK(changes_needing_restart(from, to) == std::vector<std::string>{"admin.tls (whether there is TLS)"});
}

TEST_CASE("certificate and key come from one state of a mounted Secret") {
  const Files files;
  namespace fs = std::filesystem;
  const auto version = [&](const std::string& name, const std::string& from) {
    fs::create_directory(files.path(name));
    fs::copy_file(files.path(from + ".crt"), files.path(name + "/tls.crt"));
    fs::copy_file(files.path(from + ".key"), files.path(name + "/tls.key"));
  };
  version("..1", "a");
  version("..2", "b");
  fs::create_directory_symlink("..1", files.path("..data"));
  // The links of the files lead elsewhere for a moment, as if the folder had been turned between two reads.
  fs::create_symlink("..1/tls.crt", files.path("tls.crt"));
  fs::create_symlink("..2/tls.key", files.path("tls.key"));
  const ListenerTls tls{.certificates = {{files.path("tls.crt"), files.path("tls.key")}}};
  const auto read = read_listener_tls(tls);
  REQUIRE(read.ok());
  CHECK(net::TlsServerContext::make(*read, std::make_shared<net::TlsTicketKeys>()).ok());
  CHECK(tls_folders(tls) == std::vector<std::string>{files.path("").substr(0, files.path("").size() - 1)});
}

TEST_CASE("TLS with endpoints: who is verified by which name, and what cannot be") {
  const Files files;
  const auto read = [](const std::string& text) { return load_text("kind: GatewayConfig\n" + text, "f.yaml"); };
  const LoadResult good = read(
      "endpoints: ['https://a.test:1', {url: 'https://10.0.0.1:2', tls_server_name: b.test}]\n"
      "endpoint_tls: {ca: " +
      files.path("ca.crt") + ", server_name: c.test, cert: " + files.path("a.crt") + ", key: " + files.path("a.key") +
      "}\n");
  REQUIRE_MESSAGE(good.ok(), problems(good));
  CHECK(good.options.endpoints[0].name == "a.test:1");
  CHECK(good.options.endpoints[1].tls_server_name == "b.test");
  CHECK(needs_endpoint_tls(good.options));
  CHECK(tls_folders(good.options.endpoint_tls).size() == 1);
  const auto client = read_endpoint_tls(good.options.endpoint_tls);
  REQUIRE(client.ok());
  CHECK(client->server_name == "c.test");
  CHECK(client->certificate.has_value());
  CHECK_FALSE(needs_endpoint_tls(read("endpoints: ['http://a:1']\n").options));

  CHECK(problems(read("endpoint_tls: {cert: a.crt}\n")) ==
        "f.yaml:2: endpoint_tls.cert: needs endpoint_tls.key beside it\n");
  CHECK(problems(read("endpoint_tls: {ca: /nowhere}\n")) ==
        "f.yaml:2: endpoint_tls.ca: /nowhere: cannot be read: No such file or directory\n");
  CHECK(problems(read("endpoint_tls: {ca: " + files.path("a.key") + "}\n")) ==
        "f.yaml:2: endpoint_tls.ca: the CA bundle: no certificate in PEM form is in the file\n");
  const LoadResult careless = read("endpoint_tls: {insecure_skip_verify: true}\n");
  CHECK(careless.ok());
  REQUIRE(careless.notes.size() == 1);
  CHECK(careless.notes[0].message.starts_with("accepts any certificate"));
}

}  // namespace
