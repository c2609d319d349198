#include "fake_client.h"

namespace penstock::test {

FakeClient::FakeClient(World& world, uint32_t first_id, uint32_t requests, bool well_behaved)
    : world_(world),
      peer_(world.network),
      parser_(http::Parser::Kind::response, *this),
      next_id_(first_id),
      end_id_(first_id + requests),
      well_behaved_(well_behaved),
      pipelines_(world.random.chance(0.3)) {}

void FakeClient::begin() {
  peer_.on_event = [this](SimPeer&) { on_event(); };
  if (!peer_.connect(sim_address(8080))) return finish();
  if (!well_behaved_) {
    half_closes_ = world_.random.chance(0.2);
    const auto later = [&](int64_t most_ms) {
      return milliseconds(static_cast<int64_t>(world_.random.below(static_cast<uint64_t>(most_ms))));
    };
    if (world_.random.chance(0.3)) {
      world_.network.after(later(3000), [this, reset = world_.random.chance(0.5)] {
        if (done_) return;
        peer_.close(reset);
        finish();
      });
    }
    if (world_.random.chance(0.3)) {
      world_.network.after(later(100), [this] {
        if (!done_ && peer_.is_open()) peer_.pause();
      });
      world_.network.after(milliseconds(100) + later(5000), [this] {
        if (!done_ && peer_.is_open()) peer_.resume();
      });
    }
  }
  send_next();
}

void FakeClient::send_next() {
  while (next_id_ < end_id_ && (pipelines_ || waiting_.empty())) {
    const uint32_t id = next_id_++;
    waiting_.push_back(id);
    peer_.send(request_bytes(id, next_id_ == end_id_));
  }
  if (half_closes_ && next_id_ == end_id_) peer_.finish();
}

void FakeClient::on_event() {
  if (done_) return;
  while (parsed_ < peer_.received().size() && !waiting_.empty()) {
    const auto fed = parser_.feed(std::string_view(peer_.received()).substr(parsed_));
    parsed_ += fed.consumed;
    if (fed.error != http::ParseError::none) world_.network.fail("a client got something that is not HTTP");
  }
  if (waiting_.empty() && next_id_ < end_id_ && !last_said_close_ && !peer_.ended()) send_next();
  if (waiting_.empty() && (next_id_ == end_id_ || last_said_close_)) return finish();
  if (!peer_.ended()) return;
  if (peer_.error() == 0 && parser_.body_until_close()) static_cast<void>(parser_.finish());
  if (!waiting_.empty() && !body_.empty()) check_broken();
  finish();
}

void FakeClient::on_head(http::Head& head) {
  status_ = head.status;
  body_.clear();
}

void FakeClient::on_message_end(bool keep_alive) {
  last_said_close_ = !keep_alive;
  if (status_ == 200) check_whole();
  else ++world_.refused;
  waiting_.pop_front();
  body_.clear();
  if (last_said_close_) waiting_.clear();  // what was pipelined behind goes unanswered
}

void FakeClient::check_whole() const {
  if (body_ != answer_body(waiting_.front())) world_.network.fail("an answer is not what the endpoint sent");
  ++world_.whole_answers;
}

// A torso: what came before the break, and nothing else but an error event.
void FakeClient::check_broken() const {
  if (status_ != 200) return;
  ++world_.broken_answers;
  const std::string expected = answer_body(waiting_.front());
  const size_t error = body_.find("data: {\"error\"");
  const std::string torso = body_.substr(0, error);
  if (expected.compare(0, torso.size(), torso) != 0) world_.network.fail("a broken answer has foreign bytes");
  if (error != std::string::npos && !answer_streams(waiting_.front())) world_.network.fail("an event in no stream");
}

void FakeClient::finish() {
  done_ = true;
  world_.network.after(Duration{0}, [this] { peer_.close(); });
}

}  // namespace penstock::test
