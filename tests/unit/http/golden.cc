// Runs the cases of tests/golden/http/*.md through the codec: whole, cut in two at every place, in pieces of one to
// three bytes, and at random; each way must give the log that the file states. `--update` writes the logs anew.
//
// A file is prose with fences. A fence "```request OPTION..." or "```response OPTION..." holds the bytes, line breaks
// of the file not counting and \r \n \t \\ \xHH and \{COUNT*TEXT} standing for bytes; the "```log" fence behind it
// holds what must happen. Options: head-bytes=N headers=N uri-bytes=N (limits), head (a response to HEAD), close.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "codec_log.h"

namespace {

using penstock::http::CodecLog;
using penstock::http::Parser;

constexpr uint64_t kSeed = 20240607;

struct Case {
  std::string title;
  CodecLog::Input input;
  std::string bytes, log;
  size_t log_begin = 0, log_end = 0;  // lines of the file between which the log stands
};

[[noreturn]] void bad_file(const std::string& where, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", where.c_str(), why.c_str());
  std::exit(2);
}

std::string unescaped(const std::string& text, const std::string& where) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    const char c = ++i < text.size() ? text[i] : '?';
    if (c == 'r') {
      bytes += '\r';
    } else if (c == 'n') {
      bytes += '\n';
    } else if (c == 't') {
      bytes += '\t';
    } else if (c == '\\') {
      bytes += '\\';
    } else if (c == 'x' && i + 2 < text.size()) {
      bytes += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else if (c == '{') {
      const size_t star = text.find('*', i), close = text.find('}', i);
      if (close == std::string::npos || star > close) bad_file(where, "\\{ without *...}");
      const std::string repeated = unescaped(text.substr(star + 1, close - star - 1), where);
      for (int n = std::stoi(text.substr(i + 1, star - i - 1)); n > 0; --n) bytes += repeated;
      i = close;
    } else {
      bad_file(where, "unknown escape \\" + std::string(1, c));
    }
  }
  return bytes;
}

CodecLog::Input input_of(const std::string& fence, const std::string& where) {
  CodecLog::Input input;
  std::istringstream words(fence);
  std::string word;
  words >> word;
  input.kind = word == "request" ? Parser::Kind::request : Parser::Kind::response;
  while (words >> word) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const size_t value = equals == std::string::npos ? 0 : std::stoul(word.substr(equals + 1));
    if (name == "head") {
      input.answers_head = true;
    } else if (name == "close") {
      input.close = true;
    } else if (name == "head-bytes") {
      input.limits.head_bytes_max = value;
    } else if (name == "headers") {
      input.limits.headers_max = value;
    } else if (name == "uri-bytes") {
      input.limits.uri_bytes_max = value;
    } else {
      bad_file(where, "unknown option " + word);
    }
  }
  return input;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<Case> cases_of(const std::filesystem::path& path, const std::vector<std::string>& lines) {
  std::vector<Case> cases;
  std::string title;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string where = path.filename().string() + ":" + std::to_string(i + 1);
    if (lines[i].starts_with("#")) title = lines[i].substr(lines[i].find_first_not_of("# "));
    if (!lines[i].starts_with("```")) continue;
    const std::string fence = lines[i].substr(3);
    std::string content;
    const bool log = fence == "log";
    const size_t begin = ++i;
    for (; i < lines.size() && lines[i] != "```"; ++i) content += lines[i] + (log ? "\n" : "");
    if (i == lines.size()) bad_file(where, "the fence does not end");
    if (log) {
      if (cases.empty() || cases.back().log_end != 0) bad_file(where, "a log without bytes before it");
      cases.back().log = content;
      cases.back().log_begin = begin;
      cases.back().log_end = i;
    } else if (fence.starts_with("request") || fence.starts_with("response")) {
      if (!cases.empty() && cases.back().log_end == 0) bad_file(where, "the case before has no log");
      cases.push_back({where + ": " + title, input_of(fence, where), unescaped(content, where), "", 0, 0});
    } else {
      bad_file(where, "unknown fence " + fence);
    }
  }
  if (!cases.empty() && cases.back().log_end == 0) bad_file(path.string(), "the last case has no log");
  return cases;
}

std::string run_whole(const Case& c) {
  return CodecLog(c.input).run(c.bytes, [](size_t left) { return left; });
}

// What goes wrong when the bytes come in pieces; empty when nothing does.
std::optional<std::string> broken_by_cutting(const Case& c, const std::string& expected) {
  const auto differs = [&](auto&& next_size) { return CodecLog(c.input).run(c.bytes, next_size) != expected; };
  for (size_t size = 1; size <= 3; ++size) {
    if (differs([&](size_t left) { return std::min(size, left); })) return "in pieces of " + std::to_string(size);
  }
  const size_t step = c.bytes.size() < 4096 ? 1 : c.bytes.size() / 512;
  for (size_t at = 1; at < c.bytes.size(); at += step) {
    const auto two = [&](size_t left) { return left == c.bytes.size() ? at : left; };
    if (differs(two)) return "cut at " + std::to_string(at);
  }
  for (uint64_t seed = kSeed; seed < kSeed + 32; ++seed) {
    std::mt19937_64 random(seed);
    const uint64_t longest = 1 + random() % 64;
    if (differs([&](size_t left) { return std::min<size_t>(left, 1 + random() % longest); })) {
      return "cut at random, seed " + std::to_string(seed);
    }
  }
  return std::nullopt;
}

bool holds(const Case& c) {
  const std::string log = run_whole(c);
  if (log != c.log) {
    std::fprintf(stderr, "%s\n-- expected\n%s-- is\n%s", c.title.c_str(), c.log.c_str(), log.c_str());
    return false;
  }
  const auto broken = broken_by_cutting(c, log);
  if (broken) std::fprintf(stderr, "%s: different events %s\n", c.title.c_str(), broken->c_str());
  return !broken;
}

void update(const std::filesystem::path& path, const std::vector<std::string>& lines, const std::vector<Case>& cases) {
  std::ofstream out(path);
  size_t next = 0;
  for (const Case& c : cases) {
    for (; next < c.log_begin; ++next) out << lines[next] << "\n";
    out << run_whole(c);
    next = c.log_end;
  }
  for (; next < lines.size(); ++next) out << lines[next] << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) bad_file("usage", "golden-http FOLDER [--update]");
  const bool updating = argc > 2 && std::string(argv[2]) == "--update";
  size_t count = 0, failed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    if (entry.path().extension() != ".md") continue;
    const auto lines = lines_of(entry.path());
    const auto cases = cases_of(entry.path(), lines);
    if (updating) update(entry.path(), lines, cases);
    count += cases.size();
    if (updating) continue;
    for (const Case& c : cases) failed += !holds(c);
  }
  std::printf("%zu cases, %zu failed\n", count, failed);
  return failed > 0 || count == 0 ? 1 : 0;
}
