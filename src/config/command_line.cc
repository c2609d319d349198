#include "penstock/config/command_line.h"

#include <CLI/CLI.hpp>

#include "penstock/config/reference.h"
#include "table.h"
#include "values.h"

namespace penstock::config {
namespace {

constexpr const char* intro =
    "Penstock, an inference gateway: one process between OpenAI-style clients and a pool of LLM model servers (vLLM "
    "and "
    "compatible).\nIt picks the best model server for each request, streams the answer back, and retries elsewhere "
    "when "
    "one fails.";

constexpr const char* examples = R"(Examples:
  Balance two model servers; then ask as you would ask one of them:
    penstock serve --endpoint http://127.0.0.1:8001 --endpoint http://127.0.0.1:8002
    curl http://127.0.0.1:8080/v1/models

  With a file (docs/CONFIGURATION.md lists every key), checked first:
    penstock check --config gateway.yaml && penstock serve --config gateway.yaml

Look at http://127.0.0.1:9090/ for what it is doing.
Exit codes: 0 done, 1 the configuration is wrong, 2 the command line is wrong.)";

struct FlagSpec {
  const char* name;
  const char* keys[2];  // configuration keys it sets
  const char* value_name;
  const char* doc;
};
constexpr FlagSpec flag_specs[] = {
    {"--listen", {"listen", nullptr}, "ADDR:PORT", "Where clients connect (default 0.0.0.0:8080)"},
    {"--admin", {"admin", nullptr}, "ADDR:PORT", "Metrics, health and status page (default 0.0.0.0:9090)"},
    {"--shards", {"shards", nullptr}, "N", "Worker threads (default 0: one per CPU it may use)"},
    {"--policy", {"routing.policy", nullptr}, "NAME", "How to choose: epp-default, random, round-robin, least-load"},
    {"--log-level", {"log.level", nullptr}, "LEVEL", "debug, info, warn or error (default info)"},
    {"--log-format", {"log.format", "access_log.format"}, "FORMAT", "text or json, for both logs (default text)"},
    {"--ring", {"ring.engine", nullptr}, "ENGINE", "auto, io_uring or epoll (default auto)"},
    {"--spin-us", {"ring.spin_us", nullptr}, "N", "Poll N microseconds before sleeping (default 0: off)"},
};
constexpr size_t flag_count = std::size(flag_specs);

// What the parser fills.
struct Parsed {
  std::string serve_file, check_file;
  std::vector<std::string> endpoints;
  std::string values[flag_count];
  CLI::Option* given[flag_count] = {};
};

void define_serve(CLI::App& serve, Parsed& parsed) {
  serve.add_option("--config", parsed.serve_file, "Configuration file (YAML); flags override it")->type_name("FILE");
  serve
      .add_option("--endpoint", parsed.endpoints,
                  "A model server, http://HOST:PORT; repeat for more. Replaces the file's list")
      ->type_name("URL")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  for (size_t i = 0; i < flag_count; ++i) {
    parsed.given[i] =
        serve.add_option(flag_specs[i].name, parsed.values[i], flag_specs[i].doc)->type_name(flag_specs[i].value_name);
  }
}

std::vector<Flag> flags_of(const Parsed& parsed) {
  std::vector<Flag> flags;
  for (const std::string& url : parsed.endpoints) flags.push_back({"--endpoint", "endpoints", url});
  for (size_t i = 0; i < flag_count; ++i) {
    if (parsed.given[i]->count() == 0) continue;
    for (const char* const key : flag_specs[i].keys) {
      if (key != nullptr) flags.push_back({flag_specs[i].name, key, parsed.values[i]});
    }
  }
  return flags;
}

Command usage_error(std::string message, const char* help) {
  Command command;
  command.error = "penstock: " + message + "\nTry " + help + "\n";
  command.exit_code = exit_bad_usage;
  return command;
}

std::string list_problems(const std::vector<Problem>& problems) {
  std::string out;
  for (const Problem& problem : problems) out += to_string(problem) + "\n";
  return out;
}

// A mistake in a flag is bad usage; one in the file is a bad configuration.
int exit_code_for(const std::vector<Problem>& problems) {
  for (const Problem& problem : problems) {
    if (problem.file == "command line") return exit_bad_usage;
  }
  return exit_bad_config;
}

Command serve_command(const Parsed& parsed) {
  Command command;
  command.source = {.file = parsed.serve_file, .flags = flags_of(parsed), .needs_endpoints = true};
  LoadResult loaded = load(command.source);
  if (!loaded.ok()) {
    command.error = list_problems(loaded.problems);
    command.exit_code = exit_code_for(loaded.problems);
    return command;
  }
  command.kind = Command::Kind::serve;
  command.options = std::move(loaded.options);
  return command;
}

Command check_command(const Parsed& parsed) {
  Command command;
  command.source = {.file = parsed.check_file};
  LoadResult loaded = load(command.source);
  if (loaded.ok()) {
    const size_t count = loaded.options.endpoints.size();
    command.output =
        parsed.check_file + ": no problems, " + std::to_string(count) + " endpoint" + (count == 1 ? "" : "s") + "\n";
    for (const std::string& line : diff(Options{}, loaded.options)) command.output += "  " + line + "\n";
  } else {
    const size_t count = loaded.problems.size();
    command.error =
        list_problems(loaded.problems) + std::to_string(count) + " problem" + (count == 1 ? "" : "s") + "\n";
    command.exit_code = exit_bad_config;
  }
  command.options = std::move(loaded.options);
  return command;
}

// CLI11 would say only that an argument was not expected.
Command unknown_command(const std::string& word) {
  const std::string near = closest(word, {"serve", "check", "version"});
  return usage_error("there is no command \"" + word + "\"" + (near.empty() ? "" : "; did you mean " + near + "?") +
                         " (commands: serve, check, version)",
                     "penstock --help");
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  CLI::App app(intro, "penstock");
  app.footer(examples);
  app.set_help_flag("-h,--help", "Show this text");
  Parsed parsed;
  CLI::App* const serve = app.add_subcommand("serve", "Run the gateway");
  define_serve(*serve, parsed);
  serve->footer(examples);
  CLI::App* const check = app.add_subcommand("check", "Report every problem of a configuration file, with its line");
  check->add_option("--config", parsed.check_file, "Configuration file (YAML)")->type_name("FILE")->required();
  CLI::App* const version = app.add_subcommand("version", "Show the version and what this machine offers");

  Command command;
  if (argc < 2) {
    command.error = app.help();
    command.exit_code = exit_bad_usage;
    return command;
  }
  const std::string first = argv[1];
  if (!first.starts_with("-") && first != "serve" && first != "check" && first != "version")
    return unknown_command(first);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    command.output = app.help();  // of the command that was named, if any
    return command;
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what(), serve->parsed() ? "penstock serve --help" : "penstock --help");
  }
  if (serve->parsed()) return serve_command(parsed);
  if (check->parsed()) return check_command(parsed);
  if (version->parsed()) {
    command.kind = Command::Kind::version;
    return command;
  }
  return usage_error("which command? (serve, check, version)", "penstock --help");
}

}  // namespace penstock::config
