// What contexts accept of files, and how they say what is wrong.
#include "tests/unit/net/tls_fixture.h"

namespace penstock::net::test {
namespace {

using penstock::test::issue;

std::string problem(const TlsServerOptions& options) {
  const auto made = TlsServerContext::make(options, std::make_shared<TlsTicketKeys>());
  return made.ok() ? "" : made.error().text;
}

std::string problem_of(const TlsCertificate& certificate) {
  TlsServerOptions options;
  options.certificates = {certificate};
  return problem(options);
}

TEST_CASE("a certificate and its key are checked before they are used") {
  const auto good = issue(authority(), "good", "DNS:good.test"), other = issue(authority(), "other", "DNS:other.test");
  CHECK(problem_of(pair_of(good)).empty());
  CHECK(problem_of({good.pem, other.key_pem, "a.crt"}) == "a.crt: certificate and private key do not belong together");
  CHECK(problem_of({"", good.key_pem, "a.crt"}) == "a.crt: no certificate in PEM form is in the file");
  CHECK(problem_of({good.pem, "junk", "a.crt"}) ==
        "a.crt: its private key cannot be read: want PEM without a password");
  const auto expired = issue(authority(), "old", "DNS:old.test", {.begins_s = -7200, .ends_s = -3600});
  CHECK(problem_of(pair_of(expired, "a.crt")).starts_with("a.crt: the certificate has expired (20"));
  const auto early = issue(authority(), "new", "DNS:new.test", {.begins_s = 3600, .ends_s = 7200});
  CHECK(problem_of(pair_of(early, "a.crt")).starts_with("a.crt: the certificate is not valid yet (20"));
  const auto stranger = penstock::test::make_authority("stranger");
  CHECK(problem_of({good.pem + stranger.pem, good.key_pem, "a.crt"}) ==
        "a.crt: certificate 2 of the file has not issued the one before it");
  CHECK(problem_of({good.pem + authority().pem, good.key_pem, "a.crt"}).empty());
  CHECK(problem({}) == "TLS needs at least one certificate");
}

TEST_CASE("client certificates need somebody to verify them by") {
  TlsServerOptions options = server_options();
  options.client_certificates = ClientCertificates::optional;
  CHECK(problem(options) == "client certificates need a CA bundle to verify them");
  options.client_ca = "junk";
  CHECK(problem(options) == "the CA bundle for client certificates: no certificate in PEM form is in the file");
}

TEST_CASE("a context describes its certificates") {
  TlsServerOptions options;
  options.certificates = {pair_of(issue(authority(), "cn.test", ""), "a.crt"),
                          pair_of(issue(authority(), "b", "DNS:B.test,DNS:*.b.test"), "b.crt"),
                          pair_of(issue(authority(), "b", "DNS:B.test,DNS:*.b.test", {.rsa = true}), "c.crt")};
  const auto context = server_context(options);
  const auto& all = context->certificates();
  REQUIRE(all.size() == 3);
  CHECK(all[0].names == std::vector<std::string>{"cn.test"});
  CHECK(all[1].names == std::vector<std::string>{"b.test", "*.b.test"});
  CHECK(all[2].origin == "c.crt");
  CHECK(all[0].not_after_s > 1'700'000'000);
}

TEST_CASE("a client's bundle and certificate are checked as well") {
  TlsClientOptions options = client_options();
  options.ca = "junk";
  CHECK(TlsClientContext::make(options).error().text == "the CA bundle: no certificate in PEM form is in the file");
  options = client_options();
  options.certificate = TlsCertificate{server_pair().chain, "junk", "me.crt"};
  CHECK(TlsClientContext::make(options).error().text ==
        "me.crt: its private key cannot be read: want PEM without a password");
}

TEST_CASE("every failure has a word of its own") {
  std::vector<std::string_view> words;
  for (size_t i = 0; i < tls_failures; ++i) {
    const std::string_view word = to_string(static_cast<TlsFailure>(i));
    CHECK_FALSE(word.empty());
    CHECK(std::find(words.begin(), words.end(), word) == words.end());
    words.push_back(word);
  }
}

}  // namespace
}  // namespace penstock::net::test
