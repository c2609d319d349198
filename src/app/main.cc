// penstock: see docs/ARCHITECTURE.md.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "check.h"
#include "penstock/config/command_line.h"
#include "replay.h"
#include "serve.h"
#include "signals.h"

namespace {

// Opens closed standard streams on /dev/null. Otherwise a socket or file would get such a descriptor number, and log
// lines would be written into it.
void open_standard_streams() {
  int fd;
  do fd = ::open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  using penstock::config::Command;
  open_standard_streams();
  penstock::app::Signals::block();
  const Command command = penstock::config::parse_command_line(argc, argv);
  switch (command.kind) {
    case Command::Kind::serve:
      return penstock::app::serve(command);
    case Command::Kind::replay:
      for (const auto& note : command.notes) std::fprintf(stderr, "note: %s\n", to_string(note).c_str());
      return penstock::app::replay(command.replay);
    case Command::Kind::check:
      return penstock::app::check(command);
    case Command::Kind::version:
      return penstock::app::print_version();
    case Command::Kind::finished:
      break;
  }
  std::fputs(command.output.c_str(), stdout);
  std::fputs(command.error.c_str(), stderr);
  return command.exit_code;
}
