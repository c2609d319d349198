// The certificates of the TLS listeners: reads their files, again when one of their folders changes (inotify) and once
// a minute in any case (for file systems that tell nothing), and hands each shard contexts of its own. Files that
// cannot be used change nothing: what is served stays, one line of the log says why, and a counter goes up. Thread:
// control.
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
  // Called when a listener's contexts are new: one for each shard.
  using Publish = std::function<void(size_t listener, std::vector<Context> contexts)>;

  TlsFiles(net::EventLoop& loop, size_t shards, Publish publish);
  ~TlsFiles();
  TlsFiles(const TlsFiles&) = delete;

  // Reads the files of all listeners that have TLS, and publishes what is new. "": done; else nothing has changed, and
  // why.
  std::string set(const std::vector<config::ListenerEntry>& listeners);
  bool any() const;  // some listener has TLS
  observability::TlsFilesStatus status() const;

 private:
  struct Served {
    config::ListenerEntry entry;
    size_t state = 0;    // hash of what the files hold
    size_t refused = 0;  // of what was refused last: it is logged once
    std::vector<net::TlsCertificateInfo> certificates;
  };
  struct Read {
    size_t state = 0;
    std::vector<Context> contexts;
    std::vector<net::TlsCertificateInfo> certificates;
  };

  Result<Read> read(const config::ListenerEntry& entry, size_t known) const;
  void on_ready() override;
  void look();
  void look_at(size_t listener);
  void watch_folders();
  void rotate();

  net::EventLoop& loop_;
  size_t shards_;
  Publish publish_;
  std::shared_ptr<net::TlsTicketKeys> tickets_ = std::make_shared<net::TlsTicketKeys>();
  std::vector<Served> served_;  // by the number of the listener; those without TLS have no certificate
  net::Timer look_, rotation_;
  int inotify_ = -1;
  net::SocketId watch_;
  uint64_t reloads_ = 0, reloads_failed_ = 0;
};

}  // namespace penstock::app
