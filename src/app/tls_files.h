// The certificates of the TLS listeners, from files and from Gateways, those of the admin port, and what TLS with
// endpoints needs: reads the files, again when one of their folders changes (inotify) and once a minute in any case
// (for file systems that tell nothing), and hands each shard contexts of its own. Files that cannot be used change
// nothing: what is served stays, one line of the log says why, and a counter goes up. Thread: control.
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
  // Called when contexts are new: those of a listener (one for each shard), of the admin port, for endpoints.
  struct Publish {
    std::function<void(size_t listener, std::vector<Context> contexts)> listener;
    std::function<void(Context context)> admin;
    std::function<void(const ClientContext& context)> endpoints;
  };

  TlsFiles(net::EventLoop& loop, size_t shards, Publish publish);
  ~TlsFiles();
  TlsFiles(const TlsFiles&) = delete;

  // Reads the files of endpoint_tls, of the admin port and of all listeners, as far as they have TLS, and publishes
  // what is new. "": done; else nothing has changed, and why. There are always as many listeners as the first time.
  std::string set(const config::Options& options);
  // What listeners of Gateways bring, by the number of the listener in options.listeners; it is shown before what files
  // hold. One without chain and key cannot be used as it is now: what it was before stays.
  void set_gateway_certificates(std::vector<std::vector<net::TlsCertificate>> certificates);
  bool any() const;  // some listener or the admin port has TLS
  observability::TlsFilesStatus status() const;

 private:
  // A listener, or the admin port.
  struct Port {
    std::string name;
    std::optional<config::ListenerTls> tls;  // nothing: plain HTTP
    size_t contexts = 0;                     // one for each thread that serves it
    bool http2 = false;                      // it offers HTTP/2 (ALPN)
  };
  struct Served {
    Port port;
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

  std::vector<Port> ports_of(const config::Options& options) const;
  Result<Read> read(const Port& port, const std::vector<net::TlsCertificate>& of_gateways, size_t known) const;
  Result<ReadForEndpoints> read(const config::EndpointTls& tls, size_t known) const;
  void on_ready() override;
  void look();
  void look_at(size_t number);
  void publish(size_t number, std::vector<Context> contexts);
  void look_at_endpoints();
  void refused(size_t& last, const std::string& whose, const std::string& why);
  void watch_folders();
  void rotate();

  net::EventLoop& loop_;
  size_t shards_;
  Publish publish_;
  std::shared_ptr<net::TlsTicketKeys> tickets_ = std::make_shared<net::TlsTicketKeys>();
  std::vector<Served> served_;                         // by the number of the listener, and last the admin port
  std::unique_ptr<config::EndpointTls> endpoint_tls_;  // null: no endpoint is asked in TLS
  size_t endpoint_state_ = 0, endpoint_refused_ = 0;   // as in Served
  net::Timer look_, rotation_;
  int inotify_ = -1;
  net::SocketId watch_;
  uint64_t reloads_ = 0, reloads_failed_ = 0;
};

}  // namespace penstock::app
