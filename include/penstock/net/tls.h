// TLS for byte streams (net/stream.h), with OpenSSL 3. Contexts are immutable: new files make a new context, and a
// stream keeps the one it began with. Secure defaults: TLS 1.2 at least, forward secrecy and AEAD only, no compression,
// no renegotiation, no early data (a request in it could be replayed).
//
// Threads: a context may be used by any thread, but OpenSSL 3.0 takes locks and shared counters of it in each
// handshake, so a server makes one per shard (they share TlsTicketKeys, so that a client can resume its session on any
// shard). A TlsRuntime belongs to its loop's thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/intrusive_list.h"
#include "penstock/base/result.h"
#include "penstock/base/stats.h"
#include "penstock/net/buffer.h"
#include "penstock/net/event_loop.h"

struct ssl_ctx_st;
struct ssl_session_st;

namespace penstock::net {

class TlsLayer;

enum class TlsVersion : uint8_t { tls1_2, tls1_3, none };
constexpr std::string_view to_string(TlsVersion version) {  // none: ""
  return version == TlsVersion::none ? "" : version == TlsVersion::tls1_2 ? "TLSv1.2" : "TLSv1.3";
}

// A certificate (the server's or client's own first, then its intermediates) and its private key, both as PEM text.
// `origin` names them in errors: usually the file of the certificate.
struct TlsCertificate {
  std::string chain, key, origin;
  // Of a server: for clients that ask for this name, or for one that it covers ("*.example.com", of any depth). "": for
  // all that no other certificate of the server is for.
  std::string host;
};

// none: not asked for. optional: one that is presented must verify. required: none presented, no connection.
enum class ClientCertificates : uint8_t { none, optional, required };

struct TlsServerOptions {
  // A client that asks for a name (SNI) gets one of those for the most specific `host` that fits: that with the name,
  // else one with a wildcard for its first label, else the first. Names are those of the certificate (subjectAltName
  // DNS; without any, the common name). Where no host fits, it is refused (unknown_name).
  // Certificates with the same names and different kinds of key go together: the client's algorithms decide.
  std::vector<TlsCertificate> certificates;
  bool strict_sni = false;   // refuse clients that ask for no name or an unknown one, of those for any host
  bool may_be_none = false;  // no certificate yet is no error: every client is refused (unknown_name)
  TlsVersion min_version = TlsVersion::tls1_2;
  std::vector<std::string> alpn = {"http/1.1"};  // the server's order; a client that offers others only is refused
  ClientCertificates client_certificates = ClientCertificates::none;
  std::string client_ca;  // PEM bundle that client certificates must lead to
  std::vector<std::string>
      client_names;  // one of these as subjectAltName (DNS or URI); empty: any verified certificate
  Duration handshake_timeout = seconds(10);
};

struct TlsClientOptions {
  std::string ca;                     // PEM bundle; "": the system's
  bool insecure_skip_verify = false;  // accept any certificate: whoever is in between can read and change everything
  std::string server_name;            // SNI, and the name that the certificate must have; "": see TlsConnect
  // The certificate must have one of these (DNS names and URIs) instead of the name; none: the name.
  std::vector<std::string> names;
  std::optional<TlsCertificate> certificate;  // for servers that ask for one
  TlsVersion min_version = TlsVersion::tls1_2;
  std::vector<std::string> alpn = {"http/1.1"};
  Duration handshake_timeout = seconds(10);
};

// The keys that protect session tickets: the current one, and two older ones whose tickets are still accepted. One
// object per process, so that a ticket is good on every shard. Any thread.
class TlsTicketKeys {
 public:
  static constexpr Duration rotation = seconds(12 * 3600);
  struct Key {
    std::array<unsigned char, 16> name;
    std::array<unsigned char, 32> cipher, mac;
  };

  TlsTicketKeys();  // one random key
  void rotate();    // a new random key; the fourth oldest is forgotten
  Key current() const;
  std::optional<Key> find(const unsigned char (&name)[16]) const;

 private:
  static constexpr size_t kept = 3;
  mutable std::mutex mutex_;  // taken once per handshake
  std::vector<Key> keys_;     // newest first
};

// What a loaded certificate says, for metrics and logs.
struct TlsCertificateInfo {
  std::string origin;
  std::vector<std::string> names;
  int64_t not_after_s = 0;  // since 1970
};

class TlsServerContext {
 public:
  // Errors name the origin: a pair that does not match, an expired certificate, a broken chain, an unreadable key.
  static Result<std::shared_ptr<const TlsServerContext>> make(const TlsServerOptions& options,
                                                              std::shared_ptr<const TlsTicketKeys> tickets);
  virtual ~TlsServerContext() = default;
  virtual const std::vector<TlsCertificateInfo>& certificates() const = 0;

 protected:
  TlsServerContext() = default;
};

class TlsClientContext {
 public:
  static Result<std::shared_ptr<const TlsClientContext>> make(const TlsClientOptions& options);
  virtual ~TlsClientContext() = default;

 protected:
  TlsClientContext() = default;
};

// The last session with one endpoint, kept to make the next handshake shorter. Belongs to one thread.
class TlsSession {
 public:
  TlsSession() = default;
  ~TlsSession() { forget(); }
  TlsSession(const TlsSession&) = delete;

 private:
  friend class TlsLayer;
  void forget();
  ssl_session_st* session_ = nullptr;
  std::shared_ptr<const TlsClientContext> context_;  // another one may trust others: it begins anew
  std::string server_name_;
};

// Why a handshake failed.
enum class TlsFailure : uint8_t {
  timed_out,         // not finished within handshake_timeout
  closed,            // the peer closed or reset the connection
  not_tls,           // the first bytes are not TLS, such as a plain HTTP request
  no_agreement,      // no version, cipher or protocol (ALPN) in common
  unknown_name,      // strict_sni, and no certificate has the name
  peer_certificate,  // the peer's certificate is missing, does not verify, or is not allowed
  refused_by_peer,   // the peer sent an alert: it may not trust our certificate
  no_memory,         // the memory budget has no room for what arrived before the handshake was done
  protocol,          // anything else that breaks the protocol
};
constexpr size_t tls_failures = static_cast<size_t>(TlsFailure::protocol) + 1;
std::string_view to_string(TlsFailure failure);  // as a metric label

struct TlsStats {
  Counter handshakes, resumed;  // completed; of which with an earlier session
  std::array<Counter, tls_failures> failed;
  Gauge streams;  // open, also those in the handshake
};

struct TlsWaitingTag {};

// What the TLS streams of one loop share: scratch memory, statistics, and the order of handshakes. A full handshake
// takes 0.3 to 0.7 ms of CPU, so that of a thousand clients that connect at once would keep tokens waiting for half a
// second: at most `steps_per_turn` steps (a handshake has two) are made in a turn, behind its other events. Outlives
// its streams.
class TlsRuntime final : private Flushable {
 public:
  static constexpr int steps_per_turn = 2;

  TlsRuntime(EventLoop& loop, BlockPool& pool) : loop_(loop), pool_(pool) {}
  TlsRuntime(const TlsRuntime&) = delete;

  const TlsStats& server_stats() const { return server_stats_; }
  const TlsStats& client_stats() const { return client_stats_; }

 private:
  friend class TlsLayer;
  void flush() override;
  void queue(TlsLayer& layer);

  EventLoop& loop_;
  BlockPool& pool_;
  TlsStats server_stats_, client_stats_;
  IntrusiveList<TlsLayer, TlsWaitingTag> waiting_;
  std::vector<char> plain_, gather_;  // decrypted bytes on their way to the owner; pieces that become one record
  std::string sealed_;                // what OpenSSL has just written
};

// How a stream becomes TLS. The runtime outlives the stream.
struct TlsAccept {
  TlsRuntime* runtime = nullptr;
  std::shared_ptr<const TlsServerContext> context;
};
struct TlsConnect {
  TlsRuntime* runtime = nullptr;
  std::shared_ptr<const TlsClientContext> context;
  std::string server_name;              // used if the options have none; "": the certificate must name the IP address
  std::shared_ptr<TlsSession> session;  // null: no session is reused
};

// Of an established TLS stream.
struct TlsInfo {
  TlsVersion version = TlsVersion::none;
  std::string_view alpn;         // "": none was agreed on
  std::string_view server_name;  // what the client asked for; "": nothing
  // The peer's verified certificate: its first URI, else its first DNS name, else its common name. "": none.
  std::string_view peer_identity;
  bool resumed = false;
};

}  // namespace penstock::net
