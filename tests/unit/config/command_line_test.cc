#include "penstock/config/command_line.h"

#include <doctest/doctest.h>

#include "files.h"

using namespace penstock;
using namespace penstock::config;

namespace {

Command run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "penstock");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

TEST_CASE("serve with endpoints and nothing else just works") {
  const Command command = run({"serve", "--endpoint", "http://127.0.0.1:8001", "--endpoint", "http://127.0.0.1:8002"});
  REQUIRE_MESSAGE(command.kind == Command::Kind::serve, command.error);
  REQUIRE(command.options.endpoints.size() == 2);
  CHECK(command.options.endpoints[1].url == "http://127.0.0.1:8002");
  CHECK(command.options.listen == "0.0.0.0:8080");
}

TEST_CASE("every flag of serve reaches its option") {
  const Command command = run({"serve", "--endpoint", "http://h:1", "--listen", "127.0.0.1:1", "--admin=127.0.0.1:2",
                               "--shards", "2", "--policy", "random", "--log-level", "warn", "--log-format", "json",
                               "--ring", "io_uring", "--spin-us", "25"});
  REQUIRE_MESSAGE(command.kind == Command::Kind::serve, command.error);
  const Options& o = command.options;
  CHECK(o.listen == "127.0.0.1:1");
  CHECK(o.admin == "127.0.0.1:2");
  CHECK(o.shards == 2);
  CHECK(o.policy == "random");
  CHECK(o.log_level == log::Level::warn);
  CHECK(o.log_format == log::Format::json);
  CHECK(o.access_log.format == log::Format::json);
  CHECK(o.ring.kind == net::RingKind::io_uring);
  CHECK(o.ring.spin == microseconds(25));
  CHECK(load(command.source).options.policy == "random");  // a reload does the same again
}

TEST_CASE("serve without any endpoint explains what to give") {
  const Command bare = run({"serve"});
  CHECK(bare.kind == Command::Kind::finished);
  CHECK(bare.exit_code == exit_bad_usage);
  CHECK(bare.error.find("--endpoint http://HOST:PORT") != std::string::npos);
}

TEST_CASE("a bad flag value is bad usage and names the flag") {
  const Command command = run({"serve", "--endpoint", "h:1", "--shards", "many", "--ring", "kqueue", "--listen", "x"});
  CHECK(command.exit_code == exit_bad_usage);
  for (const char* flag : {"--endpoint", "--shards", "--ring", "--listen"}) {
    CHECK(command.error.find(std::string("command line: ") + flag + ": ") != std::string::npos);
  }
}

TEST_CASE("flags that do not exist, and commands that do not exist, are errors") {
  for (const char* flag : {"--manifests", "--kubernetes", "--pool", "--namespace"}) {
    const Command command = run({"serve", "--endpoint", "http://h:1", flag, "x"});
    INFO(flag);
    CHECK(command.exit_code == exit_bad_usage);
    CHECK(command.error.find(flag) != std::string::npos);
  }
  CHECK(run({"replay", "--trace", "x"}).exit_code == exit_bad_usage);
  CHECK(run({"serv"}).error.find("did you mean serve?") != std::string::npos);
  CHECK(run({}).exit_code == exit_bad_usage);
  CHECK(run({"serve", "extra"}).exit_code == exit_bad_usage);
  CHECK(run({"serve", "--shards", "1", "--shards", "2", "--endpoint", "http://h:1"}).exit_code == exit_bad_usage);
}

TEST_CASE("check exits with 0 or 1 and lists all problems") {
  const std::string good = source_file("tests/golden/config/full.yaml"),
                    bad = source_file("tests/golden/config/bad.yaml");
  const Command fine = run({"check", "--config", good.c_str()});
  CHECK(fine.exit_code == exit_ok);
  CHECK(fine.output.find("no problems, 2 endpoints") != std::string::npos);
  const Command wrong = run({"check", "--config", bad.c_str()});
  CHECK(wrong.exit_code == exit_bad_config);
  CHECK(wrong.error.find("bad.yaml:3: shards: ") != std::string::npos);
  CHECK(run({"check"}).exit_code == exit_bad_usage);
  CHECK(run({"serve", "--config", bad.c_str(), "--endpoint", "http://h:1"}).exit_code == exit_bad_config);
  CHECK(run({"check", "--config", "/nowhere"}).exit_code == exit_bad_config);
}

TEST_CASE("help is shown for each command and is no error") {
  for (const auto& arguments :
       std::vector<std::vector<const char*>>{{"--help"}, {"serve", "--help"}, {"check", "-h"}}) {
    const Command command = run(arguments);
    CHECK(command.exit_code == exit_ok);
    CHECK(command.kind == Command::Kind::finished);
    CHECK_FALSE(command.output.empty());
  }
  CHECK(run({"serve", "--help"}).output.find("--endpoint http://127.0.0.1:8001") != std::string::npos);
  CHECK(run({"version"}).kind == Command::Kind::version);
}
