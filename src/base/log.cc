#include "penstock/base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "penstock/base/file.h"
#include "penstock/base/text.h"

namespace penstock::log {
namespace {

std::atomic<Level> least_level{Level::info};
std::atomic<Format> line_format{Format::text};

const char* pattern_of(Format format) {
  return format == Format::json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                                : "%Y-%m-%dT%H:%M:%S.%e%z %l %v";
}

std::atomic<uint64_t> lost{0};

// Standard error. A line that it does not take at once is lost and counted: a reader that has stopped must not stop
// the threads that log.
class StandardError final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    text_.clear();
    if (cut_) text_.push_back('\n');  // so much of the line before is there
    const size_t from = text_.size();
    formatter_->format(message, text_);
    size_t at = 0;
    while (at < text_.size()) {
      const iovec piece{text_.data() + at, text_.size() - at};
      const ssize_t written = write_now(STDERR_FILENO, {&piece, 1});
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) break;
      at += static_cast<size_t>(written);
    }
    if (at < text_.size()) lost.fetch_add(1, std::memory_order_relaxed);
    if (at > 0) cut_ = at > from && at < text_.size();
  }
  void flush_() override {}

 private:
  spdlog::memory_buf_t text_;
  bool cut_ = false;
};

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("penstock", std::make_shared<StandardError>());
    made->set_level(spdlog::level::trace);
    made->flush_on(spdlog::level::trace);
    made->set_pattern(pattern_of(Format::text));
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

void append_text_value(std::string& out, std::string_view value) {
  const auto needs_quotes = [](char c) {
    return static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '=' || c == '\x7f';
  };
  const bool plain = !value.empty() && std::none_of(value.begin(), value.end(), needs_quotes) && is_label_text(value);
  if (plain) out += value;
  else append_json_string(out, value);
}

}  // namespace

void configure(Level least, Format format) {
  least_level.store(least, std::memory_order_relaxed);
  line_format.store(format, std::memory_order_relaxed);
  logger().set_pattern(pattern_of(format));
}

bool enabled(Level level) {
  return level >= least_level.load(std::memory_order_relaxed);
}

uint64_t lines_lost() {
  return lost.load(std::memory_order_relaxed);
}

void write(Level level, std::string_view message, std::initializer_list<Field> fields) {
  if (!enabled(level)) return;
  const bool json = line_format.load(std::memory_order_relaxed) == Format::json;
  std::string line;
  if (json) {
    line += "\"message\":";
    append_json_string(line, message);
  } else if (is_label_text(message)) {
    line += message;
  } else {
    append_json_string(line, message);  // it quotes somebody, who must not begin a line of their own
  }
  for (const Field& field : fields) {
    line += json ? "," : " ";
    if (json) append_json_string(line, field.key);
    else line += field.key;
    line += json ? ':' : '=';
    if (json && field.bare) line += field.value;
    else if (json) append_json_string(line, field.value);
    else append_text_value(line, field.value);
  }
  logger().log(to_spdlog(level), "{}", line);
}

}  // namespace penstock::log
