#include "perf/common/flags.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace penstock::perf {

Flags::Flags(int argc, char** argv, const char* usage) : usage_(usage) {
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (word == "--help" || word == "-h") {
      std::fputs(usage_, stdout);
      std::exit(0);
    }
    if (!word.starts_with("--")) fail("unexpected argument " + std::string(word));
    Argument argument;
    size_t equals = word.find('=');
    argument.name = std::string(word.substr(0, equals));
    if (equals != std::string_view::npos) {
      argument.value = std::string(word.substr(equals + 1));
      argument.has_value = true;
    } else if (i + 1 < argc && !std::string_view(argv[i + 1]).starts_with("--")) {
      argument.value = argv[++i];
      argument.has_value = true;
    }
    arguments_.push_back(std::move(argument));
  }
}

const std::string* Flags::take(std::string_view name) {
  const std::string* found = nullptr;
  for (Argument& argument : arguments_) {
    if (argument.name != name) continue;
    if (!argument.has_value) fail(argument.name + " needs a value");
    argument.used = true;
    found = &argument.value;
  }
  return found;
}

std::string Flags::text(std::string_view name, std::string_view fallback) {
  const std::string* value = take(name);
  return value ? *value : std::string(fallback);
}

uint64_t Flags::number(std::string_view name, uint64_t fallback) {
  const std::string* value = take(name);
  if (!value) return fallback;
  uint64_t result = 0;
  auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), result);
  if (error != std::errc() || end != value->data() + value->size())
    fail(std::string(name) + ": not a number: " + *value);
  return result;
}

double Flags::real(std::string_view name, double fallback) {
  const std::string* value = take(name);
  if (!value) return fallback;
  char* end = nullptr;
  double result = std::strtod(value->c_str(), &end);
  if (value->empty() || *end != '\0' || !(result >= 0)) fail(std::string(name) + ": not a number: " + *value);
  return result;
}

bool Flags::on(std::string_view name) {
  bool found = false;
  for (Argument& argument : arguments_) {
    if (argument.name != name) continue;
    if (argument.has_value) fail(argument.name + " takes no value");
    argument.used = true;
    found = true;
  }
  return found;
}

std::vector<std::string> Flags::list(std::string_view name) {
  std::vector<std::string> values;
  for (Argument& argument : arguments_) {
    if (argument.name != name) continue;
    if (!argument.has_value) fail(argument.name + " needs a value");
    argument.used = true;
    values.push_back(argument.value);
  }
  return values;
}

std::vector<int> Flags::pids(std::string_view name) {
  std::vector<int> pids;
  for (const std::string& text : list(name)) {
    int pid = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
    if (error != std::errc() || end != text.data() + text.size() || pid <= 0) {
      fail(std::string(name) + ": not a process id: " + text);
    }
    pids.push_back(pid);
  }
  return pids;
}

void Flags::finish() const {
  for (const Argument& argument : arguments_) {
    if (!argument.used) fail("unknown flag " + argument.name);
  }
}

void Flags::fail(const std::string& problem) const {
  std::fprintf(stderr, "%s\n%s", problem.c_str(), usage_);
  std::exit(2);
}

}  // namespace penstock::perf
