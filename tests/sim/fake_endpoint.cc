#include "fake_endpoint.h"

#include <cstdlib>

#include "penstock/http/writer.h"

namespace penstock::test {

namespace {

// One request at a fake endpoint.
class Answer final : public downstream::RequestHandler, public net::Disposable {
 public:
  Answer(World& world, downstream::Connection& connection)
      : world_(world), connection_(connection), timer_(net::Timer::of<&Answer::go_on>(this)) {}

 private:
  enum class Framing : uint8_t { length, chunked, until_close };

  void on_body(std::string_view bytes) override { request_ += bytes; }
  void on_drained() override {}
  void on_gone(downstream::Gone) override { dispose(); }
  void on_request_failed(const downstream::RequestFailure&) override {
    world_.network.fail("bad request at an endpoint");
  }

  void on_request_end() override {
    const size_t at = request_.find("\"id ");
    if (at == std::string::npos) world_.network.fail("an endpoint got a request that nobody sent");
    id_ = static_cast<uint32_t>(std::strtoul(request_.c_str() + at + 4, nullptr, 10));
    body_ = answer_body(id_);
    if (request_.find(other_model) != std::string::npos) rename_model();
    const EndpointFaults& faults = world_.endpoint_faults;
    Random& random = world_.random;
    if (random.chance(faults.close_unanswered)) return cut();
    if (random.chance(faults.status_503)) return refuse();
    if (random.chance(faults.cut_body)) cut_at_ = random.below(body_.size());
    framing_ = random.chance(faults.until_close) && cut_at_ == npos ? Framing::until_close
               : random.chance(0.5)                                 ? Framing::chunked
                                                                    : Framing::length;
    if (random.chance(faults.slow_head)) return wait(milliseconds(static_cast<int64_t>(random.below(5000))));
    go_on();
  }

  void rename_model() {
    constexpr std::string_view name = R"("model":"m")";
    const std::string other = R"("model":")" + std::string(other_model) + '"';
    for (size_t at = body_.find(name); at != npos; at = body_.find(name, at + 1)) body_.replace(at, name.size(), other);
  }

  void go_on() {
    if (!head_sent_ && !send_head()) return;
    // Pieces end anywhere: in the middle of events, between them, with several in one.
    const size_t left = std::min(body_.size(), cut_at_) - sent_;
    const size_t size = std::min(left, 1 + world_.random.below(2000));
    if (!send_piece(std::string_view(body_).substr(sent_, size))) return lost();
    sent_ += size;
    if (sent_ == cut_at_) return cut();
    if (sent_ < body_.size()) return wait(milliseconds(static_cast<int64_t>(world_.random.below(20))));
    if (framing_ == Framing::chunked && !connection_.send_raw("0\r\n\r\n")) return lost();
    end(framing_ == Framing::until_close ? downstream::After::close : downstream::After::keep_alive);
  }

  bool send_head() {
    head_sent_ = true;
    std::string text;
    http::HeadWriter head(text);
    head.status_line(200);
    head.field("content-type", answer_streams(id_) ? "text/event-stream" : "application/json");
    if (framing_ == Framing::length) head.field("content-length", body_.size());
    if (framing_ == Framing::chunked) head.field("transfer-encoding", "chunked");
    if (framing_ == Framing::until_close) head.field("connection", "close");
    head.end();
    if (connection_.send_raw(text)) return true;
    lost();
    return false;
  }

  bool send_piece(std::string_view bytes) {
    if (bytes.empty()) return true;
    if (framing_ != Framing::chunked) return connection_.send_raw(bytes);
    std::string chunk;
    http::append_chunk(chunk, bytes);
    return connection_.send_raw(chunk);
  }

  void refuse() {
    const bool sent = connection_.send_raw("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy");
    if (sent) end(downstream::After::keep_alive);
    else lost();
  }

  void wait(Duration time) { connection_.loop().arm(timer_, time); }
  void cut() { lost(); }
  void lost() {
    downstream::Connection& connection = connection_;
    dispose();
    connection.abandon();
  }
  void end(downstream::After after) {
    downstream::Connection& connection = connection_;
    dispose();
    connection.finish_response(after);
  }
  void dispose() {
    timer_.cancel();
    connection_.loop().dispose(std::unique_ptr<net::Disposable>(this));
  }

  static constexpr size_t npos = std::string::npos;
  World& world_;
  downstream::Connection& connection_;
  net::Timer timer_;
  std::string request_, body_;
  uint32_t id_ = 0;
  size_t sent_ = 0, cut_at_ = npos;
  Framing framing_ = Framing::length;
  bool head_sent_ = false;
};

}  // namespace

FakeEndpoint::FakeEndpoint(World& world, uint16_t port)
    : world_(world), sim_(world.network), server_(sim_.loop(), sim_.pool(), *this, {}) {
  const auto bound = server_.listen(sim_address(port), false);
  if (!bound.ok()) world.network.fail("a fake endpoint cannot listen");
  address_ = *bound;
}

FakeEndpoint::~FakeEndpoint() = default;

downstream::RequestHandler* FakeEndpoint::on_request(downstream::Responder& client, http::Head&) {
  return new Answer(world_, static_cast<downstream::Connection&>(client));
}

void FakeEndpoint::on_bad_head(downstream::Responder&, const downstream::RequestFailure&) {
  world_.network.fail("the gateway sent a head that cannot be read");
}

}  // namespace penstock::test
