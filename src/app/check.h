// `penstock check`: what can be found out about the world outside, once the files have no problems.
#pragma once

#include "penstock/config/command_line.h"

namespace penstock::app {

// Prints what the files say, then a warning for each host name of an endpoint that does not resolve here: that is no
// error, as a name may exist only where the gateway will run. Takes a few seconds at most. Returns the exit code.
int check(const config::Command& command);

}  // namespace penstock::app
