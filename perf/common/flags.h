#pragma once
// Command line of the load tools: `--name value`, `--name=value` and `--name` for switches. An unknown flag
// or a bad number ends the program with status 2.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::perf {

class Flags {
 public:
  // `usage` is printed for --help (status 0) and, after the problem, for a mistake (status 2).
  Flags(int argc, char** argv, const char* usage);

  std::string text(std::string_view name, std::string_view fallback);
  uint64_t number(std::string_view name, uint64_t fallback);
  double real(std::string_view name, double fallback);
  bool on(std::string_view name);
  std::vector<std::string> list(std::string_view name);

  std::vector<int> pids(std::string_view name);

  // Call when every flag was asked for: what is left over is a mistake.
  void finish() const;
  [[noreturn]] void fail(const std::string& problem) const;

 private:
  const std::string* take(std::string_view name);

  struct Argument {
    std::string name;
    std::string value;
    bool has_value = false;
    bool used = false;
  };
  std::vector<Argument> arguments_;
  const char* usage_;
};

}  // namespace penstock::perf
