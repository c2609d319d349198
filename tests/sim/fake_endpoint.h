// A model server for simulations: answers request `id` (read from its prompt) with answer_body(id), in a framing of its
// own choice and in pieces over time, unless a fault says otherwise.
#pragma once

#include <memory>

#include "penstock/downstream/connection.h"
#include "world.h"

namespace penstock::test {

class FakeEndpoint final : public downstream::Service {
 public:
  FakeEndpoint(World& world, uint16_t port);
  ~FakeEndpoint();

  const net::Address& address() const { return address_; }
  World& world() { return world_; }

 private:
  downstream::RequestHandler* on_request(downstream::Responder& client, http::Head& head) override;
  void on_bad_head(downstream::Responder& client, const downstream::RequestFailure& failure) override;

  World& world_;
  SimLoop sim_;
  downstream::Server server_;
  net::Address address_;
};

}  // namespace penstock::test
