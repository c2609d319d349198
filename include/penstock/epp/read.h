// Reads an EndpointPickerConfig. Start-up and control thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "penstock/base/problem.h"
#include "penstock/epp/config.h"

namespace YAML {
class Node;
}

namespace penstock::epp {

struct Source {
  std::string file;
  int lines_before = 0;  // of the file in front of the text that was parsed
  std::string prefix;    // of keys: "", or "routing.endpoint_picker."
  bool whole_file = true;
};

// Adds to `problems` and `notes`. The result is complete only without new problems.
std::shared_ptr<const Config> read_config(const YAML::Node& document, const Source& source,
                                          std::vector<Problem>& problems, std::vector<Problem>& notes);
// The same from text. Null: it is not YAML.
std::shared_ptr<const Config> read_config_text(const std::string& text, const Source& source,
                                               std::vector<Problem>& problems, std::vector<Problem>& notes);

}  // namespace penstock::epp
