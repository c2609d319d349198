// What is wrong with something that somebody wrote, and where.
#pragma once

#include <string>

namespace penstock {

struct Problem {
  std::string file;  // or "command line"
  int line = 0;      // 1-based; 0: no line to point at
  std::string key;   // "timeouts.connect", or the flag "--shards"
  std::string message;
};
std::string to_string(const Problem& problem);  // "gateway.yaml:12: timeouts.connect: ..."

}  // namespace penstock
