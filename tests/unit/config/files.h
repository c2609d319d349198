// Where the tests find the files of the source tree, and how they compare with golden ones.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

inline std::string source_file(const std::string& name) {
  const char* const root = std::getenv("PENSTOCK_SOURCE");
  return std::string(root == nullptr ? "." : root) + "/" + name;
}

inline std::string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  return std::move(content).str();
}

// Compares with a file of the source tree. PENSTOCK_UPDATE=1 rewrites the file instead.
inline void check_golden(const std::string& name, const std::string& actual) {
  const std::string path = source_file(name);
  if (const char* const update = std::getenv("PENSTOCK_UPDATE"); update != nullptr && std::string(update) == "1") {
    std::ofstream(path, std::ios::binary) << actual;
  }
  INFO("differs from " << name << "; PENSTOCK_UPDATE=1 rewrites it");
  CHECK(read_whole(path) == actual);
}
