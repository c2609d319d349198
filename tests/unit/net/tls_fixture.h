// What the tests of TLS share: two ends that record what happens to them, and the certificates.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "penstock/net/stream.h"
#include "tests/support/certificates.h"

namespace penstock::net::test {

inline const penstock::test::Certificate& authority() {
  static const penstock::test::Certificate made = penstock::test::make_authority("authority");
  return made;
}

inline TlsCertificate pair_of(const penstock::test::Certificate& certificate, std::string origin = "test.crt") {
  return {certificate.pem, certificate.key_pem, std::move(origin)};
}

// One certificate from the authority, made once.
inline const TlsCertificate& server_pair() {
  static const TlsCertificate made =
      pair_of(penstock::test::issue(authority(), "server", "DNS:server.test,IP:127.0.0.1"));
  return made;
}

inline TlsServerOptions server_options() {
  TlsServerOptions options;
  options.certificates = {server_pair()};
  return options;
}

inline TlsClientOptions client_options() {
  TlsClientOptions options;
  options.ca = authority().pem;
  options.server_name = "server.test";
  return options;
}

inline std::shared_ptr<const TlsServerContext> server_context(
    const TlsServerOptions& options = server_options(),
    std::shared_ptr<const TlsTicketKeys> tickets = std::make_shared<TlsTicketKeys>()) {
  auto made = TlsServerContext::make(options, std::move(tickets));
  if (!made.ok()) FAIL(made.error().text);
  return *made;
}

inline std::shared_ptr<const TlsClientContext> client_context(const TlsClientOptions& options = client_options()) {
  auto made = TlsClientContext::make(options);
  if (!made.ok()) FAIL(made.error().text);
  return *made;
}

// Records its events and sends what it is told, as the stream takes it.
struct End final : SocketEvents {
  explicit End(EventLoop& loop) : stream(loop) {}
  ~End() { stream.close(); }

  void send(std::string_view bytes) {
    unsent.append(bytes);
    flush();
  }
  void finish() {
    finishes = true;
    flush();
  }
  void flush() {
    while (stream.open() && !unsent.empty()) {
      const iovec piece{unsent.data(), unsent.size()};
      const ssize_t sent = stream.send({&piece, 1});
      if (sent < 0) send_error = static_cast<int>(-sent);
      if (sent <= 0) return;
      const bool all = static_cast<size_t>(sent) == unsent.size();
      unsent.erase(0, static_cast<size_t>(sent));
      if (!all) return;
    }
    if (finishes && unsent.empty() && !std::exchange(finished, true)) stream.shutdown_send();
  }
  bool ended() const { return eof || error != 0; }

  void on_connected() override {
    CHECK_FALSE(connected);
    connected = true;
    flush();
  }
  void on_bytes(std::span<char> bytes) override {
    CHECK_FALSE(ended());
    received.append(bytes.data(), bytes.size());
    std::fill(bytes.begin(), bytes.end(), '!');  // the contract lets us scribble
    ++calls;
    if (when_bytes) when_bytes();
  }
  void on_eof() override {
    CHECK_FALSE(ended());
    eof = true;
  }
  void on_writable() override { flush(); }
  void on_error(int e) override {
    CHECK(error == 0);
    error = e;
    failure = stream.failure();
    if (when_error) when_error();
  }

  Stream stream;
  std::string received, unsent, failure;
  bool connected = false, eof = false, finishes = false, finished = false;
  int error = 0, send_error = 0;
  size_t calls = 0;
  std::function<void()> when_bytes, when_error;
};

}  // namespace penstock::net::test
