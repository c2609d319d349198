// Reads an EndpointPickerConfig. Start-up and control thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "penstock/config/endpoint_picker.h"
#include "penstock/config/load.h"

namespace YAML {
class Node;
}

namespace penstock::config {

struct PickerSource {
  std::string file;
  int lines_before = 0;  // of the file in front of the text that was parsed
  std::string prefix;    // of keys: "", or "routing.endpoint_picker."
  bool whole_file = true;
};

// Adds to `problems` and `notes`. The result is complete only without new problems.
std::shared_ptr<const EndpointPicker> read_picker(const YAML::Node& document, const PickerSource& source,
                                                  std::vector<Problem>& problems, std::vector<Problem>& notes);
// The same from text. Null: it is not YAML.
std::shared_ptr<const EndpointPicker> read_picker_text(const std::string& text, const PickerSource& source,
                                                       std::vector<Problem>& problems, std::vector<Problem>& notes);

}  // namespace penstock::config
