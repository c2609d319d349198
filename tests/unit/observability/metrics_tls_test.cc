#include <doctest/doctest.h>

#include "fixture.h"

namespace penstock::observability {
namespace {

TEST_CASE("TLS has its counters for both peers, and the certificates their ends") {
  Gateway f;
  std::string page;
  export_metrics(page, f.input);
  CHECK(page.find("penstock_tls_handshakes_total{peer=\"client\",resumed=\"false\"} 0\n") != std::string::npos);
  CHECK(page.find("penstock_tls_handshake_failures_total{peer=\"endpoint\",reason=\"peer_certificate\"} 0\n") !=
        std::string::npos);
  CHECK(page.find("penstock_tls_certificate") == std::string::npos);  // no listener has TLS

  f.input.tls_files =
      TlsFilesStatus{.reloads = 3, .reloads_failed = 1, .certificates = {{"secure", "/tls/tls.crt", 1'900'000'000}}};
  page.clear();
  export_metrics(page, f.input);
  CHECK(page.find("penstock_tls_certificate_expiry_timestamp_seconds{listener=\"secure\",certificate=\"/tls/tls.crt\"} "
                  "1900000000\n") != std::string::npos);
  CHECK(page.find("penstock_tls_certificate_reloads_total{result=\"refused\"} 1\n") != std::string::npos);
}

}  // namespace
}  // namespace penstock::observability
