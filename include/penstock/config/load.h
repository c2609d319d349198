// From a YAML file and command-line flags to Options. Every problem is found in one pass, with its place and with the
// values that would have been accepted; nothing is half applied. Start-up and control thread only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/problem.h"
#include "penstock/config/options.h"
#include "penstock/objects/manifest.h"

namespace penstock::config {

struct LoadResult {
  Options options;                       // usable only when there are no problems
  objects::Manifests manifests;          // what options.manifests names; its problems are among `problems`
  std::vector<Problem> problems;         // in the order of the file
  std::vector<Problem> notes;            // no mistakes, but not what somebody may expect: settings without effect
  std::vector<Problem> endpoint_places;  // where each of options.endpoints was given; the message is empty
  bool ok() const { return problems.empty(); }
};

// A flag that sets a key of the configuration.
struct Flag {
  std::string name;  // "--shards"
  std::string key;   // "shards"
  std::string value;
};

// Where the options of a process come from; kept by the process so that a reload does the same again.
struct Source {
  std::string file;              // "": none
  std::vector<Flag> flags;       // override the file; any --endpoint replaces the file's list
  bool needs_endpoints = false;  // serve: no endpoint at all is a problem
};

// What the file of file-discovery lists.
struct EndpointsFile {
  std::vector<EndpointEntry> endpoints;
  std::vector<int> lines;  // of each
  std::vector<Problem> problems;
};
EndpointsFile read_endpoints_file(const std::string& path);

LoadResult load(const Source& source);
LoadResult load_file(const std::string& path);
// `file` is only used in problems.
LoadResult load_text(std::string_view text, const std::string& file);

}  // namespace penstock::config
