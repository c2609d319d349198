// The epoll engine: works on every kernel and inside every sandbox.
#pragma once

#include <memory>

#include "penstock/net/ring.h"

namespace penstock::net {

Result<std::unique_ptr<Ring>> make_epoll_ring(Duration spin);

}  // namespace penstock::net
