#include "penstock/observability/access_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <limits>
#include <thread>

#include "fixture.h"
#include "src/observability/access_line.h"

using namespace penstock;
using namespace penstock::observability;
namespace fs = std::filesystem;

namespace {

class Directory {
 public:
  Directory() {
    std::string pattern = (fs::temp_directory_path() / "penstock-log-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Directory() { fs::remove_all(path_); }
  Directory(const Directory&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::unique_ptr<AccessLog> open_log(const AccessLogOptions& options) {
  auto opened = AccessLog::open(options);
  REQUIRE(opened.ok());
  return std::move(opened).value();
}

template <typename Condition>
bool wait_until(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

std::string format(log::Format how, const proxy::ExchangeRecord& record) {
  static char space[access_line_max];
  return std::string(format_access_line(space, how, record));
}

}  // namespace

TEST_CASE("a text line carries everything that is known of an exchange") {
  endpoints::EndpointState endpoint;
  endpoint.name = "pod-a";
  CHECK(format(log::Format::text, streamed_answer(endpoint)) ==
        "time=2025-01-31T23:59:59.123456Z client=127.0.0.1 protocol=HTTP/2 method=POST path=/v1/chat/completions "
        "status=200 outcome=ok "
        "reason=- model=llama target_model=llama-8b endpoint=pod-a attempts=1 resumed=0 ttft_ms=300.000 "
        "duration_ms=1300.000 "
        "hold_ms=700.000 request_bytes=1000 response_bytes=20000 stream=true finish_reason=- prompt_tokens=250 "
        "completion_tokens=101 cached_tokens=128 chunks=103 matched_blocks=8 prompt_blocks=16 fairness_id=tenant-a "
        "priority=0 request_id=req-1 trace_id=-\n");
}

TEST_CASE("a JSON line has the same members, and null for what is unknown") {
  proxy::ExchangeRecord record;
  record.outcome = proxy::Outcome::client_error;
  record.reason = "malformed_request";
  record.total = microseconds(1234567);
  CHECK(
      format(log::Format::json, record) ==
      R"({"time":"1970-01-01T00:00:00.000000Z","client":"","protocol":"","method":"","path":"","status":null,"outcome":"client_error",)"
      R"("reason":"malformed_request","model":"","target_model":"","endpoint":"","attempts":0,"resumed":0,"ttft_ms":null,)"
      R"("duration_ms":1234.567,"hold_ms":0.000,"request_bytes":0,"response_bytes":0,"stream":false,"finish_reason":"",)"
      R"("prompt_tokens":null,"completion_tokens":null,"cached_tokens":null,"chunks":null,"matched_blocks":null,)"
      R"("prompt_blocks":null,"fairness_id":"","priority":0,"request_id":"","trace_id":""})"
      "\n");
}

TEST_CASE("what a client controls cannot add a line, a member or bytes that are not text") {
  proxy::ExchangeRecord record;
  record.target = "/a b\n\"x\"=\\\xff\x01";
  record.kind.model = "-";
  record.request_id = "id=1";
  const std::string text = format(log::Format::text, record), json = format(log::Format::json, record);
  CHECK(text.find(R"( path="/a b\u000a\"x\"=\\\ufffd\u0001" )") != std::string::npos);
  CHECK(text.find(R"( model="-" )") != std::string::npos);
  CHECK(text.find(R"( request_id="id=1")") != std::string::npos);
  CHECK(json.find(R"("path":"/a b\u000a\"x\"=\\\ufffd\u0001",)") != std::string::npos);
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(std::count(json.begin(), json.end(), '\n') == 1);
}

TEST_CASE("one byte that needs an escape or quotes is found wherever it stands") {
  for (size_t size = 1; size <= 40; ++size) {
    for (size_t at = 0; at < size; ++at) {
      const std::string before(at, 'a'), after(size - at - 1, 'z');
      const auto member = [&](log::Format how, std::string_view middle) {
        const std::string value = before + std::string(middle) + after;
        proxy::ExchangeRecord record;
        record.kind.model = value;
        const std::string line = format(how, record);
        const size_t from = line.find("model"), to = line.find("target_model");
        return line.substr(from, to - from);
      };
      INFO(size << " bytes, at " << at);
      CHECK(member(log::Format::text, "~") == "model=" + before + "~" + after + " ");
      CHECK(member(log::Format::text, " ") == "model=\"" + before + " " + after + "\" ");
      CHECK(member(log::Format::text, "=") == "model=\"" + before + "=" + after + "\" ");
      CHECK(member(log::Format::text, "\x7f") == "model=\"" + before + "\\u007f" + after + "\" ");
      CHECK(member(log::Format::json, " ") == "model\":\"" + before + " " + after + "\",\"");
      CHECK(member(log::Format::json, "\"") == "model\":\"" + before + "\\\"" + after + "\",\"");
      CHECK(member(log::Format::json, "\x1f") == "model\":\"" + before + "\\u001f" + after + "\",\"");
      CHECK(member(log::Format::json, "\x80") == "model\":\"" + before + "\\ufffd" + after + "\",\"");
    }
  }
}

TEST_CASE("a path ends before its query, unless that is asked for") {
  proxy::ExchangeRecord record;
  record.target = "/v1/models?key=secret?x";
  static char space[access_line_max];
  const auto line = [&](bool query) {
    return std::string(format_access_line(space, log::Format::json, record, query));
  };
  CHECK(line(false).find(R"("path":"/v1/models",)") != std::string::npos);
  CHECK(line(true).find(R"("path":"/v1/models?key=secret?x",)") != std::string::npos);
}

TEST_CASE("a priority may be negative, and the reason of an end is there") {
  proxy::ExchangeRecord record;
  record.kind.priority = std::numeric_limits<int>::min();
  record.finish_reason = "stop";
  record.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string line = format(log::Format::json, record);
  CHECK(line.find(R"("finish_reason":"stop",)") != std::string::npos);
  CHECK(line.find(R"("priority":-2147483648,)") != std::string::npos);
  CHECK(line.find(R"("trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"})") != std::string::npos);
}

TEST_CASE("numbers of every length") {
  proxy::ExchangeRecord record;
  const auto check = [&](uint64_t value) {
    record.request_bytes = value;
    record.total = microseconds(value % 1'000'000'000'000);
    const std::string line = format(log::Format::text, record);
    CHECK(line.find(" request_bytes=" + std::to_string(value) + " ") != std::string::npos);
    const uint64_t us = value % 1'000'000'000'000;
    const std::string rest = std::to_string(1000 + us % 1000).substr(1);
    CHECK(line.find(" duration_ms=" + std::to_string(us / 1000) + "." + rest + " ") != std::string::npos);
  };
  for (uint64_t power = 1;; power *= 10) {
    for (const uint64_t value : {power - 1, power, power + 1, power * 5 / 3}) check(value);
    if (power > UINT64_MAX / 10) break;
  }
  check(UINT64_MAX);
}

TEST_CASE("the longest names still make one bounded line") {
  const std::string quotes(100'000, '"'), wide(100'000, '\x01');
  endpoints::EndpointState endpoint;
  endpoint.name = wide;
  proxy::ExchangeRecord record = streamed_answer(endpoint);
  record.client = record.protocol = record.method = record.target = record.reason = quotes;
  record.kind.model = record.kind.target_model = record.kind.fairness_id = record.request_id = wide;
  record.trace_id = record.finish_reason = quotes;
  record.kind.priority = std::numeric_limits<int>::min();
  record.stage[static_cast<size_t>(proxy::Stage::hold)] = Duration::max();
  record.total = Duration::max();
  record.time_to_first_token = Duration::max();
  record.request_bytes = record.response_bytes = UINT64_MAX;
  record.prompt_tokens = record.completion_tokens = record.chunks = record.attempts = UINT32_MAX;
  for (const auto how : {log::Format::text, log::Format::json}) {
    const std::string line = format(how, record);
    CHECK(line.size() < access_line_max);
    CHECK(line.find("...\"") != std::string::npos);
    CHECK(line.back() == '\n');
  }
}

TEST_CASE("lines of all shards reach the file whole, in each shard's order") {
  Directory directory;
  constexpr size_t shards = 3;
  constexpr int lines = 5000;
  auto log = open_log({.path = directory.file("log"), .shards = shards, .ring_bytes = 1 << 22});
  std::vector<std::thread> threads;
  for (size_t s = 0; s < shards; ++s) {
    threads.emplace_back([&, s] {
      proxy::ExchangeRecord record;
      record.attempts = static_cast<uint32_t>(s);
      for (int i = 0; i < lines; ++i) {
        record.request_bytes = static_cast<uint64_t>(i);
        log->shard(s).write(record);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  log->stop();
  CHECK(log->lines() == shards * lines);
  CHECK(log->dropped() == 0);

  std::vector<int> next(shards, 0);
  std::istringstream in(read_whole(directory.file("log")));
  bool in_order = true;
  for (std::string line; std::getline(in, line);) {
    const size_t shard = std::stoul(line.substr(line.find(" attempts=") + 10));
    REQUIRE(shard < shards);
    in_order = in_order && line.find(" request_bytes=" + std::to_string(next[shard]++) + " ") != std::string::npos;
  }
  CHECK(in_order);
  CHECK(next == std::vector<int>(shards, lines));
}

TEST_CASE("a line wakes a writer that sleeps") {
  Directory directory;
  auto log = open_log({.path = directory.file("log")});
  for (uintmax_t lines = 1; lines <= 3; ++lines) {
    const uintmax_t before = fs::file_size(directory.file("log"));
    log->shard(0).write({});
    CHECK(wait_until([&] { return fs::file_size(directory.file("log")) > before; }));
  }
}

TEST_CASE("after rotation lines go to the new file, and a file that cannot be opened changes nothing") {
  Directory directory;
  const std::string path = directory.file("log");
  auto log = open_log({.path = path});
  log->shard(0).write({});
  REQUIRE(wait_until([&] { return fs::file_size(path) > 0; }));
  fs::rename(path, directory.file("log.1"));
  REQUIRE(log->reopen().ok());
  REQUIRE(fs::exists(path));
  CHECK(wait_until([&] {
    log->shard(0).write({});
    return fs::file_size(path) > 0;
  }));
  CHECK_FALSE(log->configure({.path = "/nowhere/log"}).ok());
  REQUIRE(log->configure({.format = log::Format::json, .path = path}).ok());
  log->shard(0).write({});
  log->stop();
  CHECK(read_whole(path).find("{\"time\":") != std::string::npos);
  CHECK_FALSE(AccessLog::open({.path = "/nowhere/log"}).ok());
}

TEST_CASE("a disabled log writes nothing until it is enabled") {
  Directory directory;
  const std::string path = directory.file("log");
  auto log = open_log({.enabled = false, .path = path});
  log->shard(0).write({});
  CHECK_FALSE(fs::exists(path));
  REQUIRE(log->configure({.enabled = true, .path = path}).ok());
  log->shard(0).write({});
  log->stop();
  CHECK(log->lines() == 1);
  const std::string text = read_whole(path);
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
}

TEST_CASE("lines that find the ring full are dropped and counted, and the rest arrive whole") {
  Directory directory;
  const std::string pipe = directory.file("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(reader >= 0);
  auto log = open_log({.path = pipe, .ring_bytes = 1 << 14});  // nobody reads yet: pipe and ring fill up
  constexpr uint64_t lines = 3000;
  for (uint64_t i = 0; i < lines; ++i) log->shard(0).write({});
  CHECK(log->dropped() > 0);
  std::string seen;
  CHECK(wait_until([&] {
    char bytes[65536];
    const ssize_t got = ::read(reader, bytes, sizeof bytes);
    if (got > 0) seen.append(bytes, static_cast<size_t>(got));
    return static_cast<uint64_t>(std::count(seen.begin(), seen.end(), '\n')) + log->dropped() == lines;
  }));
  ::close(reader);
  std::istringstream in(seen);
  for (std::string line; std::getline(in, line);)
    REQUIRE(line.starts_with("time=1970-01-01T00:00:00.000000Z client=- "));
}

TEST_CASE("a reader that has stopped does not hold up the end of the process") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  auto log = open_log({.path = "/proc/self/fd/" + std::to_string(ends[1]), .shards = 4});
  proxy::ExchangeRecord record;
  const std::string target(1000, 'x');
  record.target = target;
  for (size_t shard = 0; shard < 4; ++shard) {
    for (int i = 0; i < 200; ++i) log->shard(shard).write(record);
  }
  const auto before = std::chrono::steady_clock::now();
  log->stop();  // far more than the pipe holds, and nobody reads
  CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds(4));
  CHECK(log->dropped() > 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a closed pipe costs lines, not the process") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  auto log = open_log({.path = "/proc/self/fd/" + std::to_string(ends[1])});
  ::close(ends[0]);
  ::close(ends[1]);
  log->shard(0).write({});
  log->stop();
  CHECK(log->write_errors() == 1);
  CHECK(log->dropped() == 1);
}
