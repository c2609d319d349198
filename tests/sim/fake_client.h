// A client for simulations. Sends its requests on one connection, waiting for each answer or all at once, and checks
// every answer against answer_body(). One that is not well behaved may leave at any moment, read slowly, or half-close.
#pragma once

#include <deque>
#include <string>

#include "penstock/http/parser.h"
#include "world.h"

namespace penstock::test {

class FakeClient final : private http::ParserEvents {
 public:
  FakeClient(World& world, uint32_t first_id, uint32_t requests, bool well_behaved);

  void begin();
  bool done() const { return done_; }

 private:
  void on_head(http::Head& head) override;
  void on_body(std::string_view bytes) override { body_ += bytes; }
  void on_message_end(bool keep_alive) override;

  void on_event();
  void send_next();
  void check_whole() const;
  void check_broken() const;
  void finish();

  World& world_;
  SimPeer peer_;
  http::Parser parser_;
  uint32_t next_id_;
  const uint32_t end_id_;
  const bool well_behaved_;
  bool pipelines_ = false, half_closes_ = false, done_ = false, last_said_close_ = false;
  std::deque<uint32_t> waiting_;  // ids sent, in order
  size_t parsed_ = 0;             // bytes of peer_.received() that the parser has seen
  uint16_t status_ = 0;
  std::string body_;
};

}  // namespace penstock::test
