// What can be configured, as data: the reference page and reload rules come from the same table as the parser.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/config/options.h"

namespace penstock::config {

struct KeyInfo {
  std::string name;           // "timeouts.connect"
  std::string type;           // "duration"
  std::string default_value;  // "1s"
  std::string accepted;       // "1ms to 24h, or none"
  std::string doc;            // one sentence or two
  bool needs_restart = false;
};
std::vector<KeyInfo> keys();

// docs/CONFIGURATION.md, whole.
std::string reference_markdown();

// True for keys that a reload cannot apply: a reload that changes one is refused as a whole.
bool reload_needs_restart(std::string_view key);

// What differs, one line each, for the log of a reload: "timeouts.connect: 1s -> 2s", "endpoints: added ...".
// Both sides as loaded, before resolve_defaults(): otherwise a derived value looks like a change.
std::vector<std::string> diff(const Options& from, const Options& to);
// The profiles of the EndpointPickerConfig, one line each; none without one.
std::vector<std::string> describe_picker(const Options& options);
// Those of the changed keys that need a restart.
std::vector<std::string> changes_needing_restart(const Options& from, const Options& to);

}  // namespace penstock::config
