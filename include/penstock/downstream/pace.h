// Whether a client keeps up: with the least rate while it sends a body, with that and the write timeout while bytes
// wait for it. A client may fall short of the rate for ServerOptions::rate_grace; each byte buys the time that it takes
// at that rate. Its owner has the timer. Plain values; one thread.
#pragma once

#include <cstdint>

#include "penstock/downstream/server_options.h"

namespace penstock::downstream {

class Pace {
 public:
  // Nothing is expected of the client.
  void rest() { deadline_ = {}; }
  // When the client will have fallen short for too long; zero: not watched. Instant::max(): any rate will do.
  Instant deadline() const { return deadline_; }
  // The client has sent so many bytes. Returns the new deadline.
  Instant credit(uint64_t bytes, Instant now, const ServerOptions& options);

  // From now on bytes wait for the client, which has got `delivered` of all.
  void begin_reading(uint64_t delivered, Instant now, const ServerOptions& options);
  enum class Reading : uint8_t { fine, stalled, too_slow };
  Reading check_reading(uint64_t delivered, Instant now, const ServerOptions& options);
  // When to check.
  Instant next_check(Instant now, const ServerOptions& options) const;

 private:
  Instant deadline_{};
  uint64_t delivered_ = 0;  // when progress was last seen
  Instant seen_at_{};       // when that was
};

}  // namespace penstock::downstream
