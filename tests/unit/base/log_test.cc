#include "penstock/base/log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>

namespace penstock::log {
namespace {

// Runs `act` with stderr going to a temporary file, and returns what it wrote.
std::string stderr_of(const std::function<void()>& act) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int saved = ::dup(STDERR_FILENO);
  REQUIRE(::dup2(::fileno(file), STDERR_FILENO) >= 0);
  act();
  std::fflush(stderr);
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  std::string text(static_cast<size_t>(::lseek(::fileno(file), 0, SEEK_END)), '\0');
  ::lseek(::fileno(file), 0, SEEK_SET);
  const ssize_t n = ::read(::fileno(file), text.data(), text.size());
  CHECK(n == static_cast<ssize_t>(text.size()));
  std::fclose(file);
  return text;
}

// With each digit of the time replaced by 9, and its offset by +: what is left is known.
std::string with_plain_time(std::string text, size_t at) {
  REQUIRE(text.size() > at + 29);
  for (size_t i = at; i < at + 29; ++i) {
    if (text[i] >= '0' && text[i] <= '9') text[i] = '9';
  }
  if (text[at + 23] == '-') text[at + 23] = '+';
  return text;
}

struct RestoreDefaults {
  ~RestoreDefaults() { configure(Level::info, Format::text); }
};

TEST_CASE("a text line has time, level, message and fields; values that need it are quoted") {
  const RestoreDefaults restore;
  configure(Level::info, Format::text);
  const std::string text = stderr_of([] {
    info("endpoint ejected", {{"endpoint", "127.0.0.1:80"}, {"reason", "two words"}, {"empty", ""}, {"count", 3}});
  });
  CHECK(with_plain_time(text, 0) ==
        "9999-99-99T99:99:99.999+99:99 info endpoint ejected endpoint=127.0.0.1:80 reason=\"two words\" empty=\"\" "
        "count=3\n");
}

TEST_CASE("a JSON line escapes what JSON must escape, and stays one line") {
  const RestoreDefaults restore;
  configure(Level::info, Format::json);
  const std::string text = stderr_of([] {
    warn("say \"hi\"", {{"path", "C:\\x"}, {"lines", "a\nb\tc\x01"}, {"utf8", "\xc3\xa9"}});
  });
  CHECK(with_plain_time(text, 9) ==
        R"({"time":"9999-99-99T99:99:99.999+99:99","level":"warning","message":"say \"hi\"","path":"C:\\x",)"
        R"("lines":"a\u000ab\u0009c\u0001","utf8":")"
        "\xc3\xa9\"}\n");
}

TEST_CASE("in JSON, numbers and booleans are such") {
  const RestoreDefaults restore;
  configure(Level::info, Format::json);
  const std::string text = stderr_of([] {
    info("m",
         {{"count", size_t{3}}, {"less", -7}, {"share", 0.5}, {"on", true}, {"text", "3"}, {"none", std::nan("")}});
  });
  CHECK(text.find(R"("count":3,"less":-7,"share":0.500000,"on":true,"text":"3","none":"nan"})") != std::string::npos);
}

TEST_CASE("a value cannot forge a line or a field in text either") {
  const RestoreDefaults restore;
  configure(Level::info, Format::text);
  const std::string text = stderr_of([] { info("m", {{"client", "x\n2026 error y=1"}, {"brace", "{}"}}); });
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(text.find(R"( client="x\u000a2026 error y=1" brace={})") != std::string::npos);
  const std::string quoting = stderr_of([] { info("it said: a\nb", {{"name", "x\xff"}}); });
  CHECK(std::count(quoting.begin(), quoting.end(), '\n') == 1);
  CHECK(quoting.find("\"it said: a\\u000ab\" name=\"x\xEF\xBF\xBD\"\n") != std::string::npos);
}

TEST_CASE("lines below the configured level are not written") {
  const RestoreDefaults restore;
  configure(Level::warn, Format::text);
  CHECK_FALSE(enabled(Level::info));
  CHECK(enabled(Level::warn));
  CHECK(stderr_of([] {
          debug("a");
          info("b");
        }).empty());
  CHECK(stderr_of([] { error("c"); }).find(" error c\n") != std::string::npos);
  configure(Level::debug, Format::text);
  CHECK(stderr_of([] { debug("d"); }).find(" debug d\n") != std::string::npos);
}

// What is in a pipe now.
std::string taken_from(int pipe) {
  std::string text;
  char piece[4096];
  for (ssize_t size; (size = ::read(pipe, piece, sizeof piece)) > 0;) text.append(piece, static_cast<size_t>(size));
  return text;
}

TEST_CASE("a pipe that nobody reads costs lines, which are counted, and stops nobody") {
  const RestoreDefaults restore;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  REQUIRE(::fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);  // ours; the end that is logged to blocks
  const int saved = ::dup(STDERR_FILENO);
  REQUIRE(::dup2(ends[1], STDERR_FILENO) >= 0);
  const uint64_t before = lines_lost();
  int written = 0;
  info("first");
  for (; lines_lost() == before && written < 10'000; ++written) {
    info("long", {{"text", std::string(5000, 'x')}});  // more than is written at once: the last one may be cut
  }
  for (int i = 0; i < 10; ++i) info("lost", {{"text", std::string(5000, 'x')}});
  const uint64_t lost = lines_lost() - before;
  std::string text = taken_from(ends[0]);
  info("read again");
  text += taken_from(ends[0]);
  ::dup2(saved, STDERR_FILENO);
  for (const int fd : {saved, ends[0], ends[1]}) ::close(fd);

  CHECK(lost == 11);
  CHECK(written > 5);
  CHECK(text.ends_with(" info read again\n"));
  size_t whole = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    REQUIRE(end != std::string::npos);
    CHECK(text.substr(at, 2) == "20");  // a line begins with its year, also behind one that was cut
    if (text.find(" long ", at) < end && end - at > 5000) ++whole;
    at = end + 1;
  }
  CHECK(whole == static_cast<size_t>(written) - 1);
}

}  // namespace
}  // namespace penstock::log
