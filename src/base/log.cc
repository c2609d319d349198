#include "penstock/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>

#include "penstock/base/text.h"

namespace penstock::log {
namespace {

std::atomic<Level> least_level{Level::info};
std::atomic<Format> line_format{Format::text};

const char* pattern_of(Format format) {
  return format == Format::json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                                : "%Y-%m-%dT%H:%M:%S.%e%z %l %v";
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("penstock", std::make_shared<spdlog::sinks::stderr_sink_mt>());
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
  const bool plain = !value.empty() && std::none_of(value.begin(), value.end(), needs_quotes);
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

void write(Level level, std::string_view message, std::initializer_list<Field> fields) {
  if (!enabled(level)) return;
  const bool json = line_format.load(std::memory_order_relaxed) == Format::json;
  std::string line;
  if (json) {
    line += "\"message\":";
    append_json_string(line, message);
  } else {
    line += message;
  }
  for (const Field& field : fields) {
    line += json ? "," : " ";
    if (json) append_json_string(line, field.key);
    else line += field.key;
    line += json ? ':' : '=';
    if (json) append_json_string(line, field.value);
    else append_text_value(line, field.value);
  }
  logger().log(to_spdlog(level), "{}", line);
}

}  // namespace penstock::log
