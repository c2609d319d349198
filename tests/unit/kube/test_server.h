// A small HTTP server over loopback, plain or TLS, each connection in its own thread, told what to do by the test.
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "penstock/base/time.h"
#include "tests/support/certificates.h"

namespace penstock::kube::test {

using penstock::test::Certificate;
using penstock::test::issue;
using penstock::test::make_authority;
inline constexpr const char* loopback_ip = "IP:127.0.0.1";

class Connection {
 public:
  Connection(int fd, SSL* tls) : fd_(fd), tls_(tls) {}
  ~Connection();
  Connection(const Connection&) = delete;
  // A whole request, body included; empty: the peer has left.
  std::string read_request();
  bool write(std::string_view text);
  // An answer with a length, kept alive.
  bool answer(int status, std::string_view body, std::string_view headers = {});
  // Waits until the peer closes.
  void wait_for_end();
  void reset();                     // RST: what the peer has not read may be lost
  void leave();                     // FIN, without saying goodbye in TLS
  std::string client_name() const;  // of its certificate

 private:
  ssize_t read_some(char* into, size_t size);
  const int fd_;
  SSL* tls_;
  std::string left_;
};

class TestServer {
 public:
  using Handler = std::function<void(Connection&, const std::string& request)>;  // called for each request

  explicit TestServer(Handler handler);
  // TLS; with `client_authority` a client certificate is demanded.
  TestServer(Handler handler, const Certificate& certificate, const std::string& client_authority = {});
  ~TestServer();
  std::string url() const { return (tls_ != nullptr ? "https" : "http") + std::string("://127.0.0.1:") + port(); }
  std::string port() const { return std::to_string(port_); }
  int connections() const { return connections_.load(); }
  std::vector<std::string> requests() const;

 private:
  void listen();
  void accept_all();
  void serve(int fd);

  Handler handler_;
  SSL_CTX* tls_ = nullptr;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace penstock::kube::test
