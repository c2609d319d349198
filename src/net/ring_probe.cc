#include <sys/utsname.h>

#include "penstock/net/ring.h"
#include "ring_epoll.h"

namespace penstock::net {

RingProbe probe_rings() {
  RingProbe probe;
  utsname system{};
  if (uname(&system) == 0) probe.kernel = system.release;
  probe.detail = "the io_uring engine is not part of this build";
  return probe;
}

Result<std::unique_ptr<Ring>> make_ring(const RingOptions& options, const RingProbe& probe) {
  if (options.kind == RingKind::io_uring) return Message{"io_uring cannot be used: " + probe.detail};
  return make_epoll_ring(options.spin);
}

}  // namespace penstock::net
