// Values of YAML nodes, with complaints about what they are not: place, key, and what would be right. For the files
// that read an EndpointPickerConfig, and those that it names.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/time.h"
#include "penstock/epp/read.h"

namespace penstock::epp {

class Reader {
 public:
  Reader(const Source& source, std::vector<Problem>& problems, std::vector<Problem>& notes)
      : source_(source), problems_(problems), notes_(notes) {}

  void problem(const YAML::Node& at, const std::string& key, std::string message);
  void note(const YAML::Node& at, const std::string& key, std::string message);
  int line_of(const YAML::Node& at) const;
  size_t problems() const { return problems_.size(); }

  // Calls `take` for each entry of a map whose key is among `known`; the others are problems (to which `hint` may add),
  // and so are repeated ones. `key` is the map's own, "" for the document.
  using Take = std::function<void(const std::string& name, const std::string& key, const YAML::Node& value)>;
  void each_entry(const YAML::Node& map, const std::string& key, const std::vector<std::string_view>& known,
                  const Take& take, std::string_view hint = {});
  // Calls `take` for each item of a list, with its key ("plugins[2]").
  using TakeItem = std::function<void(const std::string& key, const YAML::Node& value)>;
  void each_item(const YAML::Node& list, const std::string& key, const TakeItem& take);

  // Each: false, and a problem, when the value is not of that kind or not within bounds.
  bool read_text(const YAML::Node& value, const std::string& key, std::string* out);
  bool read_bool(const YAML::Node& value, const std::string& key, bool* out);
  bool read_number(const YAML::Node& value, const std::string& key, bool whole, double least, double most, double* out);
  bool read_duration(const YAML::Node& value, const std::string& key, double least, double most, Duration* out);
  bool read_quantity(const YAML::Node& value, const std::string& key, uint64_t* out);  // 1000, "500M", "1Gi"
  bool read_word(const YAML::Node& value, const std::string& key, const std::vector<std::string_view>& words,
                 std::string* out);
  // "is not one of" with a guess at what was meant.
  void not_among(const YAML::Node& at, const std::string& key, const std::string& found,
                 const std::vector<std::string_view>& words, std::string_view what);

 private:
  bool scalar(const YAML::Node& value, const std::string& key, std::string_view expected);
  const Source& source_;
  std::vector<Problem>& problems_;
  std::vector<Problem>& notes_;
};

// A map of labels, each with a value that may be empty; `complain` hears of what is none, and where.
std::map<std::string, std::string> read_labels(
    const YAML::Node& map, const std::function<void(const YAML::Node& at, std::string message)>& complain);

}  // namespace penstock::epp
