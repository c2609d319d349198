// What `penstock replay` was asked to do.
#pragma once

#include <string>
#include <vector>

#include "penstock/replay/report.h"
#include "penstock/replay/simulate.h"

namespace penstock::replay {

struct Options {
  std::vector<std::string> traces;    // files; "-": standard input
  std::string decisions;              // a saved /debug/decisions page to decide again, instead of traces; "": none
  std::vector<std::string> policies;  // known contestants, or those that are described below by the same name
  std::vector<ConfiguredContestant> configured;
  bool compare = false;  // a table instead of lists
  std::string plot;      // file for a picture; "": none
  size_t limit = 0;      // requests; 0: all
  double length_scale = 1;
  uint64_t seed = 1;   // of the first run
  uint32_t seeds = 1;  // runs, each with the next seed
  Setup setup;
  Slo slo;
};

}  // namespace penstock::replay
