#include "replay_command.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <optional>

#include "replay_policies.h"

namespace penstock::config {
namespace {

std::vector<std::string> names_of(std::span<const std::string_view> names) {
  return {names.begin(), names.end()};
}

std::string describe_policies() {
  std::string text = "Policies:\n";
  for (const replay::ContestantInfo& info : replay::contestants()) {
    std::string line = "  " + std::string(info.name);
    line.append(22 - line.size(), ' ');
    text += line + std::string(info.what) + "\n";
  }
  return text +
         R"(Add +hold to any of these names for late binding: requests wait in the gateway while every endpoint is saturated.

A file is an EndpointPickerConfig, such as epp.yaml or ./epp: its profile decides, and its flow control holds requests where
its feature gate is on; with +hold behind the name, ours does. What a trace or a simulated engine cannot tell it (headers,
labels, adapters, ...) is said on stderr.

Traces: JSON lines with timestamp, input_length, output_length and hash_ids (Mooncake); CSV of the Azure LLM
inference traces; our own access log as JSON lines.

With --decisions, the decisions on a saved page of /debug/decisions are made again from the inputs recorded with them: by
the policy that made them, where nothing may differ, or by the one that --policy names, which may be a file.

Examples:
  penstock replay --trace perf/traces/mooncake-excerpt.jsonl --compare
  penstock replay --trace trace.jsonl --policy expected-cost --policy epp-default --speed 1.6 --seeds 5 --compare
  penstock replay --trace trace.jsonl --policy epp.yaml --policy expected-cost+hold --compare
  curl -s http://127.0.0.1:9090/debug/decisions > page.json; penstock replay --decisions page.json --policy lmetric)";
}

bool possible(double speed) {
  return speed >= 1e-3 && speed <= 1e3;
}

// SECONDS:ENGINE:SPEED; nothing where it is not that.
std::optional<replay::SpeedChange> speed_change_in(const std::string& text, uint32_t engines) {
  const char* next = text.data();
  const char* const end = next + text.size();
  const auto number = [&next, end](auto& out, bool last) {
    const auto [stop, error] = std::from_chars(next, end, out);
    if (error != std::errc() || (stop == end) != last || (!last && *stop != ':')) return false;
    next = last ? stop : stop + 1;
    return true;
  };
  double at = 0, speed = 0;
  uint32_t endpoint = 0;
  if (!number(at, false) || !number(endpoint, false) || !number(speed, true)) return std::nullopt;
  if (!(at >= 0 && at <= 1e9) || endpoint >= engines || !possible(speed)) return std::nullopt;
  return replay::SpeedChange{Instant(from_seconds(at)), endpoint, speed};
}

// How fast which engines are, and when that changes. "" or what is wrong.
std::string settle_speeds(const ReplayFlags& flags, replay::Setup& setup) {
  if (flags.slow_engines > setup.endpoints) return "--slow-engines must not be more than --engines";
  if (flags.slow_engines > 0) setup.engine_speeds.assign(flags.slow_engines, 0.5);
  if (setup.engine_speeds.size() > setup.endpoints) return "--engine-speeds: there are fewer engines";
  if (!std::all_of(setup.engine_speeds.begin(), setup.engine_speeds.end(), possible)) {
    return "--engine-speeds: want numbers from 0.001 to 1000";
  }
  for (const std::string& text : flags.speed_changes) {
    const auto change = speed_change_in(text, setup.endpoints);
    if (!change) {
      return "--change-speed: \"" + text +
             "\"; want SECONDS:ENGINE:SPEED such as 300:0:0.5, engines from 0, speed 0.001 to 1000";
    }
    setup.speed_changes.push_back(*change);
  }
  const auto earlier = [](const auto& a, const auto& b) { return a.at < b.at; };
  std::stable_sort(setup.speed_changes.begin(), setup.speed_changes.end(), earlier);
  return "";
}

void define_load(CLI::App& app, ReplayFlags& flags) {
  replay::Options& out = flags.options;
  const std::string group = "Load";
  app.add_option("--trace", out.traces, "Recorded trace; repeat to put several on top of each other; - reads stdin")
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(group);
  app.add_option("--decisions", out.decisions, "Recorded decisions to make again; - reads stdin")
      ->type_name("FILE")
      ->excludes("--trace")
      ->group(group);
  app.add_option("--speed", out.setup.speed, "Requests come this many times as fast as recorded")
      ->check(CLI::Range(1e-3, 1e6))
      ->capture_default_str()
      ->group(group);
  app.add_option("--length-scale", out.length_scale, "Prompts and answers are this many times as long as recorded")
      ->check(CLI::Range(1e-3, 100.0))
      ->capture_default_str()
      ->group(group);
  app.add_option("--limit", out.limit, "Only the first N requests (0: all)")->capture_default_str()->group(group);
  app.add_option("--streaming", out.setup.streaming, "Share of the requests that stream")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  app.add_flag("--silent", out.setup.silent,
               "Nothing can be learnt: no metrics after the first look, no usage, and nobody streams")
      ->excludes("--streaming")
      ->group(group);
  app.add_option("--burst", out.setup.burst, "Requests come N at a time")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str()
      ->group(group);
  app.add_option("--token-noise", out.setup.token_noise, "Error of token estimates (sigma of the log)")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str()
      ->group(group);
}

void define_fleet(CLI::App& app, ReplayFlags& flags) {
  replay::Setup& setup = flags.options.setup;
  const std::string group = "Endpoints";
  app.add_option("--engines", setup.endpoints, "Simulated engines")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->group(group);
  app.add_option("--slow-engines", flags.slow_engines, "How many of them take twice as long for everything")
      ->capture_default_str()
      ->group(group);
  app.add_option("--engine-speeds", setup.engine_speeds,
                 "Of the first ones, such as 1,1,0.5; 0.5 takes twice as long for everything (all others: 1)")
      ->delimiter(',')
      ->type_name("LIST")
      ->excludes("--slow-engines")
      ->group(group);
  app.add_option("--change-speed", flags.speed_changes,
                 "From SECONDS of the replay on, engine 0, 1, ... has this speed; repeat for more")
      ->type_name("SECONDS:ENGINE:SPEED")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(group);
  app.add_option("--engine", flags.engine, "Kind of engine")
      ->check(CLI::IsMember(names_of(replay::engine_names())))
      ->capture_default_str()
      ->group(group);
  app.add_option("--prefill-tokens-per-s", flags.prefill_tokens_per_s, "Instead of what --engine says")
      ->check(CLI::PositiveNumber)
      ->group(group);
  app.add_option("--decode-ms", flags.decode_ms, "Instead of what --engine says")
      ->check(CLI::PositiveNumber)
      ->group(group);
  app.add_option("--kv-blocks", flags.kv_blocks, "Blocks of 16 tokens, instead of what --engine says")
      ->check(CLI::Range(1u, 1u << 26))
      ->group(group);
  app.add_option("--max-num-seqs", flags.max_num_seqs, "Sequences running together, instead of what --engine says")
      ->check(CLI::Range(1, 1 << 20))
      ->group(group);
  app.add_option("--max-num-batched-tokens", flags.max_num_batched_tokens, "Instead of what --engine says")
      ->check(CLI::Range(1, 1 << 24))
      ->group(group);
  app.add_option("--scrape-ms", flags.scrape_ms,
                 "Time between two looks at an endpoint's metrics (0: before each decision)")
      ->check(CLI::Range(0.0, 3.6e6))
      ->capture_default_str()
      ->group(group);
}

void define_output(CLI::App& app, ReplayFlags& flags) {
  replay::Options& out = flags.options;
  const std::string group = "Policies and figures";
  app.add_option("--policy", out.policies,
                 "Who decides, a name of those below or an EndpointPickerConfig's file; repeat for more (default "
                 "expected-cost+hold; all names with --compare)")
      ->type_name("NAME|FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(group);
  app.add_option("--hold-ms", flags.hold_ms,
                 "Policies with +hold: an endpoint with this much prefill before it takes no more")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str()
      ->group(group);
  app.add_option("--aging-s", out.setup.flow.aging_seconds,
                 "Policies with +hold: seconds of waiting that outweigh one second of prefill")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str()
      ->group(group);
  app.add_flag("--compare", out.compare, "One table, a row for each policy")->group(group);
  app.add_option("--plot", out.plot, "Also draw the figures, as SVG")->type_name("FILE")->group(group);
  app.add_option("--seed", out.seed, "Of the first run: equal seeds give equal figures")
      ->capture_default_str()
      ->group(group);
  app.add_option("--seeds", out.seeds, "Runs, each with the next seed; figures become means with 95 % intervals")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group(group);
  app.add_option("--slo-ttft-s", flags.slo_ttft_s, "Time to first token that counts as good")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(group);
  app.add_option("--slo-tpot-ms", flags.slo_tpot_ms, "Time per output token that counts as good")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(group);
  app.add_flag("--ask-slo", flags.ask_slo, "Requests ask for these times, for policies that predict latency")
      ->group(group);
}

}  // namespace

void define_replay(CLI::App& app, ReplayFlags& flags) {
  app.footer(describe_policies());
  define_load(app, flags);
  define_fleet(app, flags);
  define_output(app, flags);
}

std::string settle_replay(ReplayFlags& flags) {
  replay::Options& out = flags.options;
  engine::EngineOptions& engine = out.setup.engine;
  if (!replay::find_engine(flags.engine, &engine)) return "--engine: there is no " + flags.engine;
  if (flags.prefill_tokens_per_s > 0) engine.prefill_tokens_per_s = flags.prefill_tokens_per_s;
  if (flags.decode_ms > 0) engine.decode_ms = flags.decode_ms;
  if (flags.kv_blocks > 0) engine.kv_blocks = flags.kv_blocks;
  if (flags.max_num_seqs > 0) engine.max_num_seqs = flags.max_num_seqs;
  if (flags.max_num_batched_tokens > 0) engine.max_num_batched_tokens = flags.max_num_batched_tokens;
  if (engine.max_num_batched_tokens < engine.max_num_seqs) {
    return "--max-num-batched-tokens must be at least --max-num-seqs";
  }
  out.setup.scrape = from_seconds(flags.scrape_ms / 1000);
  out.setup.flow.detector.hold = from_seconds(flags.hold_ms / 1000);
  out.slo = {from_seconds(flags.slo_ttft_s), from_seconds(flags.slo_tpot_ms / 1000)};
  if (flags.ask_slo) {
    out.setup.slo_ttft_ms = flags.slo_ttft_s * 1000;
    out.setup.slo_tpot_ms = flags.slo_tpot_ms;
  }
  if (std::string wrong = settle_speeds(flags, out.setup); !wrong.empty()) return wrong;
  for (const std::string& name : out.policies) {
    if (replay::known_contestant(name)) continue;
    if (names_file(name)) continue;
    return "--policy: there is no policy \"" + name +
           "\"; penstock replay --help lists them (a file's name has a dot or a slash)";
  }
  if (!out.decisions.empty()) return out.policies.size() > 1 ? "--decisions takes one --policy at most" : "";
  if (out.traces.empty()) return "--trace is required (or --decisions)";
  if (out.policies.empty() && out.compare) {
    for (const replay::ContestantInfo& info : replay::contestants()) out.policies.emplace_back(info.name);
  }
  if (out.policies.empty()) out.policies = {"expected-cost+hold"};
  return "";
}

}  // namespace penstock::config
