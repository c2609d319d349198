// The command line of `penstock`: which command, and for `serve` and `check` the options that file and flags add up to.
#pragma once

#include <string>

#include "penstock/config/load.h"
#include "penstock/replay/options.h"

namespace penstock::config {

constexpr int exit_ok = 0, exit_bad_config = 1, exit_bad_usage = 2;

struct Command {
  enum class Kind {
    serve,     // run with `options`; reload with load(source)
    replay,    // replay traces as `replay` says
    check,     // the files are good: print `output`, then what check finds of the world outside (`endpoint_places`)
    version,   // print what was built and probed
    finished,  // nothing to run: print `output` (or `error`) and exit with `exit_code` (help, check, any mistake)
  };
  Kind kind = Kind::finished;
  Source source;
  Options options;
  objects::Manifests manifests;  // what options.manifests names
  std::vector<Problem> notes;    // to be logged; of a replay: to be told
  replay::Options replay;
  std::vector<Problem> endpoint_places;  // of options.endpoints, for check
  std::string output;                    // for stdout
  std::string error;                     // for stderr
  int exit_code = exit_ok;
};

Command parse_command_line(int argc, const char* const* argv);

}  // namespace penstock::config
