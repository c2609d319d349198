// The plugins of an EndpointPickerConfig: what there is, one row for each, and what a configuration says of one. Names,
// parameters and defaults are those of the Gateway API Inference Extension's Endpoint Picker (1.4, 1.5) and of llm-d's
// (0.8); docs/EPP_PLUGINS.md is made from the rows, and docs/EPP_CONFIG.md lists where we differ. Start-up only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "penstock/admission/options.h"
#include "penstock/objects/types.h"
#include "penstock/routing/router.h"

namespace penstock::epp {

struct PluginSpec;
struct SchedulingSpec;  // scheduling.h

enum class PluginKind : uint8_t {
  scorer,
  filter,
  scorer_and_filter,  // filters when a parameter says so
  picker,
  profile_handler,
  decider,      // whether a stage runs
  admitter,     // of requests of negative priority
  screener,     // filters before the profiles do, for all of them alike
  detector,     // of saturation; in a profile it filters
  saturation,   // of saturation only
  flow,         // a policy of flow control
  built_in,     // what the gateway does anyway: accepted, without effect
  unsupported,  // known, but not here: `note` says why and what to use instead
};
std::string_view to_string(PluginKind kind);  // "scorer"

enum class ParameterType : uint8_t {
  boolean,
  integer,
  number,
  duration,
  text,
  choice,
  texts,
  numbers,  // a map of whole numbers to numbers
  caps,     // a list of `metric` (one of `words`) with its `maxValue`
  weights,  // a map of words to numbers above 0, at least one; read as Caps
  selector,
  on,   // boolean, and it is always true: false is accepted without effect, `note` says why
  off,  // likewise
  any,  // whatever it says is accepted without effect: `note` says why. Without a note: it is read by the plugin's own
        // reader
};

struct ParameterInfo {
  std::string_view name;  // "algorithm.type"
  ParameterType type;
  double least = 0, most = 0;                    // of integers and numbers; seconds
  std::span<const std::string_view> words = {};  // choice
  std::string_view fallback = {};  // what counts where it is not given, as one would write it; "": nothing
  std::string_view doc = {};
  bool required = false;
  std::string_view note = {};  // it is accepted and has no effect, for this reason
};

// What the gateway has to know of each request and endpoint, so that a plugin can do its work.
struct Needs {
  bool prefixes = false;        // Candidate::matched_blocks
  bool epp_hashes = false;      // and prompts are to be hashed as the Endpoint Picker does
  bool media = false;           // Features::media
  bool predictions = false;     // Candidate::predicted
  bool picks = false;           // who was picked
  bool session_tokens = false;  // answers carry one
};

// Which profile decides what, as a profile handler says.
enum class Handling : uint8_t {
  one_profile,
  by_header,            // a header of the request names it
  stages,               // one for each stage, if its decider says that the stage runs elsewhere
  stages_by_threshold,  // the same; without a decider, a number of characters decides
};

// How a plugin is made; null where it is nothing of that kind. `whole`: what else the configuration says.
struct Makers {
  std::unique_ptr<routing::Scorer> (*scorer)(const PluginSpec& said, const SchedulingSpec& whole) = nullptr;
  // May return null: its parameters say that it does not filter.
  std::unique_ptr<routing::Filter> (*filter)(const PluginSpec& said, const SchedulingSpec& whole) = nullptr;
  std::unique_ptr<routing::Admitter> (*admitter)(const PluginSpec& said, const SchedulingSpec& whole) = nullptr;
  std::unique_ptr<routing::Picker> (*picker)(const PluginSpec& said) = nullptr;
  routing::StageRule (*decider)(const PluginSpec& said) = nullptr;
  void (*detector)(const PluginSpec& said, admission::DetectorOptions* out) = nullptr;
};

// What of a plugin is not known where nothing is served (replay.h).
struct ReplayRule {
  std::string_view note = {};                                          // "": it works as ever
  enum class Of : uint8_t { traces, both, left_out } of = Of::traces;  // left_out: of both, and nobody would pass
  bool unless_slo_asked = false;
};

struct PluginInfo {
  std::string_view type;
  PluginKind kind;
  std::string_view doc;  // what it does
  std::span<const ParameterInfo> parameters = {};
  std::string_view note = {};   // why it is not supported, or has no effect; what to know where a parameter is wrong
  std::string_view older = {};  // another name of the type
  Needs needs = {};
  // Where it depends on what is said; instead of `needs`.
  Needs (*needs_of)(const PluginSpec& said, const SchedulingSpec& whole) = nullptr;
  Makers make = {};
  Handling handling = Handling::one_profile;  // of profile handlers
  std::string_view announcement = {};         // noted wherever it is declared
  ReplayRule replay = {};
};
// In the order in which they are offered.
std::span<const PluginInfo> plugin_types();
const PluginInfo* find_plugin_type(std::string_view type);  // also by an older name; null: there is none
bool runs_in_profile(PluginKind kind);
// docs/EPP_PLUGINS.md.
std::string plugins_markdown();

// Booleans, numbers (durations: seconds), text, lists of text, numbers by priority in the order of that, highest first.
using NumbersByPriority = std::vector<std::pair<int, double>>;
using Caps = std::vector<std::pair<std::string, double>>;
using ParameterValue = std::variant<bool, double, std::string, std::vector<std::string>, NumbersByPriority, Caps>;

struct PluginSpec {
  std::string name;
  const PluginInfo* info = nullptr;
  std::vector<std::pair<std::string, ParameterValue>> parameters;  // checked against `info`
  objects::LabelSelector selector;                                 // of by-label-selector

  bool has(std::string_view parameter) const;
  // What is said, else what the row says, else nothing: false, 0, "".
  bool flag(std::string_view parameter) const;
  double number(std::string_view parameter) const;
  std::string text(std::string_view parameter) const;
  std::vector<std::string> texts(std::string_view parameter) const;
  NumbersByPriority numbers(std::string_view parameter) const;
  Caps caps(std::string_view parameter) const;
};

}  // namespace penstock::epp
