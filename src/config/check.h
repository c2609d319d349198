// What no single key can say: checks on what file and flags add up to.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/config/load.h"

namespace penstock::config {

struct Place {
  std::string file;  // or "command line"
  int line = 0;
  std::string name;  // the key, or the flag
};
struct EndpointPlace {
  std::string key;  // "endpoints[2]", or the flag
  int line = 0;
};
struct Places {      // where each part of the options came from
  std::string file;  // of the endpoints
  std::map<std::string, Place> given;
  std::vector<EndpointPlace> endpoints;  // beside options.endpoints
  std::vector<EndpointPlace> listeners;  // beside options.listeners; line 0: a flag
};

// Adds the problems of the whole and puts all of them in order: those of `file` by line, then those of the flags.
void check_all(LoadResult& result, const Places& places, const std::string& file);
// The part about where endpoints come from.
void check_discovery(LoadResult& result, const Places& places, const std::string& file);

// The files with keys: a key that cannot be used is a problem, found now and not at the first probe.
void check_api_keys(LoadResult& result, const Places& places, const std::string& file);

// Listeners: their names and addresses, and whether the files of TLS can be used.
void check_listeners(LoadResult& result, const Places& places, const std::string& file);
// Whether sockets at both addresses would get in each other's way. Port 0 is a port of one's own.
bool overlap(std::string_view a, std::string_view b);

// A problem of `key`: at the place where it was given, else of the file (or the flags) as a whole.
Problem problem_of(const Places& places, const std::string& file, const std::string& key, std::string message);

}  // namespace penstock::config
