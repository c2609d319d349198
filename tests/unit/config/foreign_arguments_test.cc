// What people type who come from another program, and the line that they get.
#include "src/config/foreign_arguments.h"

#include <doctest/doctest.h>

#include <set>

#include "penstock/config/command_line.h"
#include "src/config/table.h"
#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::config;
using namespace penstock::test;

namespace {

Command run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "penstock");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

// The one line that says what is wrong; the command line is refused.
std::string refusal(std::vector<const char*> arguments) {
  const Command command = run(std::move(arguments));
  CHECK(command.kind == Command::Kind::finished);
  CHECK(command.exit_code == exit_bad_usage);
  const size_t end = command.error.find("\nTry penstock ");
  REQUIRE(end != std::string::npos);
  CHECK(command.error.find('\n') == end);
  return command.error.substr(0, end);
}

}  // namespace

TEST_CASE("flags of other programs lead to ours") {
  CHECK(refusal({"serve", "--port", "8080"}) == "penstock: penstock serve has no flag --port; give --listen ADDR:PORT");
  CHECK(refusal({"serve", "--port=8080"}) == "penstock: penstock serve has no flag --port; give --listen ADDR:PORT");
  CHECK(refusal({"serve", "-c", "envoy.yaml", "--concurrency", "2"}) ==
        "penstock: penstock serve has no flag -c; give --config FILE");
  CHECK(refusal({"check", "-f", "haproxy.cfg"}) == "penstock: penstock check has no flag -f; give --config FILE");
  CHECK(refusal({"serve", "--worker-urls", "http://h:1", "http://h:2"}) ==
        "penstock: penstock serve has no flag --worker-urls; give --endpoint URL, once for each");
  CHECK(refusal({"serve", "--retry-max-retries", "2"}) ==
        "penstock: penstock serve has no flag --retry-max-retries; say retry.attempts in the file of --config");
  CHECK(refusal({"serve", "--model", "llama"}) ==
        "penstock: penstock serve has no flag --model; leave it out: the endpoints are asked which models they serve");
  CHECK(refusal({"serve", "--ssl-keyfile", "key.pem"}).find("TLS is not supported yet") != std::string::npos);
  CHECK(refusal({"--port", "8080"}) == "penstock: which command? penstock serve takes --listen ADDR:PORT");
}

TEST_CASE("a command gets no advice that it could not follow") {
  CHECK(refusal({"check", "--port", "8080"}) == "penstock: penstock check has no flag --port");
  CHECK(refusal({"version", "-c", "x"}) == "penstock: penstock version has no flag -c");
  CHECK(refusal({"replay", "--model", "llama"}) == "penstock: penstock replay has no flag --model");
}

TEST_CASE("a word without a flag is taken for what it looks like") {
  CHECK(refusal({"serve", "gateway.yaml"}) ==
        "penstock: \"gateway.yaml\" is not expected: penstock serve takes flags only; did you mean --config "
        "gateway.yaml?");
  CHECK(refusal({"check", "gateway.yaml", "other.yaml"}) ==
        "penstock: \"gateway.yaml\" is not expected: penstock check takes flags only; did you mean --config "
        "gateway.yaml?");
  CHECK(refusal({"serve", "http://10.0.0.7:8000"}).ends_with("; did you mean --endpoint http://10.0.0.7:8000?"));
  CHECK(refusal({"serve", "h:2"}).ends_with("; did you mean --endpoint http://h:2?"));
  const std::string folder = source_file("tests/golden/config/manifests");
  CHECK(refusal({"serve", folder.c_str()}).ends_with("; did you mean --manifests " + folder + "?"));
  CHECK(refusal({"replay", "trace.jsonl"}).ends_with("; did you mean --trace trace.jsonl?"));
  // No file's name, and one file too many.
  CHECK(refusal({"serve", "extra"}) == "penstock: \"extra\" is not expected: penstock serve takes flags only");
  CHECK(refusal({"serve", "--config", "a.yaml", "b.yaml"}).ends_with("penstock serve takes flags only"));
  CHECK(refusal({"check", "http://h:1"}).ends_with("penstock check takes flags only"));
}

TEST_CASE("words of other programs lead to our commands") {
  const std::string commands = " (commands: serve, check, replay, version)";
  CHECK(refusal({"run"}) == "penstock: there is no command \"run\"; did you mean serve?" + commands);
  CHECK(refusal({"validate"}) == "penstock: there is no command \"validate\"; did you mean check?" + commands);
  CHECK(refusal({"gateway.yaml"}) ==
        "penstock: there is no command \"gateway.yaml\"; did you mean penstock serve --config gateway.yaml?" +
            commands);
  CHECK(refusal({"localhost:8000"}).find("penstock serve --endpoint http://localhost:8000?") != std::string::npos);
}

TEST_CASE("values that are nearly right lead to the right ones") {
  const std::string policy = run({"serve", "--endpoint", "http://h:1", "--policy", "round_robin"}).error;
  CHECK(policy.ends_with("; did you mean round-robin?\n"));
  const std::string listen = run({"serve", "--endpoint", "http://h:1", "--listen", "8080"}).error;
  CHECK(listen.find("\"8080\" has no port; did you mean :8080?") != std::string::npos);
}

TEST_CASE("all advice names flags and keys that exist, and no flag of ours is called foreign") {
  const std::string help = run({"serve", "--help"}).output;
  const auto has_flag = [&help](std::string_view name) { return help.find(std::string(name)) != std::string::npos; };
  for (const auto flags : {endpoint_picker_flags(), other_foreign_flags()}) {
    std::set<std::string_view> names;
    for (const ForeignFlag& foreign : flags) {
      CAPTURE(foreign.name);
      CHECK(names.insert(foreign.name).second);
      CHECK_FALSE(has_flag(std::string(foreign.name) + ' '));
      if (foreign.kind == ForeignFlag::Kind::key) CHECK(find_key(foreign.here) != nullptr);
      if (foreign.kind != ForeignFlag::Kind::flag) continue;
      for (size_t at = foreign.here.find("--"); at != std::string_view::npos; at = foreign.here.find("--", at + 2)) {
        CHECK(has_flag(foreign.here.substr(at, foreign.here.find(' ', at) - at + 1)));
      }
    }
  }
}
