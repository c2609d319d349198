// The io_uring engine (Linux 6.1 or newer).
#pragma once

#include <memory>
#include <string>

#include "penstock/net/ring.h"

namespace penstock::net {

struct UringFailure {
  int error = 0;  // errno of the set-up step that failed
  std::string text;
};
Result<std::unique_ptr<Ring>, UringFailure> make_uring_ring(Duration spin);

// "io_uring_setup: Operation not permitted (seccomp or kernel.io_uring_disabled)"
std::string describe_uring_failure(const char* call, int error);

}  // namespace penstock::net
