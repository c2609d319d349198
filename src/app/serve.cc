#include "serve.h"

#include <cstdio>

#include "control.h"
#include "penstock/base/log.h"
#include "version.h"

namespace penstock::app {

int serve(const config::Command& command) {
  log::configure(command.options.log_level, command.options.log_format);
  Control control(command);
  return control.run();
}

int print_version() {
  const net::RingProbe probe = net::probe_rings();
  std::printf("penstock %s (%s)\n", PENSTOCK_VERSION, PENSTOCK_COMMIT);
  std::printf("kernel   %s\n", probe.kernel.c_str());
  std::printf("io_uring %s: %s\n", probe.io_uring_usable ? "usable" : "not usable", probe.detail.c_str());
  std::printf("ring     %s\n", probe.io_uring_usable ? "io_uring" : "epoll");
  return 0;
}

}  // namespace penstock::app
