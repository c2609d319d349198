// `penstock replay`: reads the traces, runs every policy with every seed and prints the figures.
#pragma once

#include "penstock/replay/options.h"

namespace penstock::app {

// Returns the exit code: 0, or 1 when a file could not be read or written (stderr says which).
int replay(const replay::Options& options);

}  // namespace penstock::app
