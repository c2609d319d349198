// penstock: see docs/ARCHITECTURE.md.
#include <cstdio>

#include "penstock/config/command_line.h"
#include "replay.h"
#include "serve.h"
#include "signals.h"

int main(int argc, char** argv) {
  using penstock::config::Command;
  penstock::app::Signals::block();
  const Command command = penstock::config::parse_command_line(argc, argv);
  switch (command.kind) {
    case Command::Kind::serve:
      return penstock::app::serve(command);
    case Command::Kind::replay:
      return penstock::app::replay(command.replay);
    case Command::Kind::version:
      return penstock::app::print_version();
    case Command::Kind::finished:
      break;
  }
  std::fputs(command.output.c_str(), stdout);
  std::fputs(command.error.c_str(), stderr);
  return command.exit_code;
}
