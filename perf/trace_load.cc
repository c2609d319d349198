// Replays an excerpt of a request trace against a gateway on loopback. Prompts are made up so that equal
// hash_ids give equal text: what the trace's users shared, the requests share. Most are streams; some are
// not, some ask for embeddings or for the list of models, as real clients do.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <map>

#include "perf/common/flags.h"
#include "perf/common/load_client.h"

namespace penstock::perf {
namespace {

constexpr const char* usage =
    "trace_load: replays a request trace against a gateway on loopback\n"
    "  --target A:P        where to (127.0.0.1 only)\n"
    "  --trace F           JSON lines: timestamp (ms), input_length, output_length, hash_ids\n"
    "  --model M           model to ask for (sim)\n"
    "  --speed X           trace seconds per second (20)\n"
    "  --length-scale X    scales prompt and answer lengths (0.25)\n"
    "  --limit N           only the first N requests\n"
    "  --plain-percent P   requests without streaming (10)\n"
    "  --embed-percent P   requests for embeddings (5)\n"
    "  --models-percent P  GET /v1/models (3)\n"
    "  --connections N     connections at most (512)\n"
    "  --drain S           how long the last answers may take (60)\n"
    "  --save-trace F      also write what is sent as a trace, its lengths not scaled yet, for penstock replay\n"
    "  --seed N            of the mix (1)\n"
    "  --watch-pid PID     report CPU time of this process; repeat for several\n"
    "  --json              one JSON object on stdout instead of a text\n"
    "  --quiet             no progress line\n";

constexpr uint32_t block_tokens = 512;
constexpr uint64_t arrival_step_ms = 3000;  // the trace rounds arrivals down to this: they are spread over it

struct Record {
  uint64_t at_ms = 0;
  uint32_t input = 0;
  uint32_t output = 0;
  std::vector<uint64_t> blocks;
};

enum Kind : uint32_t { stream, plain, embeddings, models, kinds };
constexpr const char* kind_names[] = {"streams", "not streamed", "embeddings", "model lists"};

struct Options {
  std::string host;
  std::string model;
  double speed = 20;
  double scale = 0.25;
  uint64_t seed = 1;
  uint32_t percent[kinds] = {};
  bool progress = true;
};

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

bool read_number(std::string_view line, std::string_view key, uint64_t& out) {
  size_t at = line.find(key);
  if (at == std::string_view::npos) return false;
  const char* end = line.data() + line.size();
  return std::from_chars(line.data() + at + key.size(), end, out).ec == std::errc();
}

bool read_record(std::string_view line, Record& record) {
  uint64_t input = 0;
  uint64_t output = 0;
  if (!read_number(line, "\"timestamp\":", record.at_ms) || !read_number(line, "\"input_length\":", input) ||
      !read_number(line, "\"output_length\":", output)) {
    return false;
  }
  record.input = static_cast<uint32_t>(input);
  record.output = static_cast<uint32_t>(output);
  size_t at = line.find("\"hash_ids\":[");
  if (at == std::string_view::npos) return false;
  const char* p = line.data() + at + 12;
  const char* end = line.data() + line.size();
  while (p < end && *p != ']') {
    uint64_t id = 0;
    auto [next, error] = std::from_chars(p, end, id);
    if (error != std::errc()) return false;
    record.blocks.push_back(id);
    p = next;
    while (p < end && (*p == ',' || *p == ' ')) ++p;
  }
  return true;
}

std::vector<Record> read_trace(const std::string& path, uint64_t limit, const Flags& flags) {
  std::ifstream file(path);
  if (!file) flags.fail("cannot read " + path);
  std::vector<Record> records;
  std::string line;
  while (records.size() < limit && std::getline(file, line)) {
    Record record;
    if (!read_record(line, record)) {
      flags.fail(path + ":" + std::to_string(records.size() + 1) + ": not a trace record");
    }
    records.push_back(std::move(record));
  }
  if (records.empty()) flags.fail(path + " is empty");
  for (size_t first = 0; first < records.size();) {
    size_t last = first;
    while (last < records.size() && records[last].at_ms == records[first].at_ms) ++last;
    for (size_t i = first; i < last; ++i) records[i].at_ms += (i - first) * arrival_step_ms / (last - first);
    first = last;
  }
  return records;
}

// `tokens` words of four bytes that depend on the block's id alone.
void append_block(std::string& out, uint64_t id, uint32_t tokens) {
  uint64_t state = mix(id);
  for (uint32_t i = 0; i < tokens; ++i) {
    if (i % 4 == 0) state = mix(state);
    uint64_t bits = state >> (i % 4 * 15);
    char word[] = {static_cast<char>('a' + bits % 26), static_cast<char>('a' + (bits >> 5) % 26),
                   static_cast<char>('a' + (bits >> 10) % 26), ' '};
    out.append(word, sizeof word);
  }
}

class TraceSource : public JobSource {
 public:
  TraceSource(std::vector<Record> records, Options options)
      : records_(std::move(records)), options_(std::move(options)), live_(isatty(2) == 1) {}

  bool next(uint64_t now, Job& job) override {
    if (start_ == 0) start_ = now;
    if (exhausted() || due(next_) > now) return false;
    job.due_ns = due(next_);
    make(records_[next_], kind_of(next_), job);
    ++next_;
    return true;
  }

  uint64_t next_due() const override { return exhausted() ? UINT64_MAX : due(next_); }
  bool exhausted() const override { return next_ >= records_.size(); }

  void finished(const Result& result) override {
    ++done_;
    ++by_kind_[result.tag];
    if (result.failure != Failure::none) {
      ++errors_;
      if (result.status != 200 && result.status != 0) ++by_status_[result.status];
      return;
    }
    if (result.tag == models) return;
    ++by_endpoint_[result.endpoint.empty() ? "(not named)" : std::string(result.endpoint)];
    prompt_tokens_ += result.prompt_tokens;
    cached_tokens_ += result.cached_tokens;
    completion_tokens_ += result.completion_tokens;
  }

  void tick(uint64_t now) override {
    if (!options_.progress || now < next_progress_) return;
    next_progress_ = now + (live_ ? 200'000'000u : 2'000'000'000u);
    progress(now);
  }

  void last_progress() {
    if (!options_.progress) return;
    progress(now_ns());
    if (live_) std::fputc('\n', stderr);
  }

  std::string json() const {
    std::string out = ", \"prompt_tokens\": " + std::to_string(prompt_tokens_) +
                      ", \"cached_tokens\": " + std::to_string(cached_tokens_) +
                      ", \"completion_tokens\": " + std::to_string(completion_tokens_);
    out += map_json("endpoints", by_endpoint_) + map_json("statuses", by_status_) + ", \"kinds\": {";
    for (uint32_t i = 0; i < kinds; ++i) {
      out += (i ? ", \"" : "\"") + std::string(kind_names[i]) + "\": " + std::to_string(by_kind_[i]);
    }
    return out + "}";
  }

  std::string text(const LoadReport& report) const;
  bool save_trace(const std::string& path) const;

 private:
  uint64_t due(size_t i) const {
    return start_ +
           static_cast<uint64_t>(static_cast<double>(records_[i].at_ms - records_[0].at_ms) * 1e6 / options_.speed);
  }

  Kind kind_of(size_t i) const {
    uint32_t roll = static_cast<uint32_t>(mix(options_.seed * 1000003 + i) % 100);
    for (Kind kind : {plain, embeddings, models}) {
      if (roll < options_.percent[kind]) return kind;
      roll -= options_.percent[kind];
    }
    return stream;
  }

  void make(const Record& record, Kind kind, Job& job) const;
  std::string cost(const LoadReport& report) const;

  void progress(uint64_t now) const {
    std::fprintf(stderr, "%s  %5.1f s  sent %zu of %zu  answered %llu  errors %llu%s", live_ ? "\r" : "",
                 start_ ? static_cast<double>(now - start_) / 1e9 : 0.0, next_, records_.size(),
                 static_cast<unsigned long long>(done_), static_cast<unsigned long long>(errors_), live_ ? "  " : "\n");
    std::fflush(stderr);
  }

  static std::string key_text(int key) { return std::to_string(key); }
  static const std::string& key_text(const std::string& key) { return key; }
  template <typename Key>
  static std::string map_json(const char* name, const std::map<Key, uint64_t>& map) {
    std::string out = ", \"" + std::string(name) + "\": {";
    const char* comma = "";
    for (const auto& [key, n] : map) {
      out += comma + ("\"" + key_text(key) + "\": ") + std::to_string(n);
      comma = ", ";
    }
    return out + "}";
  }

  std::vector<Record> records_;
  Options options_;
  std::map<std::string, uint64_t> by_endpoint_;
  std::map<int, uint64_t> by_status_;
  uint64_t by_kind_[kinds] = {};
  uint64_t prompt_tokens_ = 0;
  uint64_t cached_tokens_ = 0;
  uint64_t completion_tokens_ = 0;
  uint64_t done_ = 0;
  uint64_t errors_ = 0;
  uint64_t start_ = 0;
  uint64_t next_progress_ = 0;
  size_t next_ = 0;
  bool live_;
};

// The turns of one conversation use one API, or they would share nothing.
bool asks_chat(const Record& record) {
  return record.blocks.size() < 2 || record.blocks[1] % 2 == 0;
}

// Of the prompt: embeddings are asked for of its first block.
uint32_t input_sent(const Record& record, Kind kind) {
  return kind == embeddings ? std::min(record.input, block_tokens) : record.input;
}

void TraceSource::make(const Record& record, Kind kind, Job& job) const {
  job.tag = kind;
  if (kind == models) {
    job.text = "GET /v1/models HTTP/1.1\r\nHost: " + options_.host + "\r\n\r\n";
    return;
  }
  auto scaled = [&](uint32_t tokens) {
    return std::max(1u, static_cast<uint32_t>(static_cast<double>(tokens) * options_.scale + 0.5));
  };
  std::string prompt;
  uint32_t left = input_sent(record, kind);
  for (size_t i = 0; i < record.blocks.size() && left > 0; ++i) {
    uint32_t tokens = std::min(left, block_tokens);
    append_block(prompt, record.blocks[i], scaled(tokens));
    left -= tokens;
  }
  bool chat = asks_chat(record);
  std::string body = "{\"model\":\"" + options_.model + "\",";
  const char* path = "/v1/embeddings";
  if (kind == embeddings) {
    body += "\"input\":\"" + prompt + "\"}";
  } else {
    path = chat ? "/v1/chat/completions" : "/v1/completions";
    body +=
        chat ? "\"messages\":[{\"role\":\"user\",\"content\":\"" + prompt + "\"}]" : "\"prompt\":\"" + prompt + "\"";
    body += ",\"max_tokens\":" + std::to_string(scaled(record.output));
    if (kind == stream) body += ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";
    body += "}";
  }
  job.text = "POST " + std::string(path) + " HTTP/1.1\r\nHost: " + options_.host +
             "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// Without the lists of models, which are no prompts. A chat's template comes first in its prompt: it shares nothing
// with prompts of the other API.
bool TraceSource::save_trace(const std::string& path) const {
  std::ofstream out(path);
  for (size_t i = 0; i < records_.size(); ++i) {
    const Record& record = records_[i];
    const Kind kind = kind_of(i);
    if (kind == models) continue;
    const uint32_t input = input_sent(record, kind);
    const bool chat = kind != embeddings && asks_chat(record);
    out << "{\"timestamp\": " << record.at_ms << ", \"input_length\": " << input
        << ", \"output_length\": " << (kind == embeddings ? 1 : record.output) << ", \"hash_ids\": [";
    for (size_t block = 0; block < record.blocks.size() && block * block_tokens < input; ++block) {
      out << (block ? ", " : "") << record.blocks[block] * 2 + (chat ? 1 : 0);
    }
    out << "]}\n";
  }
  out.close();
  return !out.fail();
}

// What relaying cost the gateway, by request and by token.
std::string TraceSource::cost(const LoadReport& report) const {
  if (report.after.cpu_ns <= report.before.cpu_ns || report.requests == 0) return "";
  double cpu_us = static_cast<double>(report.after.cpu_ns - report.before.cpu_ns) / 1e3;
  char text[256];
  std::snprintf(text, sizeof text,
                "gateway CPU          %.1f us a token, %.0f us a request, the scraping of metrics included\n"
                "                     %.1f %% of one core\n",
                cpu_us / static_cast<double>(std::max<uint64_t>(completion_tokens_, 1)),
                cpu_us / static_cast<double>(report.requests), cpu_us / report.window_s / 1e4);
  return text;
}

std::string TraceSource::text(const LoadReport& report) const {
  std::string out;
  auto line = [&](const char* format, auto... values) {
    char text[256];
    std::snprintf(text, sizeof text, format, values...);
    out += text;
  };
  auto ms = [](const Histogram& h, double q) { return static_cast<double>(h.quantile(q)) / 1e6; };
  auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  line("requests             %llu in %.1f s (", number(report.requests), report.window_s);
  for (uint32_t i = 0; i < kinds; ++i) line("%s%llu %s", i ? ", " : "", number(by_kind_[i]), kind_names[i]);
  line(")\nerrors               %llu", number(report.errors()));
  for (size_t i = 1; i < failure_count; ++i) {
    if (report.failures[i]) line("  %s %llu", failure_names[i], number(report.failures[i]));
  }
  for (const auto& [status, n] : by_status_) line("  status %d: %llu", status, number(n));
  out += "\nrequests per endpoint\n";
  for (const auto& [endpoint, n] : by_endpoint_) line("  %-18s %llu\n", endpoint.c_str(), number(n));
  if (prompt_tokens_ > 0) {
    line("prefix-cache hits    %.1f %% (%llu of %llu prompt tokens)\n",
         100.0 * static_cast<double>(cached_tokens_) / static_cast<double>(prompt_tokens_), number(cached_tokens_),
         number(prompt_tokens_));
  }
  line("tokens generated     %llu\n", number(completion_tokens_));
  for (auto [name, h] :
       {std::pair("time to first token ", &report.ttft), std::pair("inter-token latency ", &report.gap)}) {
    line("%s p50 %.1f ms   p90 %.1f ms   p99 %.1f ms\n", name, ms(*h, 0.5), ms(*h, 0.9), ms(*h, 0.99));
  }
  return out + cost(report);
}

}  // namespace
}  // namespace penstock::perf

int main(int argc, char** argv) {
  using namespace penstock::perf;
  Flags flags(argc, argv, usage);
  LoadOptions load;
  Options options;
  options.host = flags.text("--target", "");
  std::string trace = flags.text("--trace", "");
  options.model = flags.text("--model", "sim");
  options.speed = flags.real("--speed", options.speed);
  options.scale = flags.real("--length-scale", options.scale);
  uint64_t limit = flags.number("--limit", UINT64_MAX);
  options.percent[plain] = static_cast<uint32_t>(flags.number("--plain-percent", 10));
  options.percent[embeddings] = static_cast<uint32_t>(flags.number("--embed-percent", 5));
  options.percent[models] = static_cast<uint32_t>(flags.number("--models-percent", 3));
  options.seed = flags.number("--seed", options.seed);
  options.progress = !flags.on("--quiet");
  load.connections = static_cast<uint32_t>(flags.number("--connections", 512));
  load.drain = flags.real("--drain", 60);
  load.watch = flags.pids("--watch-pid");
  bool json = flags.on("--json");
  std::string saved = flags.text("--save-trace", "");
  flags.finish();
  if (options.host.empty()) flags.fail("--target is missing");
  if (options.speed == 0) flags.fail("--speed: want more than 0");
  std::vector<Record> records = read_trace(trace, limit, flags);
  load.targets.push_back(loopback_address(options.host));
  load.seconds = static_cast<double>(records.back().at_ms - records.front().at_ms) / 1e3 / options.speed + load.drain;
  load.read_usage = true;
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();

  TraceSource source(std::move(records), std::move(options));
  if (!saved.empty() && !source.save_trace(saved)) flags.fail("cannot write " + saved);
  LoadClient client(load, source);
  client.run();
  source.last_progress();
  const LoadReport& report = client.report();
  std::fputs((json ? report.json(source.json()) : source.text(report)).c_str(), stdout);
  return report.errors() == 0 ? 0 : 1;
}
