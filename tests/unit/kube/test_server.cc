#include "test_server.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace penstock::kube::test {
namespace {

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
};
using Cert = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Memory = std::unique_ptr<BIO, Free>;

Cert read_cert(const std::string& pem) {
  const Memory memory(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Cert(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr));
}

Key read_key(const std::string& pem) {
  const Memory memory(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Key(PEM_read_bio_PrivateKey(memory.get(), nullptr, nullptr, nullptr));
}

}  // namespace

// ---- one connection ----

Connection::~Connection() {
  if (tls_ != nullptr) {
    SSL_shutdown(tls_);
    SSL_free(tls_);
  }
}

ssize_t Connection::read_some(char* into, size_t size) {
  return tls_ != nullptr ? SSL_read(tls_, into, static_cast<int>(size)) : ::recv(fd_, into, size, 0);
}

std::string Connection::read_request() {
  for (;;) {
    const size_t head = left_.find("\r\n\r\n");
    if (head != std::string::npos) {
      const size_t length = left_.find("Content-Length: ");
      const size_t body = length < head ? std::strtoull(left_.c_str() + length + 16, nullptr, 10) : 0;
      if (left_.size() >= head + 4 + body) {
        std::string request = left_.substr(0, head + 4 + body);
        left_.erase(0, request.size());
        return request;
      }
    }
    char piece[4096];
    const ssize_t got = read_some(piece, sizeof piece);
    if (got <= 0) return {};
    left_.append(piece, static_cast<size_t>(got));
  }
}

bool Connection::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = tls_ != nullptr ? SSL_write(tls_, text.data(), static_cast<int>(text.size()))
                                         : ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool Connection::answer(int status, std::string_view body, std::string_view headers) {
  std::string text =
      "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  return write(text.append(headers).append("\r\n").append(body));
}

void Connection::wait_for_end() {
  char piece[4096];
  while (read_some(piece, sizeof piece) > 0) {
  }
}

void Connection::reset() {
  const linger at_once{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  SSL_free(std::exchange(tls_, nullptr));
}

void Connection::leave() {
  ::shutdown(fd_, SHUT_RDWR);
}

std::string Connection::client_name() const {
  const Cert cert(SSL_get1_peer_certificate(tls_));
  if (!cert) return {};
  char name[64] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(cert.get()), NID_commonName, name, sizeof name);
  return name;
}

// ---- the server ----

TestServer::TestServer(Handler handler) : handler_(std::move(handler)) {
  listen();
}

TestServer::TestServer(Handler handler, const Certificate& certificate, const std::string& client_authority)
    : handler_(std::move(handler)), tls_(SSL_CTX_new(TLS_server_method())) {
  SSL_CTX_use_certificate(tls_, read_cert(certificate.pem).get());
  SSL_CTX_use_PrivateKey(tls_, read_key(certificate.key_pem).get());
  if (!client_authority.empty()) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(tls_), read_cert(client_authority).get());
    SSL_CTX_set_verify(tls_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  listen();
}

void TestServer::listen() {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 64) != 0) std::abort();
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

TestServer::~TestServer() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
  ::close(listener_);
  SSL_CTX_free(tls_);
}

std::vector<std::string> TestServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void TestServer::accept_all() {
  for (;;) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    ++connections_;
    const std::lock_guard lock(mutex_);
    open_.push_back(fd);
    threads_.emplace_back([this, fd] { serve(fd); });
  }
}

void TestServer::serve(int fd) {
  SSL* tls = nullptr;
  bool good = true;
  if (tls_ != nullptr) {
    tls = SSL_new(tls_);
    SSL_set_fd(tls, fd);
    good = SSL_accept(tls) == 1;
  }
  {
    Connection connection(fd, tls);
    while (good) {
      const std::string request = connection.read_request();
      if (request.empty()) break;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      handler_(connection, request);
      if (request.find("/end-after") != std::string::npos) break;
    }
  }
  const std::lock_guard lock(mutex_);
  std::erase(open_, fd);
  ::close(fd);
}

}  // namespace penstock::kube::test
