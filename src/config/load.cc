#include "penstock/config/load.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "table.h"
#include "values.h"

namespace penstock::config {
namespace {

constexpr std::string_view kind_name = "GatewayConfig", api_version = "penstock.dev/v1alpha1";
constexpr std::string_view endpoint_help =
    "each endpoint is a URL, or a map of url, name (optional) and engine (optional)";

std::string quoted(std::string_view text) {
  return '"' + std::string(text) + '"';
}

struct EndpointPlace {
  std::string key;  // "endpoints[2]", or the flag
  int line = 0;
};

// One pass over one document. Collects problems; never throws (yaml-cpp's exceptions end in load_text).
class Loader {
 public:
  Loader(std::string file, LoadResult& out) : file_(std::move(file)), out_(out) {}

  void read(const YAML::Node& document) {
    if (!document.IsMap()) {
      problem(1, "", "the file is not a map; expected kind: GatewayConfig and sections such as endpoints");
      return;
    }
    read_map(document, "");
    if (!lines_.contains("kind")) problem(1, "kind", "is missing; expected kind: GatewayConfig");
  }
  int line_of(const std::string& key) const {
    const auto found = lines_.find(key);
    return found == lines_.end() ? 0 : found->second;
  }
  const std::vector<EndpointPlace>& endpoint_places() const { return endpoint_places_; }

 private:
  static int line(const YAML::Node& node) { return node.Mark().line + 1; }

  void problem(int at, std::string key, std::string message) {
    out_.problems.push_back({file_, at, std::move(key), std::move(message)});
  }

  void read_map(const YAML::Node& map, const std::string& prefix) {
    std::set<std::string> seen;
    for (const auto& entry : map) {
      if (!entry.first.IsScalar()) {
        problem(line(entry.first), prefix, "has a key that is not a word");
        continue;
      }
      const std::string name = prefix.empty() ? entry.first.Scalar() : prefix + '.' + entry.first.Scalar();
      if (!seen.insert(name).second) {
        problem(line(entry.first), name, "is given twice (first in line " + std::to_string(line_of(name)) + ")");
        continue;
      }
      lines_[name] = line(entry.first);
      read_entry(name, entry.first, entry.second, prefix);
    }
  }

  void read_entry(const std::string& name, const YAML::Node& at, const YAML::Node& value, const std::string& prefix) {
    if (name == "kind") return read_fixed(name, value, kind_name);
    if (name == "apiVersion") return read_fixed(name, value, api_version);
    if (name == "endpoints") return read_endpoints(value);
    if (const Key* const key = find_key(name)) return read_key(*key, value);
    if (is_section(name)) return read_section(name, value);
    unknown_key(line(at), name, prefix);
  }

  void read_fixed(const std::string& name, const YAML::Node& value, std::string_view expected) {
    if (value.IsScalar() && value.Scalar() == expected) return;
    const std::string found = value.IsScalar() ? quoted(value.Scalar()) : "not a word";
    problem(line(value), name, "is " + found + "; expected " + std::string(expected));
  }

  void read_section(const std::string& name, const YAML::Node& value) {
    if (value.IsNull()) return;  // a section whose keys are all commented out
    if (value.IsMap()) return read_map(value, name);
    problem(line(value), name, "is a section: expected keys below it, not a value");
  }

  void read_key(const Key& key, const YAML::Node& value) {
    const std::string expected = "; expected " + std::string(type_name(key.type)) + ": " + accepted_values(key);
    if (value.IsNull())
      return problem(line_of(std::string(key.name)), std::string(key.name), "has no value" + expected);
    if (!value.IsScalar()) {
      const char* const found = value.IsMap() ? "a map" : "a list";
      return problem(line(value), std::string(key.name), std::string("is ") + found + expected);
    }
    std::string message = set_from_text(key, out_.options, value.Scalar());
    if (!message.empty()) problem(line(value), std::string(key.name), std::move(message));
  }

  void unknown_key(int at, const std::string& name, const std::string& prefix) {
    const std::vector<std::string_view> known = siblings(prefix);
    const std::string last = prefix.empty() ? name : name.substr(prefix.size() + 1);
    std::string message = "is not a known key";
    if (const std::string near = closest(last, known); !near.empty()) message += "; did you mean " + near + "?";
    message += " (known here:";
    for (const std::string_view word : known) message.append(" ").append(word);
    problem(at, name, message + ")");
  }

  static std::vector<std::string_view> siblings(const std::string& prefix) {
    std::vector<std::string_view> known;
    const size_t skip = prefix.empty() ? 0 : prefix.size() + 1;
    if (prefix.empty()) known = {"apiVersion", "kind", "endpoints"};
    for (const Key& key : table()) {
      if (!prefix.empty() && !(key.name.starts_with(prefix) && key.name[prefix.size()] == '.')) continue;
      const std::string_view rest = key.name.substr(skip);
      const std::string_view word = rest.substr(0, rest.find('.'));
      if (std::find(known.begin(), known.end(), word) == known.end()) known.push_back(word);
    }
    return known;
  }

  void read_endpoints(const YAML::Node& list) {
    if (list.IsNull()) return;
    if (!list.IsSequence()) {
      return problem(line(list), "endpoints", "is not a list; " + std::string(endpoint_help));
    }
    size_t index = 0;
    for (const YAML::Node& item : list) read_endpoint(item, "endpoints[" + std::to_string(index++) + "]");
  }

  void read_endpoint(const YAML::Node& item, const std::string& name) {
    EndpointEntry entry;
    const size_t problems_before = out_.problems.size();
    if (item.IsScalar()) {
      entry.url = item.Scalar();
    } else if (item.IsMap()) {
      read_endpoint_map(item, name, entry);
    } else {
      return problem(line(item), name, "is not an endpoint; " + std::string(endpoint_help));
    }
    if (entry.url.empty()) {
      if (out_.problems.size() == problems_before)
        problem(line(item), name, "has no url; " + std::string(endpoint_help));
      return;
    }
    if (std::string message = check_url(entry.url); !message.empty()) {
      return problem(line(item), item.IsMap() ? name + ".url" : name, std::move(message));
    }
    if (entry.name.empty()) entry.name = entry.url.substr(std::string_view("http://").size());
    endpoint_places_.push_back({name, line(item)});
    out_.options.endpoints.push_back(std::move(entry));
  }

  void read_endpoint_map(const YAML::Node& item, const std::string& name, EndpointEntry& entry) {
    std::set<std::string> seen;
    for (const auto& member : item) {
      const std::string key = member.first.IsScalar() ? member.first.Scalar() : "";
      if (!seen.insert(key).second) {
        problem(line(member.first), name + '.' + key, "is given twice");
      } else if (key != "url" && key != "name" && key != "engine") {
        const std::string near = closest(key, {"url", "name", "engine"});
        problem(line(member.first), name + '.' + key,
                "is not a known key" + (near.empty() ? "" : "; did you mean " + near + "?") +
                    " (known here: url name engine)");
      } else if (!member.second.IsScalar() || member.second.Scalar().empty()) {
        problem(line(member.first), name + '.' + key, "has no value; expected text");
      } else if (key == "engine" && !known_engine(member.second.Scalar())) {
        problem(line(member.second), name + ".engine", quoted(member.second.Scalar()) + " is not one of: " + engines());
      } else {
        (key == "url" ? entry.url : key == "name" ? entry.name : entry.engine) = member.second.Scalar();
      }
    }
  }

  static bool known_engine(const std::string& name) {
    const auto names = engine_names();
    return std::find(names.begin(), names.end(), name) != names.end();
  }
  static std::string engines() {
    std::string out;
    for (const std::string_view name : engine_names()) out.append(out.empty() ? "" : ", ").append(name);
    return out;
  }

  std::string file_;
  LoadResult& out_;
  std::map<std::string, int> lines_;            // where each key was given
  std::vector<EndpointPlace> endpoint_places_;  // beside options.endpoints
};

// What no single key can say. Runs on whatever file and flags add up to; `where` finds a place to point at.
template <typename Where>
void check_together(LoadResult& result, const Where& where) {
  const Options& o = result.options;
  const auto complain = [&](const std::string& key, std::string message) {
    Problem problem = where(key);
    problem.key = key;
    problem.message = std::move(message);
    result.problems.push_back(std::move(problem));
  };
  if (o.metrics.interval > o.metrics.idle_interval) {
    complain("metrics.interval",
             "is longer than metrics.idle_interval (" + format_duration(o.metrics.idle_interval) + ")");
  }
  if (o.ejection.base_penalty > o.ejection.max_penalty) {
    complain("ejection.base_penalty",
             "is longer than ejection.max_penalty (" + format_duration(o.ejection.max_penalty) + ")");
  }
  if (o.limits.memory_bytes != 0 && o.limits.memory_bytes < o.limits.body_bytes) {
    complain("limits.memory", "is smaller than limits.body_bytes (" + format_size(o.limits.body_bytes) +
                                  "): the largest request could never be held");
  }
  if (o.listen == o.admin && !o.listen.ends_with(":0")) complain("admin", "is the same address as listen");
}

void check_endpoint_names(const Options& options, std::vector<Problem>& problems, const std::string& file,
                          const std::vector<EndpointPlace>& places) {
  std::map<std::string, size_t> names, urls;
  for (size_t i = 0; i < options.endpoints.size(); ++i) {
    const EndpointEntry& entry = options.endpoints[i];
    const auto complain = [&](const std::string& what, size_t other) {
      const EndpointPlace& first = places[other];
      const std::string where = first.line == 0 ? "" : " (also in line " + std::to_string(first.line) + ")";
      problems.push_back({file, places[i].line, places[i].key, what + where});
    };
    if (const auto [at, added] = urls.emplace(entry.url, i); !added) {
      complain(quoted(entry.url) + " is listed twice", at->second);
    } else if (const auto [named, fresh] = names.emplace(entry.name, i); !fresh) {
      complain("the name " + quoted(entry.name) + " is used twice", named->second);
    }
  }
}

struct Places {  // where each part of the options came from
  std::string file;
  std::map<std::string, int> lines;
  std::vector<EndpointPlace> endpoints;
};

void read_yaml(std::string_view text, const std::string& file, LoadResult& result, Places& places) {
  places.file = file;
  Loader loader(file, result);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() > 1) {
      result.problems.push_back({file, documents[1].Mark().line + 1, "", "more than one document; expected one"});
    }
    loader.read(documents.empty() ? YAML::Node() : documents[0]);
  } catch (const YAML::Exception& error) {
    result.problems.push_back(
        {file, error.mark.is_null() ? 1 : error.mark.line + 1, "", "not valid YAML: " + error.msg});
  }
  for (const Key& key : table()) {
    const std::string name(key.name);
    if (const int line = loader.line_of(name)) places.lines[name] = line;
  }
  places.endpoints = loader.endpoint_places();
}

bool read_file(const std::string& path, std::string& text, LoadResult& result) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  if (in) content << in.rdbuf();
  if (!in || content.fail()) {
    result.problems.push_back({path, 0, "", "cannot be read"});
    return false;
  }
  text = std::move(content).str();
  return true;
}

void apply_flags(const std::vector<Flag>& flags, LoadResult& result, Places& places) {
  bool endpoints_replaced = false;
  for (const Flag& flag : flags) {
    std::string message;
    if (flag.key == "endpoints") {
      if (!endpoints_replaced) {
        result.options.endpoints.clear();
        places.endpoints.clear();
        endpoints_replaced = true;
      }
      EndpointEntry entry{.url = flag.value};
      message = check_url(entry.url);
      if (message.empty()) {
        entry.name = entry.url.substr(std::string_view("http://").size());
        result.options.endpoints.push_back(std::move(entry));
        places.endpoints.push_back({flag.name, 0});
      }
    } else {
      const Key* const key = find_key(flag.key);
      PENSTOCK_ASSERT(key != nullptr);
      message = set_from_text(*key, result.options, flag.value);
      places.lines.erase(flag.key);
    }
    if (!message.empty()) result.problems.push_back({"command line", 0, flag.name, std::move(message)});
  }
  if (endpoints_replaced) places.file = "command line";
}

void check_all(LoadResult& result, const Places& places, const std::string& file) {
  check_endpoint_names(result.options, result.problems, places.file, places.endpoints);
  check_together(result, [&](const std::string& key) {
    const auto found = places.lines.find(key);
    return found == places.lines.end() ? Problem{file.empty() ? "command line" : file, 0, "", ""}
                                       : Problem{file, found->second, "", ""};
  });
  const auto order = [&](const Problem& p) {
    return std::pair(p.file != file, p.line);
  };  // the file's, then the flags'
  std::stable_sort(result.problems.begin(), result.problems.end(),
                   [&](const Problem& a, const Problem& b) { return order(a) < order(b); });
}

}  // namespace

std::string to_string(const Problem& problem) {
  std::string out = problem.file;
  if (problem.line > 0) out += ':' + std::to_string(problem.line);
  if (!problem.key.empty()) out += ": " + problem.key;
  return out + ": " + problem.message;
}

LoadResult load(const Source& source) {
  LoadResult result;
  Places places;
  std::string text;
  if (!source.file.empty() && read_file(source.file, text, result)) read_yaml(text, source.file, result, places);
  apply_flags(source.flags, result, places);
  check_all(result, places, source.file);
  if (source.needs_endpoints && result.options.endpoints.empty() && result.problems.empty()) {
    result.problems.push_back({source.file.empty() ? "command line" : source.file, 0, "endpoints",
                               "there is no model server to send requests to; give --endpoint http://HOST:PORT (once "
                               "for each), or list them under endpoints: in the file of --config"});
  }
  return result;
}

LoadResult load_file(const std::string& path) {
  return load(Source{.file = path});
}

LoadResult load_text(std::string_view text, const std::string& file) {
  LoadResult result;
  Places places;
  read_yaml(text, file, result, places);
  check_all(result, places, file);
  return result;
}

}  // namespace penstock::config
