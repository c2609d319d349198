// Where the tests find the files of the source tree, and how they compare with golden ones.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace penstock::test {

// `name` is as seen from the top of the source tree, which PENSTOCK_SOURCE names; without it, the current folder.
inline std::string source_file(const std::string& name) {
  const char* const root = std::getenv("PENSTOCK_SOURCE");
  return std::string(root == nullptr ? "." : root) + "/" + name;
}

// Empty where there is no such file.
inline std::string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  return std::move(content).str();
}

// PENSTOCK_UPDATE=1 rewrites the file with what is there now; else nothing happens.
inline void update_golden(const std::string& path, const std::string& actual) {
  const char* const update = std::getenv("PENSTOCK_UPDATE");
  if (update != nullptr && std::string(update) == "1") std::ofstream(path, std::ios::binary) << actual;
}

inline void check_golden_path(const std::string& path, const std::string& actual) {
  update_golden(path, actual);
  INFO("differs from " << path << "; PENSTOCK_UPDATE=1 rewrites it");
  CHECK(read_whole(path) == actual);
}

// The same with a file of the source tree.
inline void check_golden(const std::string& name, const std::string& actual) {
  check_golden_path(source_file(name), actual);
}

}  // namespace penstock::test
