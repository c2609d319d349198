// EndpointPickerConfigs as policies of `penstock replay`, over a recorded trace.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "penstock/config/command_line.h"
#include "penstock/replay/decisions.h"
#include "penstock/replay/trace.h"
#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::config;
using namespace penstock::test;

namespace {

namespace fs = std::filesystem;
using replay::RunResult;

const replay::Trace& trace() {
  static const replay::Trace trace = [] {
    std::ifstream in(source_file("perf/traces/mooncake-excerpt.jsonl"));
    auto read = replay::read_trace(in, "excerpt");
    REQUIRE(read.ok());
    return std::move(*read);
  }();
  return trace;
}

// `penstock replay` with three engines, three times as fast as recorded.
Command parse(std::vector<std::string> more) {
  more.insert(more.begin(), {"penstock", "replay", "--trace", "-", "--engines", "3", "--speed", "3"});
  std::vector<const char*> arguments;
  for (const std::string& argument : more) arguments.push_back(argument.c_str());
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

Command parse_decisions(const std::string& policy) {
  const char* const arguments[] = {"penstock", "replay", "--decisions", "-", "--policy", policy.c_str()};
  return parse_command_line(static_cast<int>(std::size(arguments)), arguments);
}

Command with(const std::string& name) {
  return parse({"--policy", source_file("tests/golden/config/replay/" + name)});
}

RunResult run(const Command& command, uint64_t seed = 1) {
  REQUIRE_MESSAGE(command.kind == Command::Kind::replay, command.error);
  REQUIRE(command.replay.configured.size() == 1);
  RunResult result =
      replay::simulate(trace(), command.replay.setup, replay::make_contestant(command.replay.configured.front()), seed);
  CHECK(result.served.size() + result.refused.all() + result.too_long == trace().requests.size());
  return result;
}

bool same(const RunResult& a, const RunResult& b) {
  return a.served.size() == b.served.size() && a.length == b.length && a.work == b.work && a.requests == b.requests &&
         a.cached_tokens == b.cached_tokens &&
         std::memcmp(a.served.data(), b.served.data(), a.served.size() * sizeof(replay::Served)) == 0;
}

std::string without_folder(std::string text) {
  for (const char* const folder : {"tests/golden/config/picker/", "tests/golden/config/replay/"}) {
    const std::string path = source_file(folder);
    while (text.find(path) != std::string::npos) text.erase(text.find(path), path.size());
  }
  return text;
}

// What is said of a replay with it; that which `penstock check` says as well is left out.
std::string remarks(const Command& command) {
  std::string out = without_folder(command.error);
  for (const Problem& note : command.notes) {
    if (note.message.find("in a replay") != std::string::npos) out += "note: " + without_folder(to_string(note)) + '\n';
  }
  return out.empty() ? "nothing to remark\n" : out;
}

}  // namespace

TEST_CASE("a configuration that says what epp-default does has its figures, to the bit, and so has an empty one") {
  for (const char* const name : {"replay/default.yaml", "picker/nothing.yaml"}) {
    CAPTURE(name);
    const Command command = parse({"--policy", source_file(std::string("tests/golden/config/") + name)});
    CHECK(remarks(command) == "nothing to remark\n");
    for (const uint64_t seed : {1, 2}) {
      const RunResult ours =
          replay::simulate(trace(), command.replay.setup, replay::make_contestant("epp-default"), seed);
      CHECK(same(run(command, seed), ours));
    }
    CHECK_FALSE(same(run(command, 1), run(command, 2)));
  }
}

TEST_CASE("the guides' configurations are replayed to the end, the same each time, or refused with the reason") {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(source_file("tests/golden/config/picker"))) {
    const std::string name = entry.path().filename();
    if (name.starts_with("guide-") && name.ends_with(".yaml")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  CHECK(files.size() >= 17);
  std::string said;
  for (const fs::path& file : files) {
    CAPTURE(file.filename().string());
    const Command command = parse({"--policy", file.string()});
    said += "== " + file.filename().string() + '\n' + remarks(command);
    if (command.exit_code != exit_ok) {
      CHECK(command.error.find("cannot be replayed: ") != std::string::npos);
      continue;
    }
    const RunResult once = run(command);
    CHECK(once.refused.all() == 0);
    CHECK(same(once, run(command)));
  }
  check_golden("tests/golden/config/replay/guides.txt", said);
}

TEST_CASE("what a trace does not tell is said, each reason once, and nobody is filtered for it") {
  const Command command = with("unknown.yaml");
  check_golden("tests/golden/config/replay/unknown.txt", remarks(command));
  CHECK(run(command).served.size() == trace().requests.size());
}

TEST_CASE("flow control of a configuration holds requests, refuses those beyond its limits, and never forgets one") {
  Command command = with("limits.yaml");
  command.replay.setup.speed = 30;
  const RunResult limited = run(command);
  CHECK(limited.refused.queue_full > 0);
  CHECK(limited.refused.waited > 0);
  CHECK(limited.refused.nobody == 0);
  CHECK(same(limited, run(command)));
  const auto figures = replay::figures_of(limited, {});
  const double share = static_cast<double>(limited.served.size()) / static_cast<double>(trace().requests.size());
  CHECK(figures[static_cast<size_t>(replay::Figure::in_slo)] <= share);  // those refused are not within it

  for (const Duration scrape : {Duration::zero(), Duration(milliseconds(50)), Duration(seconds(5))}) {
    Command patient = with("patient.yaml");
    patient.replay.setup.speed = 30;
    patient.replay.setup.scrape = scrape;
    CHECK(run(patient).served.size() == trace().requests.size());
  }
}

TEST_CASE("a ceiling that shuts requests out is a problem; if it were none, all would be refused in the end") {
  CHECK(with("shut.yaml").error.find("shut.yaml:4: featureGates: flowControl cannot be replayed: ") !=
        std::string::npos);
  for (const Duration scrape : {Duration::zero(), Duration(milliseconds(50))}) {
    Command shut = with("patient.yaml");
    shut.replay.configured.front().flow->usage.kind = admission::UsageLimit::listed;
    shut.replay.setup.scrape = scrape;
    const RunResult result = run(shut);
    CHECK(result.served.empty());
    CHECK(result.refused.waited == trace().requests.size());
    CHECK(replay::figures_of(result, {})[static_cast<size_t>(replay::Figure::in_slo)] == 0);
  }
}

TEST_CASE("when filters leave nobody a request is refused, also one that waited") {
  for (const char* const suffix : {"", "+hold"}) {
    Command command = with(std::string("capped.yaml") + suffix);
    command.replay.setup.speed = 30;
    const RunResult result = run(command);
    CHECK(result.refused.nobody > 0);
    CHECK(result.refused.nobody == result.refused.all());
  }
}

TEST_CASE("requests may ask for the latency that counts as good, which those who predict it go by") {
  const std::string file = source_file("tests/golden/config/picker/guide-predicted-latency-slo.yaml");
  const Command silent = parse({"--policy", file, "--slo-ttft-s", "0.3"});
  const Command asking = parse({"--policy", file, "--slo-ttft-s", "0.3", "--ask-slo"});
  CHECK(remarks(silent).find("without --ask-slo") != std::string::npos);
  CHECK(remarks(asking).find("--ask-slo") == std::string::npos);
  CHECK(asking.replay.setup.slo_ttft_ms == doctest::Approx(300));
  CHECK(asking.replay.setup.slo_tpot_ms == doctest::Approx(100));
  CHECK_FALSE(same(run(silent), run(asking)));
  const auto indifferent = [](const Command& command) {
    return replay::simulate(trace(), command.replay.setup, replay::make_contestant("epp-default"), 1);
  };
  CHECK(same(indifferent(silent), indifferent(asking)));
}

TEST_CASE("prompts are cut and matched as the configuration says") {
  Command command = with("reach.yaml");
  const RunResult result = run(command);
  // 9 blocks of 64 tokens at most are believed to be cached of each request.
  CHECK(result.predicted_tokens > 0);
  CHECK(result.predicted_tokens <= trace().requests.size() * 576);
  CHECK(result.predicted_tokens % 64 == 0);
}

TEST_CASE("recorded decisions are made again by a configuration; what they tell is not said to be missing") {
  const std::string folder = source_file("tests/golden/config/");
  const Command unknown = parse_decisions(folder + "replay/unknown.yaml");
  check_golden("tests/golden/config/replay/unknown-decisions.txt", remarks(unknown));
  const Command stages = parse_decisions(folder + "picker/guide-pd-tiers.yaml");
  REQUIRE_MESSAGE(stages.kind == Command::Kind::replay, stages.error);
  CHECK(remarks(stages).find("guide-pd-tiers.yaml:7: plugins[2]: has no effect in a replay of decisions") !=
        std::string::npos);
  CHECK(remarks(parse_decisions(folder + "replay/reach.yaml"))
            .find("reach.yaml:5: plugins[0].parameters: have no effect") != std::string::npos);

  // The profile decides: of two idle endpoints the one with less in its queue.
  REQUIRE(unknown.replay.configured.size() == 1);
  replay::RecordedDecision decision{.endpoint = "a", .why = "", .profile = "expected-cost", .inputs = {}};
  decision.inputs.whole = true;
  decision.inputs.random = Random(1).state();
  for (const char* const name : {"a", "b"}) {
    routing::EndpointInputs& endpoint = decision.inputs.endpoints.emplace_back();
    endpoint.name = name;
    endpoint.slot = static_cast<uint32_t>(decision.inputs.endpoints.size());
    endpoint.metrics.known = true;
    endpoint.metrics.waiting = endpoint.name == "a" ? 5 : 0;
  }
  std::string now;
  const auto profile =
      replay::make_contestant(parse_decisions(folder + "replay/capped.yaml").replay.configured[0]).profile;
  CHECK(replay::decide_again(decision, *profile, &now) == replay::Verdict::differs);
  CHECK(now == "b");
  for (routing::EndpointInputs& endpoint : decision.inputs.endpoints) endpoint.requests = 4;
  CHECK(replay::decide_again(decision, *profile, &now) == replay::Verdict::differs);
  CHECK(now == "");  // the filter leaves nobody
  decision.inputs.whole = false;
  CHECK(replay::decide_again(decision, *profile, &now) == replay::Verdict::not_recorded);
}

TEST_CASE("a file is told from a name; problems have file, line and key") {
  CHECK(parse({"--policy", "coin"}).error.find("there is no policy \"coin\"") != std::string::npos);
  const Command missing = parse({"--policy", "/nowhere/epp.yaml"});
  CHECK(missing.exit_code == exit_bad_config);
  CHECK(missing.error.find("/nowhere/epp.yaml: cannot be read") != std::string::npos);
  const Command bad = parse({"--policy", source_file("tests/golden/config/picker/bad-newer.yaml")});
  CHECK(bad.exit_code == exit_bad_config);
  CHECK(bad.error.find("bad-newer.yaml:6: plugins[1].type: ") != std::string::npos);
  CHECK(with("limits.yaml+hold").error.find("limits.yaml:4: featureGates: flowControl is on here") !=
        std::string::npos);
  const std::string file = source_file("tests/golden/config/replay/default.yaml");
  const Command both = parse({"--policy", file, "--policy", "random", "--policy", file + "+hold", "--compare"});
  CHECK(both.replay.policies == std::vector<std::string>{file, "random", file + "+hold"});
  REQUIRE(both.replay.configured.size() == 2);
  CHECK_FALSE(replay::make_contestant(both.replay.configured[0]).holds);
  CHECK(replay::make_contestant(both.replay.configured[1]).holds);
}
