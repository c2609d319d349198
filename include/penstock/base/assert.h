// Assertions for our own bugs. On in release builds: a gateway that has lost its invariants must
// not go on relaying bytes. Never assert what a peer (client, endpoint, API server, file) controls.
#pragma once

namespace penstock {

// Prints the failed expression with its place and aborts. Never returns.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace penstock

#define PENSTOCK_ASSERT(expression) \
  (static_cast<bool>(expression) ? void(0) : ::penstock::assertion_failed(#expression, __FILE__, __LINE__))
