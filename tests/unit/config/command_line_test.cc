#include "penstock/config/command_line.h"

#include <doctest/doctest.h>

#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::config;
using namespace penstock::test;

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
  for (const char* way : {"--endpoint http://HOST:PORT", "--kubernetes", "--manifests DIR"}) {
    CHECK(bare.error.find(way) != std::string::npos);
  }
}

TEST_CASE("check says that serve would need endpoints as well") {
  const std::string least = source_file("tests/golden/config/least.yaml");
  const std::string full = source_file("tests/golden/config/full.yaml");
  CHECK(run({"check", "--config", least.c_str()}).output.find("serve needs --endpoint") != std::string::npos);
  CHECK(run({"check", "--config", full.c_str()}).output.find("serve needs --endpoint") == std::string::npos);
}

TEST_CASE("a bad flag value is bad usage and names the flag") {
  const Command command = run({"serve", "--endpoint", "h:1", "--shards", "many", "--ring", "kqueue", "--listen", "x"});
  CHECK(command.exit_code == exit_bad_usage);
  for (const char* flag : {"--endpoint", "--shards", "--ring", "--listen"}) {
    CHECK(command.error.find(std::string("command line: ") + flag + ": ") != std::string::npos);
  }
}

TEST_CASE("flags that do not exist, and commands that do not exist, are errors") {
  for (const char* flag : {"--manifest", "--kube", "--pools", "--all-namespaces"}) {
    const Command command = run({"serve", "--endpoint", "http://h:1", flag, "x"});
    INFO(flag);
    CHECK(command.exit_code == exit_bad_usage);
    CHECK(command.error.find(flag) != std::string::npos);
  }
  CHECK(run({"serv"}).error.find("did you mean serve?") != std::string::npos);
  CHECK(run({}).exit_code == exit_bad_usage);
  CHECK(run({"serve", "extra"}).exit_code == exit_bad_usage);
  CHECK(run({"serve", "--shards", "1", "--shards", "2", "--endpoint", "http://h:1"}).exit_code == exit_bad_usage);
}

TEST_CASE("the first argument that a command does not know is named, with the flag that is near it") {
  CHECK(run({"serve", "--endpiont", "http://h:1", "--shards", "1"}).error ==
        "penstock: penstock serve has no flag --endpiont; did you mean --endpoint?\nTry penstock serve --help\n");
  CHECK(run({"serve", "--shard=2", "--endpoint", "http://h:1"}).error ==
        "penstock: penstock serve has no flag --shard; did you mean --shards?\nTry penstock serve --help\n");
  CHECK(run({"version", "--everything"}).error ==
        "penstock: penstock version has no flag --everything\nTry penstock version --help\n");
  CHECK(run({"replay", "--polcy", "lmetric"}).error ==
        "penstock: penstock replay has no flag --polcy; did you mean --policy?\nTry penstock replay --help\n");
  CHECK(run({"serve", "--pool-name", "p"}).error ==
        "penstock: penstock serve has no flag --pool-name, as the Endpoint Picker has; give --kubernetes --pool NAME\n"
        "Try penstock serve --help\n");
  CHECK(run({"serve", "--zap-encoder=json"}).error.find("; give --log-level LEVEL, --log-format json\n") !=
        std::string::npos);
  CHECK(run({"--verbose"}).error ==
        "penstock: which command? penstock serve takes --log-level LEVEL\nTry penstock --help\n");
  CHECK(run({"--versoin"}).error.find("did you mean --version?") != std::string::npos);
  CHECK(run({"-v"}).error == "penstock: penstock has no flag -v; did you mean --version?\nTry penstock --help\n");
  CHECK(run({"--endpoint", "http://h:1"}).error ==
        "penstock: which command? penstock serve takes --endpoint\nTry penstock --help\n");
}

TEST_CASE("a flag without its value, and one that is given twice, are told in words") {
  CHECK(run({"serve", "--endpoint"}).error == "penstock: --endpoint needs a value\nTry penstock serve --help\n");
  CHECK(run({"serve", "--shards", "1", "--shards", "2", "--endpoint", "http://h:1"}).error ==
        "penstock: --shards is given more than once; give it once\nTry penstock serve --help\n");
  const std::string error = run({"serve", "--log-format", "xml", "--endpoint", "http://h:1"}).error;  // of both logs
  CHECK(error == "command line: --log-format: \"xml\" is not one of: text, json\n");
}

TEST_CASE("--version and help say what the commands of that name would") {
  CHECK(run({"--version"}).kind == Command::Kind::version);
  CHECK(run({"help"}).output == run({"--help"}).output);
  CHECK(run({"help"}).exit_code == 0);
}

TEST_CASE("the help of a command has the examples of that command") {
  CHECK(run({"serve", "--help"}).output.find("penstock serve --kubernetes") != std::string::npos);
  const std::string check = run({"check", "--help"}).output;
  CHECK(check.find("penstock check --config") != std::string::npos);
  CHECK(check.find("penstock serve") == std::string::npos);
  CHECK(run({"version", "--help"}).output.find("Examples") == std::string::npos);
}

TEST_CASE("a value that is refused is not reported a second time as one that is missing") {
  const Command command = run({"serve", "--kube-api", "ftp://h", "--namespace", "n"});
  CHECK(command.exit_code == exit_bad_usage);
  CHECK(command.error.find("--kube-api: \"ftp://h\" is not a URL that begins with") != std::string::npos);
  CHECK(command.error.find("has no effect") == std::string::npos);
}

TEST_CASE("every flag of Kubernetes mode reaches its option, and --kube-api implies the mode") {
  const Command command = run({"serve", "--kubernetes", "--pool", "a", "--pool=team-b/b", "--namespace", "team-a",
                               "--namespace=team-c", "--service", "vllm:8000", "--service", "sglang", "--kubeconfig",
                               "/k", "--kube-context", "c", "--kube-write=false", "--gateway-api=false"});
  REQUIRE_MESSAGE(command.kind == Command::Kind::serve, command.error);
  const Kubernetes& k = command.options.kubernetes;
  CHECK(k.enabled);
  CHECK(k.pools == std::vector<std::string>{"a", "team-b/b"});
  CHECK(k.namespaces == std::vector<std::string>{"team-a", "team-c"});
  CHECK(k.services == std::vector<std::string>{"vllm:8000", "sglang"});
  CHECK(k.kubeconfig == "/k");
  CHECK(k.context == "c");
  CHECK_FALSE(k.write);
  CHECK_FALSE(k.gateway_api);
  const Command plain = run({"serve", "--kube-api", "http://127.0.0.1:8001", "--endpoint-selector", "app=vllm,tier=gpu",
                             "--endpoint-ports", "8000,8001"});
  REQUIRE_MESSAGE(plain.kind == Command::Kind::serve, plain.error);
  CHECK(plain.options.kubernetes.enabled);
  CHECK(plain.options.kubernetes.api == "http://127.0.0.1:8001");
  CHECK(plain.options.kubernetes.endpoint_selector == "app=vllm,tier=gpu");
  CHECK(plain.options.kubernetes.endpoint_ports == std::vector<uint16_t>{8000, 8001});
  CHECK(plain.options.kubernetes.write);
  CHECK(load(plain.source).options.kubernetes.enabled);
  CHECK(run({"serve", "--kubernetes", "--kubernetes"}).exit_code == exit_bad_usage);
  CHECK(run({"serve", "--kubernetes", "--kube-write=no"}).exit_code == exit_bad_usage);
}

TEST_CASE("serve with manifests has their objects, and their problems end it") {
  const std::string good = source_file("tests/golden/config/manifests"),
                    bad = source_file("tests/golden/config/bad-manifests");
  const Command fine = run({"serve", "--manifests", good.c_str()});
  REQUIRE_MESSAGE(fine.kind == Command::Kind::serve, fine.error);
  CHECK(load(fine.source).manifests.objects.size() == 2);
  const Command wrong = run({"serve", "--manifests", bad.c_str()});
  CHECK(wrong.kind == Command::Kind::finished);
  CHECK(wrong.exit_code == exit_bad_config);
}

TEST_CASE("check reads manifests, alone or beside a configuration") {
  const std::string good = source_file("tests/golden/config/manifests"),
                    bad = source_file("tests/golden/config/bad-manifests"),
                    full = source_file("tests/golden/config/full.yaml");
  const Command fine = run({"check", "--manifests", good.c_str()});
  CHECK(fine.exit_code == exit_ok);
  CHECK(fine.output.find("manifests: no problems, 2 objects in ") != std::string::npos);
  CHECK(fine.output.find("skipped: ") != std::string::npos);
  const Command wrong = run({"check", "--manifests", bad.c_str()});
  CHECK(wrong.exit_code == exit_bad_config);
  CHECK(wrong.error.find("pool.yaml:6: spec.selector") != std::string::npos);
  CHECK(wrong.error.find("rewrite.yaml:") != std::string::npos);
  CHECK(run({"check", "--manifests", "/nowhere"}).exit_code == exit_bad_config);
  CHECK(run({"check", "--config", full.c_str(), "--manifests", good.c_str()}).error.find("already come from") !=
        std::string::npos);
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

TEST_CASE("an EndpointPickerConfig as a file or as text, by our names and by the Endpoint Picker's") {
  const std::string file = source_file("tests/golden/config/picker/guide-baseline.yaml");
  for (const char* const name : {"--epp-config", "--config-file"}) {
    const Command command = run({"check", name, file.c_str()});
    CHECK(command.exit_code == exit_ok);
    CHECK(command.output.find("profile default: prefix-cache-affinity-filter") != std::string::npos);
    CHECK(run({"serve", "--endpoint", "http://h:1", name, file.c_str()}).kind == Command::Kind::serve);
  }
  const std::string text = "\napiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\nplugins:\n  - type: queue-scorer\n";
  for (const char* const name : {"--epp-config-text", "--config-text"}) {
    const Command command = run({"check", name, text.c_str()});
    CHECK_MESSAGE(command.exit_code == exit_ok, command.error);
    CHECK(command.output.starts_with("--epp-config-text: no problems, "));
    CHECK(command.output.find("profile default: queue-scorer*1") != std::string::npos);
    const Command serve = run({"serve", "--endpoint", "http://h:1", name, text.c_str()});
    REQUIRE(serve.kind == Command::Kind::serve);
    CHECK(serve.options.endpoint_picker != nullptr);
    CHECK(load(serve.source).options.endpoint_picker != nullptr);  // a reload reads it again
  }
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

TEST_CASE("replay: flags become options; an engine's figures may be replaced; mistakes are named") {
  const Command command =
      run({"replay",  "--trace", "a",        "--trace",      "b",           "--policy",       "dynamo",
           "--speed", "1.5",     "--engine", "h200-32b",     "--kv-blocks", "1000",           "--scrape-ms",
           "200",     "--seeds", "3",        "--slo-ttft-s", "2",           "--length-scale", "0.25"});
  REQUIRE(command.kind == Command::Kind::replay);
  const replay::Options& o = command.replay;
  CHECK(o.traces == std::vector<std::string>{"a", "b"});
  CHECK(o.policies == std::vector<std::string>{"dynamo"});
  CHECK(o.setup.speed == 1.5);
  CHECK(o.setup.engine.kv_blocks == 1000);
  CHECK(o.setup.engine.decode_ms == 10);
  CHECK(o.setup.scrape == milliseconds(200));
  CHECK(o.slo.ttft == seconds(2));
  CHECK(o.length_scale == 0.25);
  CHECK(run({"replay", "--trace", "a", "--length-scale", "0"}).exit_code == exit_bad_usage);
  CHECK(o.seeds == 3);
  CHECK(run({"replay", "--trace", "a"}).replay.policies == std::vector<std::string>{"expected-cost+hold"});
  CHECK(run({"replay", "--trace", "a", "--compare"}).replay.policies.size() == replay::contestants().size());
  CHECK(run({"replay"}).exit_code == exit_bad_usage);
  CHECK(run({"replay", "--trace", "a", "--policy", "coin"}).error.find("coin") != std::string::npos);
  CHECK(run({"replay", "--trace", "a", "--slow-engines", "9"}).exit_code == exit_bad_usage);
}

TEST_CASE("replay: engines of unequal speed, and speeds that change") {
  const auto with = [](std::vector<const char*> more) {
    more.insert(more.begin(), {"replay", "--trace", "a", "--engines", "3"});
    return run(more);
  };
  CHECK(with({"--slow-engines", "2"}).replay.setup.engine_speeds == std::vector<double>{0.5, 0.5});
  const Command command =
      with({"--engine-speeds", "1,0.25", "--change-speed", "60.5:2:1", "--change-speed", "30:2:0.5"});
  REQUIRE(command.kind == Command::Kind::replay);
  CHECK(command.replay.setup.engine_speeds == std::vector<double>{1, 0.25});
  const auto& changes = command.replay.setup.speed_changes;
  REQUIRE(changes.size() == 2);
  CHECK(changes[0].at == Instant(seconds(30)));
  CHECK(changes[0].endpoint == 2);
  CHECK(changes[0].speed == 0.5);
  CHECK(changes[1].at == Instant(milliseconds(60'500)));
  for (const char* bad : {"1,1,1,1", "0", "-1", "nan", "fast", "2000", ""}) {
    CAPTURE(bad);
    CHECK(with({"--engine-speeds", bad}).exit_code == exit_bad_usage);
  }
  CHECK(with({"--engine-speeds", "1", "--slow-engines", "1"}).exit_code == exit_bad_usage);
  for (const char* bad : {"30", "30:1", "30:3:1", "30:-1:1", "-1:0:1", "30:0:0", "30:0:nan", "30:0:1x", "30:0:1:1",
                          "30::1", "1e300:0:1", ""}) {
    CAPTURE(bad);
    CHECK(with({"--change-speed", bad}).exit_code == exit_bad_usage);
  }
}
