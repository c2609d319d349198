// TLS records on their way to a server's stream, with OpenSSL on both ends: cut, changed, repeated, lost, with bytes
// put between them. Whatever happens, the owner of the stream gets nothing but what the client wrote, in order, and
// nothing is left when it closes.
#include <cstdio>
#include <cstdlib>

#include "penstock/net/stream.h"
#include "tests/support/certificates.h"
#include "tests/support/raw_tls_client.h"

namespace {

using namespace penstock;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

struct Owner final : net::SocketEvents {
  explicit Owner(net::EventLoop& loop) : stream(loop) {}
  void on_bytes(std::span<char> bytes) override {
    require(!ended, "no bytes after the end");
    received.append(bytes.data(), bytes.size());
    const iovec piece{bytes.data(), bytes.size()};
    static_cast<void>(stream.send({&piece, 1}));
  }
  void on_eof() override {
    require(!ended, "one end");
    ended = true;
  }
  void on_writable() override {}
  void on_error(int) override {
    require(!failed, "one error");
    ended = failed = true;
    stream.close();
  }
  net::Stream stream;
  std::string received;
  bool ended = false, failed = false;
};

struct Acceptor final : net::AcceptEvents {
  void on_accept(int fd) override { take(fd); }
  void on_accept_error(int) override {}
  std::function<void(int)> take;
};

std::shared_ptr<const net::TlsServerContext> context() {
  static const auto made = [] {
    const test::Certificate authority = test::make_authority("authority");
    const test::Certificate server = test::issue(authority, "server", "DNS:server.test");
    net::TlsServerOptions options;
    options.certificates = {{server.pem, server.key_pem, "server"}};
    return *net::TlsServerContext::make(options, std::make_shared<net::TlsTicketKeys>());
  }();
  return made;
}

// The input is a list of steps: what to do, and with how much.
class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool done() const { return at_ >= size_; }
  uint8_t next() { return at_ < size_ ? data_[at_++] : 0; }
  std::string take(size_t wanted) {
    const size_t size = std::min(wanted, size_ - std::min(at_, size_));
    std::string bytes(reinterpret_cast<const char*>(data_) + at_, size);
    at_ += size;
    return bytes;
  }

 private:
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

void disturb(Script& script, std::string& out) {
  const uint8_t how = script.next(), where = script.next();
  const size_t at = out.empty() ? 0 : where * out.size() / 256;
  switch (how % 8) {
    case 0:
    case 1:
    case 2:
      return;  // let it pass
    case 3:
      if (!out.empty()) out[at] = static_cast<char>(out[at] ^ (script.next() | 1));
      return;
    case 4:
      out.insert(at, script.take(script.next()));
      return;
    case 5:
      out.resize(at);
      return;
    case 6:
      out += out;  // again
      return;
    case 7:
      out.erase(0, at);
      return;
  }
}

void run(Script script) {
  test::SimFaults faults;
  faults.fragment = faults.short_send = faults.short_delivery = 0.2;
  test::SimNetwork network(script.next(), faults);
  test::SimLoop sim(network);
  net::TlsRuntime runtime(sim.loop(), sim.pool());
  const net::TlsAccept accept{&runtime, context()};
  {
    Owner owner(sim.loop());
    Acceptor acceptor;
    acceptor.take = [&](int fd) { owner.stream.adopt(fd, owner, &accept); };
    net::Address bound;
    const net::SocketId listener = *sim.loop().ring().listen(test::sim_address(0), false, acceptor, &bound);
    test::RawTlsClient client(network, bound);
    const bool disturbed_handshake = script.next() % 4 == 0;
    if (disturbed_handshake) client.on_the_way = [&](std::string& out) { disturb(script, out); };
    client.handshake(script.next() % 64);
    client.on_the_way = [&](std::string& out) { disturb(script, out); };
    std::string written;
    for (int steps = 0; !script.done() && steps < 64; ++steps) {
      const std::string bytes = script.take(script.next());
      if (!bytes.empty() && client.write(bytes, script.next() % 16)) written += bytes;
      if (script.next() % 16 == 0) SSL_shutdown(client.ssl());
      if (script.next() % 16 == 0) SSL_key_update(client.ssl(), SSL_KEY_UPDATE_REQUESTED);
    }
    client.peer().close(script.next() % 2 == 0);
    network.run_for(seconds(20));
    require(written.starts_with(owner.received), "the owner gets what the client wrote, in order");
    owner.stream.close();
    sim.loop().ring().close_listener(listener);
  }
  require(sim.budget().used() == 0, "nothing is left in the budget");
  require(runtime.server_stats().streams.get() == 0, "no stream is left");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  run(Script(data, size));
  return 0;
}
