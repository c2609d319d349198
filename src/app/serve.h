// `penstock serve`: builds every part of the gateway, runs it until a signal ends it, and takes it down in order.
#pragma once

#include "penstock/config/command_line.h"

namespace penstock::app {

// Returns the exit code: 0 after an orderly end, 1 when it could not start (the reasons are in the log).
int serve(const config::Command& command);
// Prints version, build and what the kernel offers.
int print_version();

}  // namespace penstock::app
