// The certificates of the TLS listeners, from files and from Gateways, and what TLS with endpoints needs: reads the
// files, again when one of their folders changes (inotify) and once a minute in any case (for file systems that tell
// nothing), and hands each shard contexts of its own. Files that cannot be used change nothing: what is served stays,
// one line of the log says why, and a counter goes up. Thread: control.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "penstock/config/options.h"
#include "penstock/net/event_loop.h"
#include "penstock/net/tls.h"
#include "penstock/observability/metrics.h"

namespace penstock::app {

class TlsFiles final : private net::ReadyEvents {
 public:
  using Context = std::shared_ptr<const net::TlsServerContext>;
  using ClientContext = std::shared_ptr<const net::TlsClientContext>;
  // Called when a listener's contexts are new (one for each shard), and when that for endpoints is.
  using Publish = std::function<void(size_t listener, std::vector<Context> contexts)>;
  using PublishForEndpoints = std::function<void(const ClientContext& context)>;

  TlsFiles(net::EventLoop& loop, size_t shards, Publish publish, PublishForEndpoints publish_for_endpoints);
  ~TlsFiles();
  TlsFiles(const TlsFiles&) = delete;

  // Reads the files of endpoint_tls and of all listeners that have TLS, and publishes what is new. "": done; else
  // nothing has changed, and why.
  std::string set(const config::Options& options);
  // What listeners of Gateways bring, by the number of the listener in options.listeners; it is shown before what files
  // hold. One without chain and key cannot be used as it is now: what it was before stays.
  void set_gateway_certificates(std::vector<std::vector<net::TlsCertificate>> certificates);
  bool any() const;  // some listener has TLS
  observability::TlsFilesStatus status() const;

 private:
  struct Served {
    config::ListenerEntry entry;
    size_t state = 0;    // hash of what the files hold
    size_t refused = 0;  // of what was refused last: it is logged once
    std::vector<net::TlsCertificate> of_gateways;
    std::vector<net::TlsCertificateInfo> certificates;
  };
  struct Read {
    size_t state = 0;
    std::vector<Context> contexts;
    std::vector<net::TlsCertificateInfo> certificates;
  };

  struct ReadForEndpoints {
    size_t state = 0;
    ClientContext context;  // null: it is as known
  };

  Result<Read> read(const config::ListenerEntry& entry, const std::vector<net::TlsCertificate>& of_gateways,
                    size_t known, bool http2) const;
  Result<ReadForEndpoints> read(const config::EndpointTls& tls, size_t known) const;
  void on_ready() override;
  void look();
  void look_at(size_t listener);
  void look_at_endpoints();
  void refused(size_t& last, const std::string& whose, const std::string& why);
  void watch_folders();
  void rotate();

  net::EventLoop& loop_;
  size_t shards_;
  bool http2_ = false;  // listeners offer it (ALPN)
  Publish publish_;
  PublishForEndpoints publish_for_endpoints_;
  std::shared_ptr<net::TlsTicketKeys> tickets_ = std::make_shared<net::TlsTicketKeys>();
  std::vector<Served> served_;  // by the number of the listener; those without TLS have no certificate
  std::optional<config::EndpointTls> endpoint_tls_;   // nothing: no endpoint is asked in TLS
  size_t endpoint_state_ = 0, endpoint_refused_ = 0;  // as in Served
  net::Timer look_, rotation_;
  int inotify_ = -1;
  net::SocketId watch_;
  uint64_t reloads_ = 0, reloads_failed_ = 0;
};

}  // namespace penstock::app
