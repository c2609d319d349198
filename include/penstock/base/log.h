// The operator's log: events that a person should read (start, reload, ejection, errors), as text or
// JSON lines on stderr. Not for one line per request: that is observability's access log.
// Any thread; each line is written whole. Cheap enough for control work, not for the hot path.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace penstock::log {

enum class Level { debug, info, warn, error };
enum class Format { text, json };

// One key and its value, printed as key=value or as a JSON member: numbers and booleans as such.
struct Field {
  std::string_view key;
  std::string value;
  bool bare = false;  // in JSON without quotes
  Field(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, bool v) : key(k), value(v ? "true" : "false"), bare(true) {}
  template <typename N>
  requires std::is_integral_v<N> Field(std::string_view k, N v) : key(k), value(std::to_string(v)), bare(true) {}
  // JSON has no word for infinity and NaN: they stay text.
  template <typename N>
  requires std::is_floating_point_v<N> Field(std::string_view k, N v)
      : key(k), value(std::to_string(v)), bare(std::isfinite(v)) {}
};

// Called once by main before threads start. Default: info, text.
void configure(Level least, Format format);
bool enabled(Level level);

// Lines that standard error did not take: the pipe was full, as its reader has stopped. They are lost, not waited for.
uint64_t lines_lost();

void write(Level level, std::string_view message, std::initializer_list<Field> fields = {});

inline void debug(std::string_view m, std::initializer_list<Field> f = {}) {
  if (enabled(Level::debug)) write(Level::debug, m, f);
}
inline void info(std::string_view m, std::initializer_list<Field> f = {}) {
  write(Level::info, m, f);
}
inline void warn(std::string_view m, std::initializer_list<Field> f = {}) {
  write(Level::warn, m, f);
}
inline void error(std::string_view m, std::initializer_list<Field> f = {}) {
  write(Level::error, m, f);
}

}  // namespace penstock::log
