// TLS of clients and endpoints.
#include "metrics_parts.h"
#include "penstock/net/tls.h"

namespace penstock::observability {

namespace {

using net::TlsFailure;
using net::TlsStats;
using Side = const TlsStats& (net::TlsRuntime::*)() const;

struct NamedSide {
  const char* name;
  Side stats;
};
constexpr NamedSide kSides[] = {{"client", &net::TlsRuntime::server_stats},
                                {"endpoint", &net::TlsRuntime::client_stats}};

template <typename Get>
double sum(const ExportInput& input, Side side, const Get& get) {
  double total = 0;
  for (const net::TlsRuntime* const runtime : {input.control_tls, input.admin_tls}) {
    if (runtime != nullptr) total += static_cast<double>(get((runtime->*side)()));
  }
  for (const ShardInput& shard : input.shards) {
    if (shard.tls != nullptr) total += static_cast<double>(get((shard.tls->*side)()));
  }
  return total;
}

}  // namespace

void add_tls_metrics(Families& families, const ExportInput& input) {
  auto handshakes = families.counter("penstock_tls_handshakes_total",
                                     "TLS handshakes that were completed, by peer (client or endpoint) and by whether "
                                     "they resumed an earlier session.");
  for (const NamedSide& side : kSides) {
    const double all = sum(input, side.stats, [](const TlsStats& stats) { return stats.handshakes.get(); });
    const double resumed = sum(input, side.stats, [](const TlsStats& stats) { return stats.resumed.get(); });
    handshakes.add(all - resumed, {{"peer", side.name}, {"resumed", "false"}});
    handshakes.add(resumed, {{"peer", side.name}, {"resumed", "true"}});
  }
  auto failures = families.counter(
      "penstock_tls_handshake_failures_total",
      "TLS handshakes that failed, by peer and reason: timed_out, closed (by the peer), not_tls (its first bytes), "
      "no_agreement (on version, cipher or protocol), unknown_name (no certificate is for it), "
      "peer_certificate (missing, not verified or not allowed), refused_by_peer (it sent an alert), no_memory "
      "(limits.memory), protocol (anything else).");
  for (const NamedSide& side : kSides) {
    for (size_t i = 0; i < net::tls_failures; ++i) {
      failures.add(sum(input, side.stats, [i](const TlsStats& stats) { return stats.failed[i].get(); }),
                   {{"peer", side.name}, {"reason", std::string(net::to_string(static_cast<TlsFailure>(i)))}});
    }
  }
  auto open = families.gauge("penstock_tls_connections", "Open TLS connections by peer, with those in the handshake.");
  for (const NamedSide& side : kSides) {
    open.add(sum(input, side.stats, [](const TlsStats& stats) { return stats.streams.get(); }), {{"peer", side.name}});
  }
  if (!input.tls_files) return;
  auto expiry = families.gauge("penstock_tls_certificate_expiry_timestamp_seconds",
                               "When each certificate that is served to clients ends, in seconds since 1970.");
  for (const TlsFilesStatus::Certificate& certificate : input.tls_files->certificates) {
    expiry.add(static_cast<double>(certificate.not_after_s),
               {{"listener", certificate.listener}, {"certificate", certificate.origin}});
  }
  auto reloads = families.counter("penstock_tls_certificate_reloads_total",
                                  "Changes of certificate files that were noticed: ok (they are served from then on), "
                                  "refused (they could not be used, what was served before stays).");
  reloads.add(static_cast<double>(input.tls_files->reloads), {{"result", "ok"}});
  reloads.add(static_cast<double>(input.tls_files->reloads_failed), {{"result", "refused"}});
}

}  // namespace penstock::observability
