// Load for a gateway on loopback: unary requests or streams of server-sent events, closed loop (so many at
// a time) or open loop (so many a second, latency from when each was due), or connections that only sit.

#include <signal.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "perf/common/flags.h"
#include "perf/common/load_client.h"

namespace penstock::perf {
namespace {

constexpr const char* usage =
    "sse_load: load for an HTTP gateway on loopback\n"
    "  --target A:P        where to (127.0.0.1 only); repeat to spread the connections over several\n"
    "  --mode M            sse (streams, the default), request (no streaming), idle (open connections that sit)\n"
    "  --connections N     connections, and in closed loop requests at a time (64)\n"
    "  --rate R            open loop: requests a second (0, the default: closed loop)\n"
    "  --poisson           open loop with exponential gaps instead of equal ones\n"
    "  --duration S        recorded time (10)\n"
    "  --warmup S          time before that (0)\n"
    "  --requests N        stop after N requests (no limit), waiting for the last answers\n"
    "  --drain S           how long to wait for these (10)\n"
    "  --path P            /v1/completions\n"
    "  --body-bytes N      size of the request body (1024)\n"
    "  --body-file F       send this body instead\n"
    "  --unique            a serial number at the start of each prompt, so that no two share a prefix\n"
    "  --max-tokens N      asked for in the body (100)\n"
    "  --seed N            of the exponential gaps (1)\n"
    "  --watch-pid PID     report CPU time and memory of this process; repeat for several\n"
    "  --json              print one JSON object\n";

constexpr size_t serial_digits = 16;

std::string filler(size_t bytes) {
  static constexpr std::string_view words[] = {"water ", "gate ", "river ", "turbine ",
                                               "flow ",  "of ",   "the ",   "pressure "};
  std::string text;
  uint32_t state = 12345;
  while (text.size() < bytes) {
    state = state * 1664525u + 1013904223u;
    text += words[state >> 29];
  }
  text.resize(bytes);
  return text;
}

// The request is split at the place where the serial number ends: what follows is shared by all of them.
struct Template {
  std::string first;
  std::string rest;
  bool serial = false;
};

struct BodyOptions {
  std::string path;
  std::string host;
  std::string file;
  size_t bytes = 1024;
  uint64_t max_tokens = 100;
  bool stream = true;
  bool unique = false;
};

Template make_template(const BodyOptions& options) {
  Template result;
  std::string before;
  std::string after;
  if (!options.file.empty()) {
    std::ifstream file(options.file, std::ios::binary);
    after.assign(std::istreambuf_iterator<char>(file), {});
  } else {
    std::string common =
        "\",\"max_tokens\":" + std::to_string(options.max_tokens) + (options.stream ? ",\"stream\":true" : "") + "}";
    bool chat = options.path.find("chat") != std::string::npos;
    bool embeddings = options.path.find("embeddings") != std::string::npos;
    before = "{\"model\":\"bench\",";
    before += chat ? "\"messages\":[{\"role\":\"user\",\"content\":\"" : embeddings ? "\"input\":\"" : "\"prompt\":\"";
    if (chat) common = "\"}]" + common.substr(1);
    size_t fixed = before.size() + common.size() + (options.unique ? serial_digits : 0);
    after = filler(options.bytes > fixed ? options.bytes - fixed : 1) + common;
    result.serial = options.unique;
  }
  size_t length = before.size() + after.size() + (result.serial ? serial_digits : 0);
  result.first = "POST " + options.path + " HTTP/1.1\r\nHost: " + options.host +
                 "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n" +
                 before;
  result.rest = std::move(after);
  return result;
}

class FixedSource : public JobSource {
 public:
  FixedSource(Template what, double rate, bool poisson, uint32_t at_once, uint64_t limit, uint64_t seed)
      : template_(std::move(what)), limit_(limit), state_(seed), rate_(rate), at_once_(at_once), poisson_(poisson) {}

  bool next(uint64_t now, Job& job) override {
    if (exhausted()) return false;
    if (rate_ == 0) {
      if (outstanding_ >= at_once_) return false;
      job.due_ns = now;
    } else {
      if (due_ == 0) due_ = now;
      if (due_ > now) return false;
      job.due_ns = due_;
      due_ += gap();
    }
    job.text = template_.first;
    if (template_.serial) {
      char digits[24];
      std::snprintf(digits, sizeof digits, "%016llu", static_cast<unsigned long long>(issued_));
      job.text.append(digits, serial_digits);
    }
    job.shared = template_.rest;
    ++issued_;
    ++outstanding_;
    return true;
  }

  uint64_t next_due() const override { return rate_ == 0 ? UINT64_MAX : due_; }
  bool exhausted() const override { return issued_ >= limit_; }
  void finished(const Result&) override { --outstanding_; }

 private:
  uint64_t gap() {
    if (!poisson_) return static_cast<uint64_t>(1e9 / rate_);
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    double uniform = (static_cast<double>(state_ >> 11) + 1) / 9007199254740993.0;
    return static_cast<uint64_t>(-std::log(uniform) * 1e9 / rate_);
  }

  Template template_;
  uint64_t limit_;
  uint64_t issued_ = 0;
  uint64_t outstanding_ = 0;
  uint64_t due_ = 0;
  uint64_t state_;
  double rate_;
  uint32_t at_once_;
  bool poisson_;
};

// Opens every connection, uses each once, and says what the watched processes hold while all of them sit.
int run_idle(LoadOptions load, Template request, double hold, bool json) {
  ProcessSample before = sample_processes(load.watch);
  uint32_t n = load.connections;
  load.drain = 10;
  FixedSource source(std::move(request), 0, false, 32, n, 1);
  LoadClient client(load, source);
  if (!client.open_all()) {
    std::fprintf(stderr, "could not open %u connections\n", n);
    return 1;
  }
  client.run();
  client.hold(hold);
  ProcessSample after = sample_processes(load.watch);
  auto each = [&](uint64_t a, uint64_t b) { return (static_cast<double>(b) - static_cast<double>(a)) * 1024 / n; };
  std::printf(json ? "{\"connections\": %u, \"errors\": %llu, \"rss_bytes_each\": %.0f, \"pss_bytes_each\": %.0f}\n"
                   : "%u connections, %llu errors: RSS %.0f bytes each, PSS %.0f bytes each\n",
              n, static_cast<unsigned long long>(client.report().errors()), each(before.rss_kib, after.rss_kib),
              each(before.pss_kib, after.pss_kib));
  return 0;
}

}  // namespace
}  // namespace penstock::perf

int main(int argc, char** argv) {
  using namespace penstock::perf;
  Flags flags(argc, argv, usage);
  LoadOptions load;
  BodyOptions body;
  std::vector<std::string> targets = flags.list("--target");
  std::string mode = flags.text("--mode", "sse");
  load.connections = static_cast<uint32_t>(flags.number("--connections", 64));
  double rate = flags.real("--rate", 0);
  bool poisson = flags.on("--poisson");
  load.seconds = flags.real("--duration", 10);
  load.warmup = flags.real("--warmup", 0);
  uint64_t limit = flags.number("--requests", UINT64_MAX);
  load.drain = limit == UINT64_MAX ? 0 : flags.real("--drain", 10);
  body.path = flags.text("--path", "/v1/completions");
  body.bytes = flags.number("--body-bytes", 1024);
  body.file = flags.text("--body-file", "");
  body.unique = flags.on("--unique");
  body.max_tokens = flags.number("--max-tokens", 100);
  uint64_t seed = flags.number("--seed", 1);
  load.watch = flags.pids("--watch-pid");
  bool json = flags.on("--json");
  flags.finish();
  if (targets.empty()) flags.fail("--target is missing");
  if (mode != "sse" && mode != "request" && mode != "idle") flags.fail("--mode: want sse, request or idle");
  if (load.connections == 0) flags.fail("--connections: want at least 1");
  for (const std::string& target : targets) load.targets.push_back(loopback_address(target));
  body.host = targets[0];
  body.stream = mode == "sse";
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  if (mode == "idle") return run_idle(load, make_template(body), load.seconds, json);

  FixedSource source(make_template(body), rate, poisson, load.connections, limit, seed);
  LoadClient client(load, source);
  client.run();
  const LoadReport& report = client.report();
  std::fputs((json ? report.json() : report.text()).c_str(), stdout);
  return report.errors() == 0 ? 0 : 1;
}
