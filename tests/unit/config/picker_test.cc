// Golden files: what each EndpointPickerConfig of tests/golden/config/picker comes to.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "penstock/config/load.h"
#include "penstock/config/reference.h"
#include "penstock/epp/config.h"
#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::config;
using namespace penstock::test;

namespace {

namespace fs = std::filesystem;

std::string describe_band(const admission::BandOptions& band) {
  const char* const fairness[] = {"round-robin-fairness-policy", "global-strict-fairness-policy",
                                  "program-aware-fairness (las)", "program-aware-fairness (turn-priority)"};
  const char* const ordering[] = {"least-work-ordering-policy", "fcfs-ordering-policy", "edf-ordering-policy",
                                  "slo-deadline-ordering-policy"};
  return std::to_string(band.bytes_max) + " bytes, " + std::to_string(band.requests_max) + " requests, " +
         fairness[static_cast<size_t>(band.fairness)] + ", " + ordering[static_cast<size_t>(band.ordering)] +
         (band.ttl ? ", TTL " + std::to_string(to_seconds(*band.ttl)) + " s" : "");
}

std::string describe_rule(const routing::StageRule& rule) {
  const char* const names[] = {"never", "always", "uncached", "multimodal"};
  return std::string(names[static_cast<size_t>(rule.when)]) + ' ' + std::to_string(rule.uncached_tokens);
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

std::string describe_usage(const admission::FlowOptions& flow) {
  const char* const kinds[] = {"same", "by rank", "by value", "listed", "reflective"};
  std::string out = std::string("ceilings: ") + kinds[static_cast<size_t>(flow.usage.kind)];
  for (const admission::PriorityBand& band : flow.bands) {
    const double ceiling = flow.usage.ceiling(band.priority, flow.rank_of(band.priority));
    out += ", " + std::to_string(band.priority) + ": " + number(ceiling);
  }
  return out + '\n';
}

std::string describe_programs(const admission::ProgramOptions& programs) {
  return "programs: service " + number(programs.service_weight) + ", wait " + number(programs.wait_weight) +
         ", half-life " + number(programs.half_life) + " s, turns a second " + number(programs.wait_turns) +
         ", inactive after " + number(to_seconds(programs.inactivity)) + " s, forgotten after " +
         number(to_seconds(programs.forget_after)) + " s\n";
}

std::string describe_engines(const epp::EnginesSpec& engines) {
  std::string out;
  for (const epp::EngineSpec& engine : engines.added) {
    out += "engine " + engine.name + ':';
    for (const auto* gauge : {&engine.queued, &engine.running, &engine.kv_usage, &engine.loras, &engine.cache_config}) {
      out += ' ' + (!*gauge ? "as known" : (*gauge)->family.empty() ? "none" : (*gauge)->family);
      if (!*gauge) continue;
      for (const auto& [label, value] : (*gauge)->labels) out += '{' + label + '=' + value + '}';
    }
    out += '\n';
  }
  if (!engines.otherwise.empty()) out += "engine by default: " + engines.otherwise + '\n';
  if (!engines.label.empty()) out += "label of engines: " + engines.label + '\n';
  return out;
}

std::string describe(const epp::Config& picker) {
  std::string out;
  const epp::SchedulingSpec& spec = picker.scheduling;
  for (const epp::ProfileSpec::Use& use : spec.primary.plugins) {
    if (use.plugin.parameters.empty() && use.plugin.selector == objects::LabelSelector{}) continue;
    out += use.plugin.name + ": " + std::to_string(use.plugin.parameters.size()) + " parameters, " +
           std::to_string(use.plugin.selector.match_labels.size()) + " labels, " +
           std::to_string(use.plugin.selector.requirements.size()) + " expressions\n";
  }
  if (!spec.profile_header.empty()) {
    out += "header \"" + spec.profile_header + "\" chooses among " + std::to_string(spec.by_header.size()) + " more\n";
  }
  if (spec.prefill) out += "prefill " + describe_rule(spec.prefill_rule) + '\n';
  if (spec.encode) out += "encode " + describe_rule(spec.encode_rule) + '\n';
  const routing::PrefixSpec& prefix = spec.prefix;
  out += std::string("prefix: ") + (prefix.auto_tune ? "tuned" : "fixed") + ", blocks of " +
         std::to_string(prefix.block_tokens) + ", " + std::to_string(prefix.capacity_blocks) + " of them, reach " +
         std::to_string(prefix.blocks_max) + " blocks, " + std::to_string(prefix.tokens_max) + " tokens\n";
  if (!picker.metrics_path.empty()) out += "metrics: " + picker.metrics_path + '\n';
  if (spec.kv_events) {
    out += "KV events: topic \"" + spec.kv_events->topic.value_or("") + "\", port " +
           std::to_string(spec.kv_events->port.value_or(0)) +
           (spec.kv_events->replay_port ? ", replay " + std::to_string(*spec.kv_events->replay_port) : "") + '\n';
  }
  if (spec.burst) {
    out += "bursts: " + spec.burst->producer + ", " + number(to_seconds(spec.burst->options.window)) + " s, " +
           std::to_string(spec.burst->options.per_replica) + " each, to " +
           std::to_string(spec.burst->options.tokens_max) + " tokens, beginnings of " +
           std::to_string(spec.burst->options.begin_tokens) + '\n';
  }
  for (const epp::CustomMetric& metric : spec.custom_metrics) {
    out += "metric " + metric.attribute + ": " + metric.family;
    for (const auto& [label, value] : metric.labels) out += ' ' + label + '=' + value;
    out += '\n';
  }
  out += describe_engines(spec.engines);
  if (!(spec.media == epp::MediaSpec{})) out += "media: " + std::to_string(spec.media.items) + " items\n";
  if (spec.kv_source_tokens > 0) out += "KV source: " + std::to_string(spec.kv_source_tokens) + " tokens\n";
  for (const epp::PluginSpec& admitter : spec.admitters) out += "admitter " + admitter.name + '\n';
  if (spec.prediction) {
    out += std::string("predictions: ") + (spec.prediction->made ? "made, " : "not made, ") +
           (spec.prediction->streaming ? "of streams" : "of whole answers") + ", pace times " +
           number(spec.prediction->pace_factor) + ", role \"" + spec.prediction->role_label + "\"\n";
  }
  const admission::DetectorOptions& detector = picker.flow.detector;
  const char* const detectors[] = {"late-binding-detector", "utilization-detector", "concurrency-detector"};
  out += std::string("saturation: ") + detectors[static_cast<size_t>(detector.detector)] + ", queue " +
         number(detector.queue_depth) + ", KV " + number(detector.kv_usage_max) + ", stale " +
         number(to_seconds(detector.metrics_stale_after)) + " s, hold " + number(to_seconds(detector.hold)) +
         " s, KV " + number(detector.kv_limit) + ", at most " +
         (detector.by_requests ? number(detector.concurrency) + " requests" : "") +
         (detector.by_requests && detector.by_tokens ? " and " : "") +
         (detector.by_tokens ? number(detector.tokens) + " tokens" : "") + ", limit " + number(detector.usage_limit) +
         '\n';
  const admission::FlowOptions& flow = picker.flow;
  out += std::string("flow: ") + (flow.enabled ? "on" : "off") + ", " + std::to_string(flow.bytes_max) + " bytes, " +
         std::to_string(flow.requests_max) + " requests, TTL " + number(to_seconds(flow.ttl)) + " s, " +
         number(to_seconds(flow.no_endpoint_ttl)) + " s without endpoints, aging " + number(flow.aging_seconds) + '\n';
  out += "band: " + describe_band(flow.band) + '\n';
  if (flow.negative_band) out += "negative band: " + describe_band(*flow.negative_band) + '\n';
  if (flow.usage.kind != admission::UsageLimit::same) out += describe_usage(flow);
  if (flow.counts_programs()) out += describe_programs(flow.programs);
  for (const std::string& name : picker.identity_headers) out += "identity: " + name + '\n';
  for (const admission::PriorityBand& band : flow.bands) {
    out += "band " + std::to_string(band.priority) + ": " + describe_band(band.options) + '\n';
  }
  return out;
}

std::string outcome(const fs::path& file) {
  LoadResult loaded = load({.flags = {{"--epp-config", "routing.epp_config", file.string()}}});
  std::string out;
  for (Problem& problem : loaded.problems) {
    problem.file = fs::path(problem.file).filename();
    out += to_string(problem) + '\n';
  }
  for (Problem& note : loaded.notes) {
    note.file = fs::path(note.file).filename();
    out += "note: " + to_string(note) + '\n';
  }
  if (!loaded.ok()) return out;
  for (const std::string& line : describe_picker(loaded.options)) out += line + '\n';
  return out + describe(*loaded.options.endpoint_picker);
}

}  // namespace

TEST_CASE("EndpointPickerConfigs in all spellings, good and bad") {
  const std::string folder = "tests/golden/config/picker/";
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(source_file(folder))) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    CAPTURE(entry.path().string());
    check_golden(folder + entry.path().stem().string() + ".txt", outcome(entry.path()));
    const bool bad = entry.path().filename().string().starts_with("bad-");
    CHECK(load({.flags = {{"--epp-config", "routing.epp_config", entry.path().string()}}}).ok() == !bad);
  }
  CHECK(files >= 26);
}

TEST_CASE("an EndpointPickerConfig may be a part of ours, as YAML or as text, and lines stay right") {
  const auto problems = [](std::string_view text) {
    std::string out;
    for (const Problem& problem : load_text(text, "g.yaml").problems) out += to_string(problem) + '\n';
    return out;
  };
  const LoadResult map = load_text(
      "kind: GatewayConfig\nrouting:\n  endpoint_picker:\n    plugins:\n      - type: queue-scorer\n", "g.yaml");
  REQUIRE(map.ok());
  REQUIRE(map.options.endpoint_picker != nullptr);
  CHECK(map.options.endpoint_picker->scheduling.primary.plugins.size() == 1);
  const LoadResult text = load_text(
      "kind: GatewayConfig\nrouting:\n  endpoint_picker: |\n    kind: EndpointPickerConfig\n    plugins:\n"
      "      - type: queue-scorer\n",
      "g.yaml");
  REQUIRE(text.ok());
  CHECK(text.options.endpoint_picker->scheduling.primary.plugins.size() == 1);

  CHECK(problems("kind: GatewayConfig\nrouting:\n  endpoint_picker:\n    plugins:\n      - type: quue-scorer\n")
            .starts_with("g.yaml:5: routing.endpoint_picker.plugins[0].type: \"quue-scorer\" is not one of"));
  CHECK(problems("kind: GatewayConfig\nrouting:\n  endpoint_picker: |\n    plugins:\n      - type: quue-scorer\n")
            .starts_with("g.yaml:5: routing.endpoint_picker.plugins[0].type: \"quue-scorer\" is not one of"));
  CHECK(problems("kind: GatewayConfig\nrouting:\n  policy: random\n  endpoint_picker: {}\n") ==
        "g.yaml:3: routing.policy: has no effect beside an EndpointPickerConfig (routing.endpoint_picker)\n");
  CHECK(problems("kind: GatewayConfig\nrouting:\n  epp_config: x.yaml\n  endpoint_picker: {}\n") ==
        "g.yaml:3: routing.epp_config: is given beside routing.endpoint_picker; leave one out\n");
  CHECK(problems("kind: GatewayConfig\nrouting:\n  epp_config: /no/such.yaml\n") ==
        "/no/such.yaml: cannot be read: No such file or directory (named by g.yaml:3: routing.epp_config)\n");
  const std::string wrong = source_file("tests/golden/config/full.yaml");
  const LoadResult gateway = load({.flags = {{"--epp-config", "routing.epp_config", wrong}}});
  REQUIRE(gateway.problems.size() == 1);
  CHECK(to_string(gateway.problems[0]).find("expected EndpointPickerConfig (give this file with --config)") !=
        std::string::npos);
  const LoadResult flag = load({.flags = {{"--shadow-epp-config", "routing.shadow_epp_config", "/no/such.yaml"}}});
  REQUIRE(flag.problems.size() == 1);
  CHECK(to_string(flag.problems[0]) ==
        "/no/such.yaml: cannot be read: No such file or directory (named by --shadow-epp-config)");
  CHECK(problems("kind: EndpointPickerConfig\n")
            .starts_with("g.yaml:1: kind: is \"EndpointPickerConfig\"; expected GatewayConfig (give this file with "
                         "--epp-config)\n"));
}

TEST_CASE("an EndpointPickerConfig may be given as text on the command line") {
  const auto with = [](std::vector<Flag> flags, const std::string& text) {
    flags.push_back({"--epp-config-text", "routing.endpoint_picker", text});
    return load({.flags = flags});
  };
  const std::string head = "apiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\n";
  const LoadResult good = with({}, head + "plugins: [{type: queue-scorer}]\nfeatureGates: [dataLayer]\n");
  REQUIRE(good.ok());
  CHECK(good.options.endpoint_picker->scheduling.primary.plugins.size() == 1);
  CHECK(good.options.endpoint_picker->source == "--epp-config-text");
  REQUIRE(good.notes.size() == 1);
  CHECK(to_string(good.notes[0]).starts_with("--epp-config-text:4: featureGates[0]: "));
  const auto problem = [](const LoadResult& result) {
    return result.problems.size() == 1 ? to_string(result.problems[0]) : "";
  };
  CHECK(problem(with({}, head + "plugins: [{type: queue}]"))
            .starts_with("--epp-config-text:3: plugins[0].type: \"queue\" is not one of"));
  CHECK(problem(with({}, head + "plugins: [")).starts_with("--epp-config-text:3: not valid YAML: "));
  CHECK(problem(with({{"--policy", "routing.policy", "random"}}, head)) ==
        "command line: --policy: has no effect beside an EndpointPickerConfig (--epp-config-text)");
  CHECK(problem(with({{"--epp-config", "routing.epp_config", "x.yaml"}}, head)) ==
        "command line: --epp-config: is given beside --epp-config-text; leave one out");
}

TEST_CASE("an EndpointPickerConfig says where gauges are, unless metrics.path does") {
  const std::string file = source_file("tests/golden/config/picker/guide-metrics-path.yaml");
  const Flag epp = {"--epp-config", "routing.epp_config", file};
  CHECK(load({.flags = {epp}}).options.poll.metrics_path == "/prometheus/metrics");
  CHECK(load({.flags = {epp, {"--metrics-path", "metrics.path", "/own"}}}).options.poll.metrics_path == "/own");
}

TEST_CASE("that of a shadow may be embedded or given as text, too") {
  const auto problems = [](const std::string& routing) {
    std::string out;
    for (const Problem& problem : load_text("kind: GatewayConfig\nrouting:\n" + routing, "g.yaml").problems)
      out += to_string(problem) + '\n';
    return out;
  };
  const std::string key = "routing.shadow_endpoint_picker";
  for (const char* const text : {"", " |"}) {
    const std::string begin = std::string("  shadow_endpoint_picker:") + text + "\n    plugins:\n      - type: ";
    const LoadResult good =
        load_text("kind: GatewayConfig\nrouting:\n  policy: random\n" + begin + "queue-scorer\n", "g.yaml");
    REQUIRE(good.ok());
    REQUIRE(good.options.shadow_picker != nullptr);
    CHECK(good.options.endpoint_picker == nullptr);
    CHECK(good.notes.empty());
    CHECK(describe_picker(good.options) == std::vector<std::string>{"shadow profile default: queue-scorer*1"});
    CHECK(
        problems(begin + "quue-scorer\n").starts_with("g.yaml:5: " + key + ".plugins[0].type: \"quue-scorer\" is not"));
  }
  CHECK(problems("  shadow_policy: random\n  shadow_endpoint_picker: {}\n") ==
        "g.yaml:3: routing.shadow_policy: has no effect beside an EndpointPickerConfig (" + key + ")\n");
  CHECK(problems("  shadow_epp_config: x.yaml\n  shadow_endpoint_picker: {}\n") ==
        "g.yaml:3: routing.shadow_epp_config: is given beside " + key + "; leave one out\n");
  const LoadResult both = load_text(
      "kind: GatewayConfig\nrouting:\n  endpoint_picker: {plugins: [{type: queue-scorer}]}\n"
      "  shadow_endpoint_picker:\n    featureGates: [flowControl]\n",
      "g.yaml");
  REQUIRE(both.ok());
  REQUIRE(both.notes.size() == 1);
  CHECK(to_string(both.notes[0])
            .starts_with("g.yaml:4: " + key + ".schedulingProfiles: of a shadow only \"default\" has an effect"));
  const LoadResult without =
      load_text("kind: GatewayConfig\nrouting:\n  endpoint_picker: {plugins: [{type: queue-scorer}]}\n", "g.yaml");
  CHECK(changes_needing_restart(without.options, both.options) ==
        std::vector<std::string>{key + " (the EndpointPickerConfig)"});
  CHECK(diff(without.options, both.options) ==
        std::vector<std::string>{"the shadow's EndpointPickerConfig of g.yaml has changed"});

  const std::string head = "apiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\n";
  const std::string flag = "--shadow-epp-config-text";
  const auto gauge = [](const char* name) {
    return std::string(
               "plugins: [{type: core-metrics-extractor, parameters: {engineConfigs: [{name: vllm, "
               "customMetrics: [{attributeKey: a, metricSpec: ") +
           name + "}]}]}}, {type: queue-scorer}]\n";
  };
  const auto both_ask = [&](const char* shadows) {
    const LoadResult result = load({.flags = {{"--epp-config-text", "routing.endpoint_picker", head + gauge("depth")},
                                              {flag, key, head + gauge(shadows)}}});
    return result.problems.empty() ? "" : to_string(result.problems[0]);
  };
  CHECK(both_ask("depth") == "");
  CHECK(both_ask("other").starts_with(flag + ": plugins: a shadow's customMetrics must be those of"));
  const LoadResult text = load({.flags = {{flag, key, head + "plugins: [{type: queue-scorer}]\n"}}});
  REQUIRE(text.ok());
  CHECK(text.options.shadow_picker->source == flag);
  const LoadResult bad = load({.flags = {{flag, key, head + "plugins: [{type: queue}]"}}});
  REQUIRE(bad.problems.size() == 1);
  CHECK(to_string(bad.problems[0]).starts_with(flag + ":3: plugins[0].type: \"queue\" is not one of"));
}

TEST_CASE("a change of the EndpointPickerConfig needs a restart, and one of its layout is none") {
  const auto options = [](const std::string& type, const char* comment) {
    return load_text("kind: GatewayConfig\nrouting:\n  endpoint_picker: # " + std::string(comment) +
                         "\n    plugins:\n      - type: " + type + "\n",
                     "g.yaml")
        .options;
  };
  const Options one = options("queue-scorer", ""), same = options("queue-scorer", "a comment");
  const Options other = options("load-aware-scorer", "");
  CHECK(changes_needing_restart(one, same).empty());
  CHECK(diff(one, same).empty());
  CHECK(changes_needing_restart(one, other) ==
        std::vector<std::string>{"routing.endpoint_picker (the EndpointPickerConfig)"});
  CHECK(diff(one, other) == std::vector<std::string>{"the EndpointPickerConfig of g.yaml has changed"});
  CHECK(changes_needing_restart(one, Options{}).size() == 1);
}
