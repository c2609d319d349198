// Who may talk to whom: names, protocols, certificates of both sides, sessions.
#include <cerrno>

#include "tests/unit/net/tls_sim_fixture.h"

namespace penstock::net::test {
namespace {

using penstock::test::issue;

TlsCertificate named(const std::string& names) {
  return pair_of(issue(authority(), "cn of " + names, names), names);
}

// The certificate that a client gets that asks for this name: it verifies for the name, or the reason why not.
std::string served(const TlsServerOptions& options, const std::string& name) {
  Simulated s(options);
  TlsClientOptions client = client_options();
  client.server_name = name;
  auto end = s.connect(client);
  return s.talks(*end) ? std::string(end->stream.tls_info().peer_identity) : end->failure;
}

TEST_CASE("a client gets the certificate of the name it asks for") {
  TlsServerOptions options;
  options.certificates = {named("DNS:default.test"), named("DNS:*.wild.test"), named("DNS:a.wild.test,DNS:other.test")};
  CHECK(served(options, "default.test") == "default.test");
  CHECK(served(options, "a.wild.test") == "a.wild.test");  // exact before wildcard
  CHECK(served(options, "other.test") == "a.wild.test");   // its first name
  CHECK(served(options, "OTHER.test") == "a.wild.test");
  CHECK(served(options, "b.wild.test") == "*.wild.test");
  CHECK(served(options, "a.b.wild.test").find("verify failed") != std::string::npos);  // one label only
  CHECK(served(options, "unknown.test").find("verify failed") != std::string::npos);   // the default's
  options.strict_sni = true;
  CHECK(served(options, "b.wild.test") == "*.wild.test");
  CHECK(served(options, "unknown.test").find("unrecognized name") != std::string::npos);
  CHECK(served(options, "127.0.0.1").find("unrecognized name") != std::string::npos);  // an address is not asked for
}

TEST_CASE("of certificates that are for some hosts a client gets those of the most specific one") {
  const auto for_host = [](TlsCertificate certificate, const std::string& host) {
    certificate.host = host;
    return certificate;
  };
  TlsServerOptions options;
  options.certificates = {for_host(named("DNS:first.test,DNS:x.wild.test"), "*.wild.test"),
                          for_host(named("DNS:second.test,DNS:*.deep.wild.test"), "*.wild.test"),
                          for_host(named("DNS:exact.test,DNS:x.wild.test"), "x.wild.test"), named("DNS:any.test")};
  CHECK(served(options, "x.wild.test") == "exact.test");        // the host itself before one that covers it
  CHECK(served(options, "a.deep.wild.test") == "second.test");  // of the host's own, that with the name
  CHECK(served(options, "b.wild.test").find("verify failed") != std::string::npos);  // else its first
  CHECK(served(options, "any.test") == "any.test");
  CHECK(served(options, "unknown.test").find("verify failed") != std::string::npos);  // the first for any host
  options.certificates.pop_back();
  CHECK(served(options, "X.wild.test") == "exact.test");
  CHECK(served(options, "any.test").find("unrecognized name") != std::string::npos);  // there is none for it
  CHECK(served(options, "wild.test").find("unrecognized name") != std::string::npos);
  CHECK(served(options, "127.0.0.1").find("unrecognized name") != std::string::npos);
}

TEST_CASE("without any certificate yet every client is refused") {
  TlsServerOptions options;
  options.may_be_none = true;
  CHECK(served(options, "any.test").find("unrecognized name") != std::string::npos);
  Simulated s(options);
  auto end = s.connect(client_options());
  CHECK_FALSE(s.talks(*end));
  CHECK(s.server.failed(TlsFailure::unknown_name) == 1);
}

TEST_CASE("an unknown name is counted as such") {
  TlsServerOptions options = server_options();
  options.strict_sni = true;
  Simulated s(options);
  TlsClientOptions client = client_options();
  client.server_name = "unknown.test";
  auto end = s.connect(client);
  CHECK_FALSE(s.talks(*end));
  CHECK(s.server.failed(TlsFailure::unknown_name) == 1);
}

TEST_CASE("the protocol is the server's first that the client offers") {
  TlsServerOptions server = server_options();
  server.alpn = {"h2", "http/1.1"};
  TlsClientOptions client = client_options();
  const auto agreed = [&](std::vector<std::string> offered) -> std::string {
    client.alpn = std::move(offered);
    Simulated s(server);
    auto end = s.connect(client);
    if (!s.talks(*end)) return "refused: " + std::to_string(s.server.failed(TlsFailure::no_agreement));
    CHECK(s.server.last().stream.tls_info().alpn == end->stream.tls_info().alpn);
    return std::string(end->stream.tls_info().alpn);
  };
  CHECK(agreed({"http/1.1"}) == "http/1.1");
  CHECK(agreed({"http/1.1", "h2"}) == "h2");
  CHECK(agreed({}).empty());
  CHECK(agreed({"spdy/3"}) == "refused: 1");
}

TEST_CASE("versions") {
  TlsServerOptions server = server_options();
  TlsClientOptions client = client_options();
  CHECK(served(server, "server.test") == "server.test");
  server.min_version = TlsVersion::tls1_3;
  Simulated s(server);
  auto end = s.connect(client);
  REQUIRE(s.talks(*end));
  CHECK(end->stream.tls_info().version == TlsVersion::tls1_3);
  CHECK(s.server.last().stream.tls_info().server_name == "server.test");
}

TEST_CASE("a client trusts a server by authority and name or address, or says that it does not care") {
  Simulated s;
  TlsClientOptions client = client_options();
  SUBCASE("name") {
    CHECK(s.talks(*s.connect(client)));
  }
  SUBCASE("address as a name") {
    client.server_name = "127.0.0.1";
    CHECK(s.talks(*s.connect(client)));
  }
  SUBCASE("the address that it connects to") {
    client.server_name.clear();
    CHECK(s.talks(*s.connect(client)));
  }
  SUBCASE("another address") {
    client.server_name = "127.0.0.2";
    CHECK_FALSE(s.talks(*s.connect(client)));
    CHECK(s.client_runtime.client_stats().failed[static_cast<size_t>(TlsFailure::peer_certificate)].get() == 1);
  }
  SUBCASE("another name") {
    client.server_name = "another.test";
    auto end = s.connect(client);
    CHECK_FALSE(s.talks(*end));
    CHECK(end->error == EPROTO);
    s.network.run_for(seconds(1));
    CHECK(s.server.failed(TlsFailure::refused_by_peer) == 1);
  }
  SUBCASE("another authority") {
    client.ca = penstock::test::make_authority("stranger").pem;
    CHECK_FALSE(s.talks(*s.connect(client)));
  }
  SUBCASE("whatever it is") {
    client.ca.clear();
    client.server_name = "another.test";
    client.insecure_skip_verify = true;
    auto end = s.connect(client);
    CHECK(s.talks(*end));
    CHECK(end->stream.tls_info().peer_identity.empty());  // nobody has verified it
  }
}

struct ClientCase {
  ClientCertificates mode;
  std::optional<TlsCertificate> certificate;
  std::vector<std::string> allowed;
};

// The identity as the server knows it; "refused: reason".
std::string identity(const ClientCase& c) {
  TlsServerOptions server = server_options();
  server.client_certificates = c.mode;
  server.client_ca = authority().pem;
  server.client_names = c.allowed;
  Simulated s(server);
  TlsClientOptions client = client_options();
  client.certificate = c.certificate;
  auto end = s.connect(client);
  if (s.talks(*end)) return std::string(s.server.last().stream.tls_info().peer_identity);
  s.network.run_for(seconds(1));
  return "refused: " + std::to_string(s.server.failed(TlsFailure::peer_certificate));
}

TEST_CASE("a certificate may have to have another name than the one that is asked for") {
  TlsServerOptions server;
  server.certificates = {named("DNS:asked.test,DNS:*.wild.test,URI:spiffe://models/a")};
  const auto trusts = [&](const std::vector<std::string>& names, const std::string& asked = "asked.test") {
    Simulated s(server);
    TlsClientOptions client = client_options();
    client.server_name = asked;
    client.names = names;
    return s.talks(*s.connect(client));
  };
  CHECK(trusts({"asked.test"}));
  CHECK(trusts({"no.test", "x.wild.test"}));
  CHECK(trusts({"spiffe://models/a"}));
  CHECK(trusts({"spiffe://models/a"}, "another.test"));  // what is asked for does not matter then
  CHECK_FALSE(trusts({"no.test"}));
  CHECK_FALSE(trusts({"spiffe://models/b"}));
}

TEST_CASE("client certificates: asked for, verified, listed") {
  const auto pod = pair_of(issue(authority(), "pod", "URI:spiffe://cluster/ns/a/sa/web,DNS:web.a.svc"));
  const auto plain = pair_of(issue(authority(), "just a name", ""));
  const auto strange = pair_of(issue(penstock::test::make_authority("stranger"), "strange", "DNS:web.a.svc"));
  constexpr auto optional = ClientCertificates::optional, required = ClientCertificates::required;
  CHECK(identity({ClientCertificates::none, pod, {}}).empty());
  CHECK(identity({optional, std::nullopt, {}}).empty());
  CHECK(identity({optional, pod, {}}) == "spiffe://cluster/ns/a/sa/web");
  CHECK(identity({optional, strange, {}}) == "refused: 1");
  CHECK(identity({required, std::nullopt, {}}) == "refused: 1");
  CHECK(identity({required, plain, {}}) == "just a name");
  CHECK(identity({required, pod, {"spiffe://cluster/ns/a/sa/web"}}) == "spiffe://cluster/ns/a/sa/web");
  CHECK(identity({required, pod, {"web.a.svc"}}) == "spiffe://cluster/ns/a/sa/web");
  CHECK(identity({required, pod, {"spiffe://cluster/ns/b/sa/web"}}) == "refused: 1");
  CHECK(identity({required, plain, {"just a name"}}) == "refused: 1");  // a common name is not on the list
}

// ---- sessions ----

bool resumed(Simulated& s, const std::shared_ptr<const TlsClientContext>& client,
             const std::shared_ptr<TlsSession>& session) {
  s.server.ends.clear();
  auto end = s.connect(client, session);
  REQUIRE(s.talks(*end));
  s.network.run_for(seconds(1));  // tickets come behind the handshake
  CHECK(end->stream.tls_info().resumed == s.server.last().stream.tls_info().resumed);
  return end->stream.tls_info().resumed;
}

TEST_CASE("a session is resumed on every context that has the same ticket keys") {
  auto tickets = std::make_shared<TlsTicketKeys>();
  Simulated s;
  s.server.use(server_context(server_options(), tickets));
  const auto client = client_context();
  const auto session = std::make_shared<TlsSession>();
  CHECK_FALSE(resumed(s, client, session));
  for (int shard = 0; shard < 4; ++shard) {
    s.server.use(server_context(server_options(), tickets));
    CHECK(resumed(s, client, session));
  }
  CHECK(s.server.stats().resumed.get() == 4);
  s.server.use(server_context());  // with keys of its own
  CHECK_FALSE(resumed(s, client, session));
}

TEST_CASE("ticket keys are good for two rotations") {
  auto tickets = std::make_shared<TlsTicketKeys>();
  Simulated s;
  s.server.use(server_context(server_options(), tickets));
  const auto client = client_context();
  int rotations = 0;
  SUBCASE("one") {
    rotations = 1;
  }
  SUBCASE("two") {
    rotations = 2;
  }
  SUBCASE("three") {
    rotations = 3;
  }
  const auto session = std::make_shared<TlsSession>();
  CHECK_FALSE(resumed(s, client, session));
  for (int i = 0; i < rotations; ++i) tickets->rotate();
  CHECK(resumed(s, client, session) == (rotations <= 2));
}

TEST_CASE("a session does not get around new rules about who may come in, or whom the client trusts") {
  auto tickets = std::make_shared<TlsTicketKeys>();
  TlsServerOptions server = server_options();
  server.client_certificates = ClientCertificates::required;
  server.client_ca = authority().pem;
  Simulated s;
  s.server.use(server_context(server, tickets));
  TlsClientOptions options = client_options();
  options.certificate = pair_of(issue(authority(), "pod", "DNS:pod.test"));
  const auto client = client_context(options);
  const auto session = std::make_shared<TlsSession>();
  CHECK_FALSE(resumed(s, client, session));
  CHECK(resumed(s, client, session));
  CHECK(s.server.last().stream.tls_info().peer_identity == "pod.test");
  SUBCASE("the server's") {
    server.client_names = {"another.test"};
    s.server.use(server_context(server, tickets));
    auto end = s.connect(client, session);
    s.server.ends.clear();
    CHECK_FALSE(s.talks(*end));
    CHECK(s.server.failed(TlsFailure::peer_certificate) == 1);
  }
  SUBCASE("the client's") {
    CHECK_FALSE(resumed(s, client_context(options), session));
  }
}

}  // namespace
}  // namespace penstock::net::test
