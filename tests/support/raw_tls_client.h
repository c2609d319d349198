// An independent TLS client: OpenSSL on memory, its bytes carried by a peer of the simulated network, whole or in
// pieces, as they are or changed on the way.
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <string>
#include <string_view>

#include "tests/support/sim_peer.h"

namespace penstock::test {

class RawTlsClient {
 public:
  RawTlsClient(SimNetwork& network, const net::Address& to)
      : network_(network), peer_(network), context_(SSL_CTX_new(TLS_client_method())), ssl_(SSL_new(context_)) {
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl_, in_, out_);
    SSL_set_connect_state(ssl_);
    if (peer_.connect(to)) network_.run_until([this] { return peer_.connected(); });
  }
  ~RawTlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  RawTlsClient(const RawTlsClient&) = delete;

  // Changes the bytes that go out.
  std::function<void(std::string&)> on_the_way;

  // `step` bytes at a time; 0: all at once.
  bool handshake(size_t step = 0) {
    for (int round = 0; round < 10; ++round) {
      const int result = SSL_do_handshake(ssl_);
      carry(step);
      if (result == 1) return true;
    }
    return false;
  }
  bool write(std::string_view bytes, size_t step = 0) {
    const bool written = SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())) > 0;
    carry(step);
    return written;
  }
  std::string read() {
    carry(0);
    std::string got(64 * 1024, '\0');
    const int size = SSL_read(ssl_, got.data(), static_cast<int>(got.size()));
    got.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return got;
  }
  // Both ways, for a moment of virtual time.
  void carry(size_t step) {
    char* bytes = nullptr;
    const auto size = static_cast<size_t>(BIO_get_mem_data(out_, &bytes));
    std::string out(bytes, size);
    static_cast<void>(BIO_reset(out_));
    if (on_the_way) on_the_way(out);
    for (size_t at = 0; at < out.size();) {
      const size_t part = step == 0 ? out.size() : std::min(step, out.size() - at);
      peer_.send(std::string_view(out).substr(at, part));
      at += part;
      if (step > 0) network_.run_for(milliseconds(1));
    }
    network_.run_for(milliseconds(5));
    const std::string got = peer_.take();
    if (!got.empty()) BIO_write(in_, got.data(), static_cast<int>(got.size()));
  }
  SimPeer& peer() { return peer_; }
  SSL* ssl() { return ssl_; }

 private:
  SimNetwork& network_;
  SimPeer peer_;
  SSL_CTX* context_;
  SSL* ssl_;
  BIO *in_ = nullptr, *out_ = nullptr;
};

}  // namespace penstock::test
