// Golden decisions: each *.txt beside this file is a scenario, a list of commands; what a command prints stands below
// it in lines that begin with "= ". The program runs all scenarios of a folder and compares; with --update it rewrites
// them.
//
//   policy NAME                  what decides (once, before endpoints)
//   now MS                       the time
//   endpoint NAME KEY=VALUE...   adds an endpoint, unscraped unless a gauge is given
//   set NAME KEY=VALUE...        changes one: waiting running kv blocks block_size (a scrape at `now`), unknown, ready,
//                                not_ready, draining, models=a,b, in_flight=N, probe_failed=0|1
//   prompt NAME BLOCKS [OTHER:N] a prompt, sharing its first N blocks with another
//   record ENDPOINT PROMPT N     the endpoint has computed the first N blocks
//   fail ENDPOINT hard|soft      one failure; says when it ejects
//   ok ENDPOINT                  one success
//   decide PROMPT [model=M] [tried=a,b]     one decision, explained
//   count PROMPT N               N decisions, how often each endpoint was chosen
//   reserve PROMPT N             the same, and each choice reserves its load
//   release                      gives all reservations back
#include <algorithm>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "penstock/routing/router.h"

using namespace penstock;
using namespace penstock::routing;
using endpoints::EndpointState;
using endpoints::EndpointView;
using endpoints::Readiness;

namespace {

using Words = std::vector<std::string>;

Words split(const std::string& text, char separator) {
  Words words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, separator);) {
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

class Scenario {
 public:
  // What the command prints, as lines.
  std::vector<std::string> run(const Words& words) {
    out_.clear();
    const std::string& command = words[0];
    const auto argument = [&words](size_t i) -> const std::string& {
      if (i >= words.size()) throw std::runtime_error("an argument is missing");
      return words[i];
    };
    if (command == "policy") {
      policy(argument(1));
    } else if (command == "now") {
      now_ = Instant(milliseconds(std::stoll(argument(1))));
    } else if (command == "endpoint") {
      add(argument(1));
      change(view(argument(1)), words);
    } else if (command == "set") {
      change(view(argument(1)), words);
    } else if (command == "prompt") {
      prompt(argument(1), std::stoul(argument(2)), words.size() > 3 ? words[3] : "");
    } else if (command == "record") {
      EndpointState& endpoint = *view(argument(1)).state;
      index_.bind(endpoint.slot, endpoint.incarnation);
      index_.record(std::span(chain(argument(2))).first(std::stoul(argument(3))), endpoint.slot);
    } else if (command == "fail") {
      const FailureKind kind = argument(2) == "hard" ? FailureKind::hard : FailureKind::soft;
      if (report_failure(*view(argument(1)).state, kind, now_, {})) out_.push_back("ejected");
    } else if (command == "ok") {
      report_success(*view(argument(1)).state, now_, {});
    } else if (command == "decide") {
      decide(words);
    } else if (command == "count" || command == "reserve") {
      count(argument(1), std::stoi(argument(2)), command == "reserve");
    } else if (command == "release") {
      reservations_.clear();
    } else {
      throw std::runtime_error("unknown command " + command);
    }
    return out_;
  }

 private:
  void policy(const std::string& name) {
    Policy policy{};
    if (!parse_policy(name, &policy)) throw std::runtime_error("unknown policy " + name);
    profile_ = make_profile(policy);
    router_ = std::make_unique<Router>(*profile_, index_, 1);
  }

  void add(const std::string& name) {
    EndpointState& state = states_.emplace_back();
    state.slot = static_cast<uint32_t>(states_.size() - 1);
    state.incarnation = 1;
    state.name = name;
    pool_.endpoints.emplace_back().state = &state;
  }

  EndpointView& view(const std::string& name) {
    for (EndpointView& view : pool_.endpoints) {
      if (view.state->name == name) return view;
    }
    throw std::runtime_error("unknown endpoint " + name);
  }

  void change(EndpointView& view, const Words& words) {
    for (size_t i = 2; i < words.size(); ++i) {
      const size_t equals = std::min(words[i].find('='), words[i].size());
      const std::string key = words[i].substr(0, equals);
      const std::string value = equals < words[i].size() ? words[i].substr(equals + 1) : "";
      if (key == "ready") view.readiness = Readiness::ready;
      else if (key == "not_ready") view.readiness = Readiness::not_ready;
      else if (key == "draining") view.readiness = Readiness::draining;
      else if (key == "unknown") view.metrics = {};
      else if (key == "models") view.models = split(value, ',');
      else if (key == "in_flight") view.state->load.requests = std::stoll(value);
      else if (key == "probe_failed") view.state->health.probe_failed = value == "1";
      else gauge(view, key, std::stod(value));
    }
  }

  void gauge(EndpointView& view, const std::string& key, double value) {
    endpoints::EngineMetrics& metrics = view.metrics;
    if (key == "waiting") metrics.waiting = value;
    else if (key == "running") metrics.running = value;
    else if (key == "kv") metrics.kv_usage = value;
    else if (key == "blocks") metrics.kv_blocks = static_cast<uint64_t>(value);
    else if (key == "block_size") metrics.block_size = static_cast<uint32_t>(value);
    else throw std::runtime_error("unknown key " + key);
    metrics.known = true;
    metrics.scraped_at = now_;
    metrics.requests_at_scrape = view.state->load.requests;
  }

  void prompt(const std::string& name, size_t blocks, const std::string& shared) {
    std::vector<uint64_t> chain;
    if (const Words parts = split(shared, ':'); parts.size() == 2) {
      chain = this->chain(parts[0]);
      chain.resize(std::stoul(parts[1]));
    }
    while (chain.size() < blocks) chain.push_back(hashes_.next());
    prompts_[name] = std::move(chain);
  }

  const std::vector<uint64_t>& chain(const std::string& name) const {
    const auto at = prompts_.find(name);
    if (at == prompts_.end()) throw std::runtime_error("unknown prompt " + name);
    return at->second;
  }

  Router& router() {
    if (router_ == nullptr) throw std::runtime_error("no policy");
    return *router_;
  }

  void decide(const Words& words) {
    Features features;
    std::vector<EndpointState*> tried;
    std::string model;
    if (words.size() < 2) throw std::runtime_error("an argument is missing");
    features.blocks = chain(words[1]);
    for (size_t i = 2; i < words.size(); ++i) {
      if (words[i].starts_with("model=")) {
        model = words[i].substr(6);
      } else if (words[i].starts_with("tried=")) {
        for (const std::string& name : split(words[i].substr(6), ',')) tried.push_back(view(name).state);
      } else {
        throw std::runtime_error("unknown argument " + words[i]);
      }
    }
    features.model = model;
    Explanation why;
    const Decision decision = router().decide(features, pool_, now_, tried, &why);
    static constexpr const char* reasons[] = {"", "pool empty", "none ready", "all ejected or tried"};
    char line[256];
    if (decision.endpoint == nullptr) {
      std::snprintf(line, sizeof line, "none: %s", reasons[static_cast<size_t>(decision.why_none)]);
    } else {
      std::snprintf(line, sizeof line, "%s, score %.4g, %u blocks matched, %u candidates",
                    decision.endpoint->name.c_str(), decision.score, decision.matched_blocks, decision.candidates);
    }
    out_.push_back(line);
    std::istringstream header(why.to_header());
    for (std::string part; std::getline(header, part, ';');) {
      if (part.starts_with("profile: ")) continue;  // as the script says
      out_.push_back("  " + part.substr(part.find_first_not_of(' ')));
    }
  }

  void count(const std::string& prompt, int decisions, bool reserve) {
    Features features;
    features.blocks = chain(prompt);
    std::map<std::string, int> counts;
    for (int i = 0; i < decisions; ++i) {
      const Decision decision = router().decide(features, pool_, now_, {});
      if (decision.endpoint == nullptr) throw std::runtime_error("no endpoint");
      ++counts[decision.endpoint->name];
      if (reserve) reservations_.emplace_back(*decision.endpoint, 0, 0, 0, now_);
    }
    std::string line;
    for (const auto& [name, chosen] : counts) line += (line.empty() ? "" : ", ") + name + " " + std::to_string(chosen);
    out_.push_back(line);
  }

  std::deque<EndpointState> states_;
  endpoints::Pool pool_;
  PrefixIndex index_{1 << 14};
  std::unique_ptr<Profile> profile_;
  std::unique_ptr<Router> router_;
  std::vector<Reservation> reservations_;
  std::map<std::string, std::vector<uint64_t>> prompts_;
  Random hashes_{42};
  Instant now_{};
  std::vector<std::string> out_;
};

// The scenario with what its commands print now.
std::string rerun(const std::filesystem::path& file) {
  std::ifstream in(file);
  Scenario scenario;
  std::string text, line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.starts_with("= ")) continue;
    text += line + '\n';
    const Words words = split(line, ' ');
    if (words.empty() || words[0][0] == '#') continue;
    try {
      for (const std::string& printed : scenario.run(words)) text += "= " + printed + '\n';
    } catch (const std::exception& error) {
      throw std::runtime_error(file.string() + ":" + std::to_string(number) + ": " + error.what());
    }
  }
  return text;
}

std::string read(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The first line in which they differ, for a quick look.
void show_difference(const std::filesystem::path& file, const std::string& expected, const std::string& actual) {
  std::istringstream a(expected), b(actual);
  std::string wanted, got;
  for (int number = 1;; ++number) {
    const bool more_wanted = static_cast<bool>(std::getline(a, wanted));
    const bool more_got = static_cast<bool>(std::getline(b, got));
    if (!more_wanted && !more_got) return;
    if (more_wanted && more_got && wanted == got) continue;
    std::cerr << file.string() << ":" << number << ":\n  expected " << (more_wanted ? wanted : "(end)")
              << "\n  got      " << (more_got ? got : "(end)") << "\n";
    return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || (argc == 3 && std::string(argv[2]) != "--update") || argc > 3) {
    std::cerr << "usage: golden-routing FOLDER [--update]\n";
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  int wrong = files.empty() ? 1 : 0;
  for (const auto& file : files) {
    try {
      const std::string expected = read(file), actual = rerun(file);
      if (expected == actual) continue;
      if (argc == 3) {
        std::ofstream(file) << actual;
        std::cerr << "updated " << file.string() << "\n";
        continue;
      }
      show_difference(file, expected, actual);
    } catch (const std::exception& error) {
      std::cerr << error.what() << "\n";
    }
    ++wrong;
  }
  std::cerr << files.size() << " scenarios, " << wrong << " wrong\n";
  return wrong == 0 ? 0 : 1;
}
