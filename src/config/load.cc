#include "penstock/config/load.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <set>

#include "check.h"
#include "listeners.h"
#include "penstock/base/file.h"
#include "penstock/base/text.h"
#include "penstock/config/kubernetes.h"
#include "penstock/epp/read.h"
#include "penstock/epp/reader.h"
#include "table.h"
#include "values.h"

namespace penstock::config {
namespace {

constexpr std::string_view kind_name = "GatewayConfig", api_version = "penstock.dev/v1alpha1";

// Where it may be said how to choose. An EndpointPickerConfig is embedded, or in a file of its own.
struct PickerKeys {
  std::string_view policy, embedded, file;
  std::string Options::*path;
  std::shared_ptr<const epp::Config> Options::*picker;
};
constexpr PickerKeys picker_keys[] = {
    {"routing.policy", "routing.endpoint_picker", "routing.epp_config", &Options::epp_config,
     &Options::endpoint_picker},
    {"routing.shadow_policy", "routing.shadow_endpoint_picker", "routing.shadow_epp_config",
     &Options::shadow_epp_config, &Options::shadow_picker},
};
constexpr const PickerKeys& shadow_keys = picker_keys[1];

// Null: the key embeds none.
const PickerKeys* find_embedded(std::string_view key) {
  for (const PickerKeys& keys : picker_keys) {
    if (keys.embedded == key) return &keys;
  }
  return nullptr;
}

constexpr std::string_view endpoint_help =
    "each endpoint is a URL, or a map of url, name (optional), engine (optional) and labels (optional)";

std::string name_of_url(const std::string& url) {
  return url.substr(url.find("://") + 3);
}

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
  const std::vector<EndpointPlace>& listener_places() const { return listener_places_; }

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
    if (name == "listeners" || name == "admin.tls") {
      const Complain complain = [this](const YAML::Node& node, std::string key, std::string message) {
        problem(line(node), std::move(key), std::move(message));
      };
      if (name == "admin.tls") return read_admin_tls(value, out_.options, complain);
      return read_listeners(value, out_.options, listener_places_, complain);
    }
    if (const PickerKeys* const keys = find_embedded(name)) return read_embedded_picker(*keys, value);
    if (name == "admin" && value.IsMap()) return read_section(name, value);  // else the address alone
    if (name == "admin.listen") return read_key(*find_key("admin"), value);
    if (const Key* const key = find_key(name)) return read_key(*key, value);
    if (is_section(name)) return read_section(name, value);
    unknown_key(line(at), name, prefix);
  }

  void read_fixed(const std::string& name, const YAML::Node& value, std::string_view expected) {
    if (value.IsScalar() && value.Scalar() == expected) return;
    const std::string found = value.IsScalar() ? in_quotes(value.Scalar()) : "not a word";
    const bool picker = value.IsScalar() && value.Scalar() == "EndpointPickerConfig";
    problem(
        line(value), name,
        "is " + found + "; expected " + std::string(expected) + (picker ? " (give this file with --epp-config)" : ""));
  }

  void read_section(const std::string& name, const YAML::Node& value) {
    if (value.IsNull()) return;  // a section whose keys are all commented out
    if (value.IsMap()) return read_map(value, name);
    problem(line(value), name, "is a section: expected keys below it, not a value" + known_here(name));
  }

  void read_key(const Key& key, const YAML::Node& value) {
    const std::string expected = "; expected " + std::string(type_name(key.type)) + ": " + accepted_values(key);
    if (value.IsNull())
      return problem(line_of(std::string(key.name)), std::string(key.name), "has no value" + expected);
    if (key.type == Type::list && value.IsSequence()) return read_list(key, value);
    if (!value.IsScalar()) {
      const char* const found = value.IsMap() ? "a map" : "a list";
      return problem(line(value), std::string(key.name), std::string("is ") + found + expected);
    }
    std::string message = set_from_text(key, out_.options, value.Scalar());
    if (!message.empty()) problem(line(value), std::string(key.name), std::move(message));
  }

  // A list that is given replaces the default, also when it is empty.
  void read_list(const Key& key, const YAML::Node& list) {
    static_cast<void>(set_from_text(key, out_.options, "[]"));
    size_t index = 0;
    for (const YAML::Node& item : list) {
      const std::string name = std::string(key.name) + '[' + std::to_string(index++) + ']';
      std::string message =
          item.IsScalar() ? add_item(key, out_.options, item.Scalar()) : "is no text; expected " + accepted_values(key);
      if (!message.empty()) problem(line(item), name, std::move(message));
    }
  }

  void unknown_key(int at, const std::string& name, const std::string& prefix) {
    const std::vector<std::string_view> known = siblings(prefix);
    const std::string last = prefix.empty() ? name : name.substr(prefix.size() + 1);
    std::string message = "is not a known key";
    if (const std::string near = closest(last, known); !near.empty()) message += "; did you mean " + near + "?";
    problem(at, name, message + known_here(prefix));
  }

  static std::string known_here(const std::string& prefix) {
    std::string words;
    for (const std::string_view word : siblings(prefix)) words.append(" ").append(word);
    return " (known here:" + words + ")";
  }

  static std::vector<std::string_view> siblings(const std::string& prefix) {
    std::vector<std::string_view> known;
    const size_t skip = prefix.empty() ? 0 : prefix.size() + 1;
    if (prefix.empty()) known = {"apiVersion", "kind", "endpoints", "listeners"};
    if (prefix == "admin") known = {"listen", "tls"};
    for (const PickerKeys& keys : picker_keys) {
      if (keys.embedded.starts_with(prefix + '.')) known.push_back(keys.embedded.substr(skip));
    }
    for (const Key& key : table()) {
      if (!prefix.empty() && !key.name.starts_with(prefix + '.')) continue;
      const std::string_view rest = key.name.substr(skip);
      const std::string_view word = rest.substr(0, rest.find('.'));
      if (std::find(known.begin(), known.end(), word) == known.end()) known.push_back(word);
    }
    return known;
  }

  // As YAML, or as a text that is YAML.
  void read_embedded_picker(const PickerKeys& keys, const YAML::Node& value) {
    epp::Source source{.file = file_, .prefix = std::string(keys.embedded) + '.', .whole_file = false};
    if (!value.IsScalar()) {
      out_.options.*keys.picker = epp::read_config(value, source, out_.problems, out_.notes);
      return;
    }
    source.lines_before = line(value);  // it begins behind the line of its "|"
    out_.options.*keys.picker = epp::read_config_text(value.Scalar(), source, out_.problems, out_.notes);
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
    if (entry.name.empty()) entry.name = name_of_url(entry.url);
    endpoint_places_.push_back({name, line(item)});
    out_.options.endpoints.push_back(std::move(entry));
  }

  void read_endpoint_map(const YAML::Node& item, const std::string& name, EndpointEntry& entry) {
    std::set<std::string> seen;
    for (const auto& member : item) {
      const std::string key = member.first.IsScalar() ? member.first.Scalar() : "";
      if (!seen.insert(key).second) {
        problem(line(member.first), name + '.' + key, "is given twice");
      } else if (!is_endpoint_key(key)) {
        const std::string near = closest(key, {std::begin(endpoint_keys), std::end(endpoint_keys)});
        problem(
            line(member.first), name + '.' + key,
            "is not a known key" + (near.empty() ? "" : "; did you mean " + near + "?") +
                " (known here: url name engine labels kv_events_port kv_replay_port dns api_key_file tls_server_name)");
      } else if (key == "labels") {
        entry.labels = epp::read_labels(member.second, [&](const YAML::Node& at, std::string message) {
          problem(line(at), name + ".labels", std::move(message));
        });
      } else if (!member.second.IsScalar() || member.second.Scalar().empty()) {
        problem(line(member.first), name + '.' + key, "has no value; expected text");
      } else if (key == "engine" && !is_engine_name(member.second.Scalar())) {
        problem(line(member.second), name + ".engine",
                in_quotes(member.second.Scalar()) + " is not one of: " + engines());
      } else if (key == "name" && !is_endpoint_name(member.second.Scalar())) {
        problem(line(member.second), name + ".name",
                in_quotes(member.second.Scalar()) + " is no name; expected 1 to 253 visible ASCII characters");
      } else if (key == "dns") {
        const std::string& word = member.second.Scalar();
        if (word == "first" || word == "all") entry.all_addresses = word == "all";
        else problem(line(member.second), name + ".dns", in_quotes(word) + " is not one of: first, all");
      } else if (key.ends_with("_port")) {
        uint16_t& port = key == "kv_events_port" ? entry.kv_events_port : entry.kv_replay_port;
        if (!parse_port(member.second.Scalar(), &port)) {
          problem(line(member.second), name + '.' + key,
                  in_quotes(member.second.Scalar()) + " is no port; expected 1 to 65535");
        }
      } else if (key == "tls_server_name" && !check_host(member.second.Scalar()).empty()) {
        problem(line(member.second), name + ".tls_server_name", check_host(member.second.Scalar()));
      } else {
        (key == "url"               ? entry.url
         : key == "name"            ? entry.name
         : key == "api_key_file"    ? entry.api_key_file
         : key == "tls_server_name" ? entry.tls_server_name
                                    : entry.engine) = member.second.Scalar();
      }
    }
  }

  static constexpr std::string_view endpoint_keys[] = {
      "url", "name", "engine", "labels", "kv_events_port", "kv_replay_port", "dns", "api_key_file", "tls_server_name"};
  static bool is_endpoint_key(const std::string& key) {
    return std::find(std::begin(endpoint_keys), std::end(endpoint_keys), key) != std::end(endpoint_keys);
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
  std::vector<EndpointPlace> listener_places_;  // beside options.listeners
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
    if (const int line = loader.line_of(name)) places.given[name] = {file, line, name};
  }
  for (const PickerKeys& keys : picker_keys) {
    const std::string name(keys.embedded);
    if (const int line = loader.line_of(name)) places.given[name] = {file, line, name};
  }
  const std::string admin_tls = "admin.tls";
  if (const int line = loader.line_of(admin_tls)) places.given[admin_tls] = {file, line, admin_tls};
  places.endpoints = loader.endpoint_places();
  places.listeners = loader.listener_places();
}

bool read_file(const std::string& path, std::string& text, LoadResult& result) {
  Result<std::string> read = penstock::read_file(path);
  if (!read.ok()) {
    result.problems.push_back({path, 0, "", read.error().text});
    return false;
  }
  text = std::move(*read);
  return true;
}

void apply_flags(const std::vector<Flag>& flags, LoadResult& result, Places& places) {
  bool endpoints_replaced = false;
  ListenerFlags listener;
  for (const Flag& flag : flags) {
    std::string message;
    if (listener.take(flag)) continue;
    if (flag.key == "endpoints") {
      if (!endpoints_replaced) {
        result.options.endpoints.clear();
        places.endpoints.clear();
        endpoints_replaced = true;
      }
      EndpointEntry entry{.url = flag.value};
      message = check_url(entry.url);
      if (message.empty()) {
        entry.name = name_of_url(entry.url);
        result.options.endpoints.push_back(std::move(entry));
        places.endpoints.push_back({flag.name, 0});
      }
    } else if (const PickerKeys* const keys = find_embedded(flag.key)) {
      result.options.*keys->picker =
          epp::read_config_text(flag.value, {.file = flag.name}, result.problems, result.notes);
      places.given[flag.key] = {"command line", 0, flag.name};
    } else {
      const Key* const key = find_key(flag.key);
      PENSTOCK_ASSERT(key != nullptr);
      message = set_from_text(*key, result.options, flag.value);
      places.given[flag.key] = {"command line", 0, flag.name};
    }
    if (message.empty()) continue;
    Problem problem{"command line", 0, flag.name, std::move(message)};
    // A flag that sets two keys has one problem.
    const bool told = !result.problems.empty() && to_string(result.problems.back()) == to_string(problem);
    if (!told) result.problems.push_back(std::move(problem));
  }
  if (std::string message = listener.finish(result.options, places.listeners); !message.empty()) {
    result.problems.push_back({"command line", 0, "--listen-tls", std::move(message)});
  }
  if (endpoints_replaced) places.file = "command line";
}

// A file that a key or a flag names; the problem says which.
bool read_named_file(const std::string& path, const std::string& key, const Places& places, std::string& text,
                     LoadResult& result) {
  if (read_file(path, text, result)) return true;
  const auto found = places.given.find(key);
  PENSTOCK_ASSERT(found != places.given.end());
  const Place& place = found->second;
  const std::string where = place.line > 0 ? place.file + ':' + std::to_string(place.line) + ": " : "";
  result.problems.back().message += " (named by " + where + place.name + ")";
  return false;
}

// How to choose is said once: by a policy, by a file, or here.
void read_picker_file(const PickerKeys& keys, LoadResult& result, const Places& places,
                      const std::string& config_file) {
  const std::string policy_key(keys.policy), file_key(keys.file), embedded_key(keys.embedded);
  const std::string& path = result.options.*keys.path;
  const bool embedded = places.given.contains(embedded_key);
  const bool file = !path.empty();
  const auto name_of = [&](const std::string& key) {
    const auto found = places.given.find(key);
    return found == places.given.end() ? key : found->second.name;
  };
  const auto complain = [&](const std::string& key, std::string message) {
    result.problems.push_back(problem_of(places, config_file, key, std::move(message)));
  };
  if (places.given.contains(policy_key) && (file || embedded)) {
    complain(policy_key,
             "has no effect beside an EndpointPickerConfig (" + name_of(file ? file_key : embedded_key) + ")");
  }
  if (!file) return;
  if (embedded) return complain(file_key, "is given beside " + name_of(embedded_key) + "; leave one out");
  std::string text;
  if (!read_named_file(path, file_key, places, text, result)) return;
  result.options.*keys.picker = epp::read_config_text(text, {.file = path}, result.problems, result.notes);
}

// Of a shadow only the choice of an endpoint counts.
void note_what_shadows_cannot(LoadResult& result, const Places& places) {
  const epp::Config& picker = *result.options.shadow_picker;
  const epp::SchedulingSpec& spec = picker.scheduling;
  const bool more = picker.flow.enabled || spec.kv_events || spec.prefill || spec.encode || !spec.admitters.empty() ||
                    spec.kv_source_tokens > 0 || !(spec.prefix == routing::PrefixSpec());
  if (!more) return;
  const auto embedded = places.given.find(std::string(shadow_keys.embedded));
  const bool here = embedded != places.given.end() && embedded->second.line > 0;
  const std::string key = here ? embedded->second.name + ".schedulingProfiles" : "schedulingProfiles";
  result.notes.push_back({picker.source, here ? embedded->second.line : 0, key,
                          "of a shadow only \"" + spec.primary.name +
                              "\" has an effect: nobody waits, is refused or is listened to for it, nothing is "
                              "disaggregated, and prompts are cut and matched as for the policy that is obeyed"});
}

// Endpoints are asked for the gauges of the policy that is obeyed, and plugins know them by their number in its list.
void check_shadow_metrics(LoadResult& result) {
  const auto& obeyed = result.options.endpoint_picker;
  const epp::Config& shadow = *result.options.shadow_picker;
  const auto& asked = shadow.scheduling.custom_metrics;
  if (asked.empty() || (obeyed != nullptr && obeyed->scheduling.custom_metrics == asked)) return;
  result.problems.push_back(
      {shadow.source, 0, "plugins",
       "a shadow's customMetrics must be those of the EndpointPickerConfig that is obeyed, in the "
       "same order: only these are scraped"});
}

void read_picker_files(LoadResult& result, const Places& places, const std::string& config_file) {
  for (const PickerKeys& keys : picker_keys) read_picker_file(keys, result, places, config_file);
  if (result.options.shadow_picker == nullptr) return;
  check_shadow_metrics(result);
  note_what_shadows_cannot(result, places);
}

// The file that an EndpointPickerConfig names for the list of endpoints, if it is the only one who says what there is.
void read_discovery_file(LoadResult& result, Places& places) {
  const Options& o = result.options;
  if (o.endpoint_picker == nullptr || o.endpoint_picker->endpoints.path.empty()) return;
  const epp::DiscoveryFile& file = o.endpoint_picker->endpoints;
  if (!o.endpoints.empty() || o.kubernetes.enabled || !o.manifests.empty()) {
    const char* const other = !o.endpoints.empty()   ? "the list of endpoints"
                              : o.kubernetes.enabled ? "a cluster"
                                                     : "manifests";
    result.problems.push_back(
        {o.endpoint_picker->source, file.line, file.key,
         std::string("names a file of endpoints, which already come from ") + other + "; leave one out"});
    return;
  }
  EndpointsFile read = read_endpoints_file(file.path);
  std::ranges::move(read.problems, std::back_inserter(result.problems));
  places.file = file.path;
  for (size_t i = 0; i < read.endpoints.size(); ++i) {
    places.endpoints.push_back({"endpoints[" + std::to_string(i) + "]", read.lines[i]});
  }
  result.options.endpoints = std::move(read.endpoints);
}

// Where an EndpointPickerConfig says that the gauges are, unless metrics.path says it.
void take_metrics_path(LoadResult& result) {
  const auto& picker = result.options.endpoint_picker;
  std::string& path = result.options.poll.metrics_path;
  if (picker != nullptr && !picker->metrics_path.empty() && path == Options().poll.metrics_path)
    path = picker->metrics_path;
}

// What other files add to the configuration, and the checks of the whole.
void complete(LoadResult& result, Places& places, const std::string& file) {
  read_picker_files(result, places, file);
  read_discovery_file(result, places);
  take_metrics_path(result);
  check_all(result, places, file);
  for (const EndpointPlace& place : places.endpoints) {
    result.endpoint_places.push_back({places.file, place.line, place.key, ""});
  }
}

// The objects themselves: their problems are problems of the configuration, which is taken whole or not at all.
void read_manifests(LoadResult& result) {
  if (result.options.manifests.empty()) return;
  result.manifests = objects::read_manifest_path(result.options.manifests, home_namespace(result.options));
  for (const objects::ManifestProblem& problem : result.manifests.problems) {
    result.problems.push_back({problem.file, problem.line, problem.key, problem.message});
  }
}

}  // namespace

LoadResult load(const Source& source) {
  LoadResult result;
  Places places;
  std::string text;
  if (!source.file.empty() && read_file(source.file, text, result)) read_yaml(text, source.file, result, places);
  apply_flags(source.flags, result, places);
  complete(result, places, source.file);
  const auto& picker = result.options.endpoint_picker;
  const bool listed = picker != nullptr && !picker->endpoints.path.empty();
  const bool discovers = result.options.kubernetes.enabled || !result.options.manifests.empty() || listed;
  if (source.needs_endpoints && result.options.endpoints.empty() && !discovers && result.problems.empty()) {
    result.problems.push_back({source.file.empty() ? "command line" : source.file, 0, "endpoints",
                               "there is no model server to send requests to; give --endpoint http://HOST:PORT (once "
                               "for each), or list them under endpoints: in the file of --config; on a cluster give "
                               "--kubernetes, for objects in files --manifests DIR"});
  }
  read_manifests(result);
  return result;
}

LoadResult load_file(const std::string& path) {
  return load(Source{.file = path});
}

LoadResult load_text(std::string_view text, const std::string& file) {
  LoadResult result;
  Places places;
  read_yaml(text, file, result, places);
  complete(result, places, file);
  read_manifests(result);
  return result;
}

}  // namespace penstock::config
