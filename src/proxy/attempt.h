// Attempt: one try of a request on one endpoint. It writes the head that the endpoint gets, sends it with the body, and
// holds the connection until the answer has ended. It knows nothing of the client. The answer goes to its sink.
// Thread: its shard's. Lifetime: until the next attempt, or the end of the exchange. Destroying it while it is under
// way resets the connection.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "intake.h"
#include "penstock/proxy/gateway.h"
#include "penstock/upstream/client.h"

namespace penstock::proxy {

class Attempt {
 public:
  // Memory that one attempt leaves to the next. Empty.
  struct Kept {
    std::string head, model;
    void recycle();
  };
  // What is sent in place of the request; views live as long as the attempt.
  struct Instead {
    std::string_view target, body;
    Duration first_byte_timeout;
    bool staged;  // it is told who prefills and encodes
  };
  // What an attempt is told beside the request.
  struct To {
    const upstream::Target& target;
    std::string_view host_header;   // for requests that name no host
    std::string_view stage_fields;  // see Placement::stage_fields()
    bool fresh = false;             // on a connection of its own
    std::optional<Instead> instead = {};
  };
  // `sink` is called from the next turn on. Intake::attempt_limit() is the owner's to watch.
  Attempt(Context& context, const Intake& intake, const To& to, Kept& kept, upstream::ResponseSink& sink);
  ~Attempt();
  Attempt(const Attempt&) = delete;

  bool under_way() const { return connection_ != nullptr; }
  // Only while it is under way.
  upstream::Connection& connection() { return *connection_; }
  const upstream::Connection& connection() const { return *connection_; }
  void connected(Instant now) { sent_ = now; }
  // The connection is not to be used any more: the answer has ended, or failed.
  void ended() { connection_ = nullptr; }
  void cancel();

  Instant sent() const { return sent_; }  // when a connection was there
  Duration connecting() const { return sent_ - began_; }
  // The first byte has reached the client, of a stream or not: what is not needed again is freed.
  void first_byte_relayed(bool stream);
  bool request_sent() const { return connection_ == nullptr || connection_->request_sent(); }

 private:
  upstream::Request compose(const Context& context, const Intake& intake, const To& to);
  upstream::Request compose_instead(const Context& context, const Intake& intake, const To& to);

  Kept& kept_;
  upstream::Connection* connection_;
  Instant began_, sent_;
};

}  // namespace penstock::proxy
