#include "penstock/config/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>

#include "foreign_arguments.h"
#include "penstock/base/text.h"
#include "penstock/config/reference.h"
#include "replay_command.h"
#include "replay_policies.h"
#include "table.h"
#include "values.h"

namespace penstock::config {
namespace {

constexpr const char* intro = R"(Penstock, an inference gateway.
One process between OpenAI-style clients and a pool of LLM model servers (vLLM and compatible). It picks the best model
server for each request, streams the answer back, and tries another server when one fails.)";

constexpr const char* serve_examples = R"(Examples:
  Balance two model servers; then ask as you would ask one of them:
    penstock serve --endpoint http://127.0.0.1:8001 --endpoint http://127.0.0.1:8002
    curl http://127.0.0.1:8080/v1/models

  With a file (docs/CONFIGURATION.md lists every key), checked first:
    penstock check --config gateway.yaml && penstock serve --config gateway.yaml

  On a cluster (docs/KUBERNETES.md), or with its objects in files:
    penstock serve --kubernetes --pool NAME --namespace NS
    penstock serve --manifests DIR

http://127.0.0.1:9090/ is the status page.
Exit codes: 0 done, 1 the configuration is wrong or an address cannot be used, 2 the command line is wrong.)";

constexpr const char* check_examples = R"(Examples:
  penstock check --config gateway.yaml
  penstock check --config gateway.yaml --manifests DIR
  penstock check --epp-config picker.yaml

Without problems it shows what differs from the defaults, and how an EndpointPickerConfig is understood.
Exit codes: 0 no problems, 1 at least one problem, 2 the command line is wrong.)";

// The second names are those that the Endpoint Picker's own command line has.
constexpr const char* picker_file_flag = "--epp-config,--config-file";
constexpr const char* picker_text_flag = "--epp-config-text,--config-text";

enum class Form { value, repeatable, on_off };
struct FlagSpec {
  const char* name;     // other names behind commas
  const char* keys[2];  // configuration keys it sets
  const char* value_name;
  const char* doc;
  Form form = Form::value;
};
constexpr FlagSpec flag_specs[] = {
    {"--listen", {"listen", nullptr}, "ADDR:PORT", "Where clients connect (default 0.0.0.0:8080)"},
    {"--listen-tls",
     {"listeners", nullptr},
     "ADDR:PORT",
     "Where clients connect with TLS as well; needs --tls-cert and --tls-key, unless Gateways bring certificates"},
    {"--tls-cert",
     {"listeners", nullptr},
     "FILE",
     "Certificate and intermediates (PEM) for --listen-tls; repeat for more names",
     Form::repeatable},
    {"--tls-key", {"listeners", nullptr}, "FILE", "Its private key (PEM, no password); as often", Form::repeatable},
    {"--admin", {"admin", nullptr}, "ADDR:PORT", "Metrics, health and status page (default 0.0.0.0:9090)"},
    {"--shards", {"shards", nullptr}, "N", "Worker threads (default 0: one per CPU it may use)"},
    {"--policy",
     {"routing.policy", nullptr},
     "NAME",
     "How to choose: expected-cost (default), epp-default, least-load, round-robin, random"},
    {"--shadow-policy",
     {"routing.shadow_policy", nullptr},
     "NAME",
     "A second policy that decides too and is never obeyed, for comparison (default none)"},
    {"--shadow-epp-config",
     {"routing.shadow_epp_config", nullptr},
     "FILE",
     "The second policy, as an EndpointPickerConfig (YAML)"},
    {"--shadow-epp-config-text",
     {"routing.shadow_endpoint_picker", nullptr},
     "TEXT",
     "The same, the text itself instead of the name of a file"},
    {picker_file_flag, {"routing.epp_config", nullptr}, "FILE", "How to choose, as an EndpointPickerConfig (YAML)"},
    {picker_text_flag,
     {"routing.endpoint_picker", nullptr},
     "TEXT",
     "The same, the text itself instead of the name of a file"},
    {"--log-level", {"log.level", nullptr}, "LEVEL", "debug, info, warn or error (default info)"},
    {"--log-format", {"log.format", "access_log.format"}, "FORMAT", "text or json, for both logs (default text)"},
    {"--ring", {"ring.engine", nullptr}, "ENGINE", "auto, io_uring or epoll (default auto)"},
    {"--spin-us", {"ring.spin_us", nullptr}, "N", "Poll N microseconds before sleeping (default 0: off)"},
    {"--kubernetes", {"kubernetes.enabled", nullptr}, "", "Endpoints from a cluster", Form::on_off},
    {"--pool",
     {"kubernetes.pools", nullptr},
     "NAME",
     "InferencePool to serve, [NAMESPACE/]NAME; repeat for more (default: all)",
     Form::repeatable},
    {"--namespace",
     {"kubernetes.namespaces", nullptr},
     "NS",
     "Namespace of the pools; repeat for more (default: that of the credentials)",
     Form::repeatable},
    {"--endpoint-selector",
     {"kubernetes.endpoint_selector", nullptr},
     "KEY=VALUE,...",
     "Pods by labels instead of an InferencePool"},
    {"--endpoint-ports", {"kubernetes.endpoint_ports", nullptr}, "N,...", "Ports of the model servers in those pods"},
    {"--service",
     {"kubernetes.services", nullptr},
     "NAME[:PORT]",
     "Pods behind a Service instead of an InferencePool; repeat for more",
     Form::repeatable},
    {"--kube-api",
     {"kubernetes.api", nullptr},
     "URL",
     "API server without credentials (kubectl proxy); implies --kubernetes"},
    {"--kubeconfig",
     {"kubernetes.kubeconfig", nullptr},
     "FILE",
     "API server and credentials (default: $KUBECONFIG, service account, ~/.kube/config)"},
    {"--kube-context", {"kubernetes.context", nullptr}, "NAME", "Context of the kubeconfig (default: its current one)"},
    {"--kube-write", {"kubernetes.write", nullptr}, "", "Write status and Events (default true)", Form::on_off},
    {"--gateway-api",
     {"kubernetes.gateway_api", nullptr},
     "",
     "Obey Gateways and HTTPRoutes (default true)",
     Form::on_off},
    {"--manifests", {"manifests", nullptr}, "DIR", "Kubernetes objects from files instead of a cluster"},
};
constexpr size_t flag_count = std::size(flag_specs);

// What the parser fills.
struct Parsed {
  ReplayFlags replay;
  std::string serve_file, check_file, check_manifests, check_picker, check_picker_text;
  std::vector<std::string> endpoints;
  std::vector<std::string> values[flag_count];
  CLI::Option* given[flag_count] = {};
};

CLI::Option* define_flag(CLI::App& serve, const FlagSpec& spec, std::vector<std::string>& values) {
  CLI::Option* const option = serve.add_option(spec.name, values, spec.doc)->type_name(spec.value_name)->expected(1);
  if (spec.form == Form::repeatable) return option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  option->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  if (spec.form == Form::on_off) option->expected(0, 1)->type_name("[=true|false]");
  return option;
}

void define_serve(CLI::App& serve, Parsed& parsed) {
  serve.add_option("--config", parsed.serve_file, "Configuration file (YAML); flags override it")->type_name("FILE");
  serve
      .add_option("--endpoint", parsed.endpoints,
                  "A model server, http(s)://HOST:PORT; repeat for more. Replaces the file's list")
      ->type_name("URL")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  for (size_t i = 0; i < flag_count; ++i) parsed.given[i] = define_flag(serve, flag_specs[i], parsed.values[i]);
}

// As a list is written; a flag alone says yes.
std::string value_of(const std::vector<std::string>& values, Form form) {
  const std::string text = joined(values, ",");
  return text.empty() && form == Form::on_off ? "true" : text;
}

std::vector<Flag> flags_of(const Parsed& parsed) {
  std::vector<Flag> flags;
  for (const std::string& url : parsed.endpoints) flags.push_back({"--endpoint", "endpoints", url});
  for (size_t i = 0; i < flag_count; ++i) {
    if (parsed.given[i]->count() == 0) continue;
    const std::string_view names = flag_specs[i].name;
    const std::string name(names.substr(0, names.find(',')));
    for (const char* const key : flag_specs[i].keys) {
      if (key != nullptr) flags.push_back({name, key, value_of(parsed.values[i], flag_specs[i].form)});
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
  command.manifests = std::move(loaded.manifests);
  command.notes = std::move(loaded.notes);
  return command;
}

std::string count_of(size_t count, const std::string& what) {
  return std::to_string(count) + ' ' + what + (count == 1 ? "" : "s");
}

// Where endpoints come from, in a few words.
std::string describe_endpoints(const LoadResult& loaded) {
  if (loaded.options.kubernetes.enabled) return "endpoints from a cluster";
  if (loaded.options.manifests.empty()) return count_of(loaded.options.endpoints.size(), "endpoint");
  return count_of(loaded.manifests.objects.size(), "object") + " in " + loaded.options.manifests;
}

bool has_endpoints(const Options& o) {
  return o.kubernetes.enabled || !o.manifests.empty() || !o.endpoints.empty();
}

Command check_command(const Parsed& parsed) {
  Command command;
  command.source = {.file = parsed.check_file};
  if (!parsed.check_manifests.empty())
    command.source.flags.push_back({"--manifests", "manifests", parsed.check_manifests});
  if (!parsed.check_picker.empty())
    command.source.flags.push_back({"--epp-config", "routing.epp_config", parsed.check_picker});
  if (!parsed.check_picker_text.empty())
    command.source.flags.push_back({"--epp-config-text", "routing.endpoint_picker", parsed.check_picker_text});
  LoadResult loaded = load(command.source);
  if (loaded.ok()) {
    const std::string& subject = !parsed.check_file.empty()        ? parsed.check_file
                                 : !parsed.check_manifests.empty() ? parsed.check_manifests
                                 : !parsed.check_picker.empty()    ? parsed.check_picker
                                                                   : "--epp-config-text";
    command.output = subject + ": no problems, " + describe_endpoints(loaded) + "\n";
    for (const std::string& line : diff(Options{}, loaded.options)) command.output += "  " + line + "\n";
    for (const std::string& line : describe_picker(loaded.options)) command.output += "  " + line + "\n";
    for (const Problem& note : loaded.notes) command.output += "  note: " + to_string(note) + "\n";
    if (!parsed.check_file.empty() && !has_endpoints(loaded.options)) {
      command.output +=
          "  note: no endpoints are listed: serve needs --endpoint, --kubernetes or --manifests as well\n";
    }
    command.kind = Command::Kind::check;
    command.endpoint_places = std::move(loaded.endpoint_places);
    for (const auto& skipped : loaded.manifests.skipped) command.output += "  skipped: " + to_string(skipped) + "\n";
  } else {
    command.error = list_problems(loaded.problems) + count_of(loaded.problems.size(), "problem") + "\n";
    command.exit_code = exit_bad_config;
  }
  command.options = std::move(loaded.options);
  return command;
}

Command replay_command(Parsed& parsed) {
  const std::string problem = settle_replay(parsed.replay);
  if (!problem.empty()) return usage_error(problem, "penstock replay --help");
  Command command;
  std::vector<Problem> problems;
  read_configured(parsed.replay.options, problems, command.notes);
  if (!problems.empty()) {
    command.error = list_problems(problems);
    command.exit_code = exit_bad_config;
    return command;
  }
  command.kind = Command::Kind::replay;
  command.replay = std::move(parsed.replay.options);
  return command;
}

std::string suggestion(const std::string& word, const std::vector<std::string_view>& known) {
  const std::string near = closest(word, known);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

// CLI11 would say only that an argument was not expected.
Command unknown_command(const std::string& word) {
  const std::string elsewhere(command_instead_of(word)), flag = flag_for_word("serve", word);
  std::string meant;
  if (!elsewhere.empty() || !flag.empty())
    meant = "; did you mean " + (flag.empty() ? elsewhere : "penstock serve " + flag) + "?";
  else meant = suggestion(word, {"serve", "check", "replay", "version"});
  return usage_error("there is no command \"" + word + "\"" + meant + " (commands: serve, check, replay, version)",
                     "penstock --help");
}

// A word without a dash, with the flag that it was probably meant for, unless that was given already.
std::string unexpected_word(const CLI::App& command, const std::string& name, const std::string& word) {
  const std::string meant = flag_for_word(command.get_name(), word);
  const CLI::Option* const option = command.get_option_no_throw(meant.substr(0, meant.find(' ')));
  const bool fits = option != nullptr &&
                    (option->count() == 0 || option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll);
  return '"' + word + "\" is not expected: " + name + " takes flags only" +
         (fits ? "; did you mean " + meant + "?" : "");
}

// What to give instead of a flag that `command` does not have: by the flags of other programs, else by the spelling.
std::string instead_of(const CLI::App& command, const std::string& flag) {
  const ForeignFlag* const foreign = find_foreign_flag(other_foreign_flags(), flag);
  const std::string here(foreign == nullptr ? "" : foreign->here);
  const bool is_flag = foreign != nullptr && foreign->kind == ForeignFlag::Kind::flag;
  const bool has_it = is_flag && command.get_option_no_throw(here.substr(0, here.find(' '))) != nullptr;
  if (has_it || (foreign != nullptr && !is_flag && command.get_name() == "serve")) return "; " + instruction(*foreign);
  std::vector<std::string> names;
  for (const CLI::Option* const option : command.get_options()) {
    for (const std::string& long_name : option->get_lnames()) names.push_back("--" + long_name);
  }
  return suggestion(flag, std::vector<std::string_view>(names.begin(), names.end()));
}

// A flag in front of the command: that of `serve`, by our name for it or another's.
std::string flag_without_command(const CLI::App& app, const std::string& flag) {
  if (app.get_subcommand("serve")->get_option_no_throw(flag) != nullptr)
    return "which command? penstock serve takes " + flag;
  if (flag == "-v" || flag == "-V") return "penstock has no flag " + flag + "; did you mean --version?";
  const ForeignFlag* const foreign = find_foreign_flag(other_foreign_flags(), flag);
  if (foreign != nullptr && foreign->kind == ForeignFlag::Kind::flag)
    return "which command? penstock serve takes " + std::string(foreign->here);
  return "penstock has no flag " + flag + instead_of(app, flag);
}

// The first argument that the command does not know. CLI11 would list all of them, from last to first.
std::string unknown_argument(const CLI::App& command, int argc, const char* const* argv) {
  const std::vector<std::string> extras = command.remaining();
  const auto unknown = [&](const char* word) { return std::find(extras.begin(), extras.end(), word) != extras.end(); };
  const char* const* const found = std::find_if(argv + 1, argv + argc, unknown);
  const std::string word = found == argv + argc ? extras.back() : *found;
  const bool no_command = command.get_parent() == nullptr;
  const std::string name = no_command ? "penstock" : "penstock " + command.get_name();
  if (!word.starts_with("-")) return unexpected_word(command, name, word);
  const std::string flag = word.substr(0, word.find('='));
  if (no_command) return flag_without_command(command, flag);
  const ForeignFlag* const pickers = find_foreign_flag(endpoint_picker_flags(), flag);
  if (pickers != nullptr && command.get_name() == "serve")
    return name + " has no flag " + flag + ", as the Endpoint Picker has; " + instruction(*pickers);
  return name + " has no flag " + flag + instead_of(command, flag);
}

// CLI11 counts values ("At Most 1 required but received 2").
std::string count_error(const std::string& what) {
  const std::string flag = what.substr(0, what.find(':'));
  return flag +
         (what.find("received") == std::string::npos ? " needs a value" : " is given more than once; give it once");
}

// What is wrong, and whose help to read.
Command parse_error(const CLI::App& app, const CLI::ParseError& error, int argc, const char* const* argv) {
  const std::vector<CLI::App*> commands = app.get_subcommands();  // those that were given
  const CLI::App& command = commands.empty() ? app : *commands.front();
  const bool unknown = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr && command.remaining_size() > 0;
  const std::string help = commands.empty() ? "penstock --help" : "penstock " + command.get_name() + " --help";
  if (unknown) return usage_error(unknown_argument(command, argc, argv), help.c_str());
  const bool count = dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr;
  return usage_error(count ? count_error(error.what()) : error.what(), help.c_str());
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  CLI::App app(intro, "penstock");
  app.footer(serve_examples);
  app.set_help_flag("-h,--help", "Show this text");
  app.add_flag("--version")->description("Show the version and what this machine offers");
  Parsed parsed;
  CLI::App* const serve = app.add_subcommand("serve", "Run the gateway");
  define_serve(*serve, parsed);
  serve->footer(serve_examples);
  CLI::App* const check = app.add_subcommand(
      "check",
      "Report every problem of a configuration file, of manifests and of an EndpointPickerConfig, with its line");
  check->add_option("--config", parsed.check_file, "Configuration file (YAML)")->type_name("FILE");
  check->add_option("--manifests", parsed.check_manifests, "Kubernetes objects in files")->type_name("DIR");
  check->add_option(picker_file_flag, parsed.check_picker, "EndpointPickerConfig (YAML)")->type_name("FILE");
  check->add_option(picker_text_flag, parsed.check_picker_text, "The same, the text itself")->type_name("TEXT");
  check->footer(check_examples);
  CLI::App* const replay =
      app.add_subcommand("replay", "Compare routing policies on recorded traces, without a network");
  define_replay(*replay, parsed.replay);
  CLI::App* const version = app.add_subcommand("version", "Show the version and what this machine offers");
  version->footer("");

  Command command;
  if (argc < 2) {
    command.error = app.help();
    command.exit_code = exit_bad_usage;
    return command;
  }
  const std::string first = argv[1];
  if (first == "--version") {
    command.kind = Command::Kind::version;
    return command;
  }
  if (first == "help") {
    command.output = app.help();
    return command;
  }
  if (!first.starts_with("-") && first != "serve" && first != "check" && first != "replay" && first != "version")
    return unknown_command(first);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    command.output = app.help();  // of the command that was named, if any
    return command;
  } catch (const CLI::ParseError& error) {
    return parse_error(app, error, argc, argv);
  }
  if (serve->parsed()) return serve_command(parsed);
  if (check->parsed()) {
    if (!parsed.check_file.empty() || !parsed.check_manifests.empty() || !parsed.check_picker.empty() ||
        !parsed.check_picker_text.empty())
      return check_command(parsed);
    return usage_error("check needs --config FILE, --manifests DIR, --epp-config FILE, or several of them",
                       "penstock check --help");
  }
  if (replay->parsed()) return replay_command(parsed);
  if (version->parsed()) {
    command.kind = Command::Kind::version;
    return command;
  }
  return usage_error("which command? (serve, check, replay, version)", "penstock --help");
}

}  // namespace penstock::config
