#include "record.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace penstock::replay {
namespace {

constexpr std::string_view csv_header = "TIMESTAMP,ContextTokens,GeneratedTokens";

std::optional<uint64_t> number_in(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<uint32_t> tokens_in(std::string_view text) {
  const auto value = number_in(text);
  if (!value || *value > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(*value);
}

// "2023-11-16 18:17:03.9799600", with a T and a Z in logs; since 1970, leap seconds and zones left aside.
std::optional<Duration> time_in(std::string_view text) {
  constexpr std::string_view shape = "0000-00-00 00:00:00";
  if (text.size() < shape.size()) return std::nullopt;
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool fits = shape[i] == '0' ? text[i] >= '0' && text[i] <= '9'
                      : i == 10       ? text[i] == ' ' || text[i] == 'T'
                                      : text[i] == shape[i];
    if (!fits) return std::nullopt;
  }
  const auto part = [text](size_t at, size_t size) { return static_cast<int>(*number_in(text.substr(at, size))); };
  const std::chrono::year_month_day day{std::chrono::year(part(0, 4)),
                                        std::chrono::month(static_cast<unsigned>(part(5, 2))),
                                        std::chrono::day(static_cast<unsigned>(part(8, 2)))};
  // Nanoseconds since 1970 reach into 2262.
  if (part(0, 4) < 1970 || part(0, 4) > 2261) return std::nullopt;
  if (!day.ok() || part(11, 2) > 23 || part(14, 2) > 59 || part(17, 2) > 60) return std::nullopt;
  Duration at = std::chrono::sys_days(day).time_since_epoch();
  at += std::chrono::hours(part(11, 2)) + std::chrono::minutes(part(14, 2)) + seconds(part(17, 2));
  text.remove_prefix(shape.size());
  if (!text.empty() && text.front() == '.') {
    int64_t unit = 100'000'000;
    for (text.remove_prefix(1); !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1)) {
      at += nanoseconds((text.front() - '0') * unit);
      unit /= 10;
    }
  }
  return at;
}

}  // namespace

struct RecordReader::Parser {
  simdjson::ondemand::parser json;
  simdjson::padded_string line;
};

RecordReader::RecordReader() : parser_(std::make_unique<Parser>()) {}
RecordReader::~RecordReader() = default;

RecordReader::Verdict RecordReader::read(std::string_view line, Record& record) {
  if (format_ == Format::unknown) {
    if (line.starts_with(csv_header)) {
      format_ = Format::azure;
      return Verdict::header;
    }
    if (line.starts_with("\x1f\x8b")) return bad("gzip-compressed; use zcat FILE | penstock replay --trace -");
    if (!line.starts_with("{")) return bad("neither JSON lines nor a CSV that begins TIMESTAMP,ContextTokens,...");
    format_ = line.find("\"timestamp\"") != std::string_view::npos ? Format::mooncake : Format::access_log;
  }
  return format_ == Format::azure ? read_csv(line, record) : read_json(line, record);
}

RecordReader::Verdict RecordReader::read_csv(std::string_view line, Record& record) {
  std::array<std::string_view, 3> cells;
  for (std::string_view& cell : cells) {
    const size_t comma = line.find(',');
    cell = line.substr(0, comma);
    line.remove_prefix(comma == std::string_view::npos ? line.size() : comma + 1);
  }
  const auto at = time_in(cells[0]);
  const auto prompt = tokens_in(cells[1]), output = tokens_in(cells[2]);
  if (!at) return bad("want a time such as 2023-11-16 18:17:03.9799600 in the first column");
  if (!prompt || !output) return bad("want token counts in the second and third column");
  record.at = *at;
  record.prompt_tokens = *prompt;
  record.output_tokens = *output;
  return Verdict::record;
}

RecordReader::Verdict RecordReader::read_json(std::string_view line, Record& record) {
  using simdjson::SUCCESS;
  parser_->line = simdjson::padded_string(line);
  simdjson::ondemand::document document;
  simdjson::ondemand::object object;
  if (parser_->json.iterate(parser_->line).get(document) != SUCCESS || document.get_object().get(object) != SUCCESS) {
    return bad("not a JSON object");
  }
  const bool log = format_ == Format::access_log;
  // Of an object whose JSON has turned out to be broken simdjson must not be asked anything more.
  bool broken = false;
  const auto find = [&](const char* key, simdjson::ondemand::value& value) {
    if (broken) return false;
    const auto error = object.find_field_unordered(key).get(value);
    broken = error != SUCCESS && error != simdjson::NO_SUCH_FIELD;
    return error == SUCCESS;
  };
  simdjson::ondemand::value found;
  const auto tokens = [&](const char* key) {
    uint64_t value = 0;
    if (!find(key, found) || found.get_uint64().get(value) != SUCCESS) return uint32_t{0};
    return static_cast<uint32_t>(std::min<uint64_t>(value, std::numeric_limits<uint32_t>::max()));
  };
  if (log) {
    std::string_view time;
    if (!find("time", found) || found.get_string().get(time) != SUCCESS) return bad("want \"time\"");
    const auto at = time_in(time);
    if (!at) return bad("want \"time\" such as 2026-01-31T12:00:00.000Z");
    record.at = *at;
  } else {
    double at_ms = 0;
    if (!find("timestamp", found) || found.get_double().get(at_ms) != SUCCESS || !(at_ms >= 0 && at_ms < 1e12)) {
      return bad("want \"timestamp\", milliseconds");
    }
    record.at = nanoseconds(std::llround(at_ms * 1e6));
  }
  record.prompt_tokens = tokens(log ? "prompt_tokens" : "input_length");
  record.output_tokens = tokens(log ? "completion_tokens" : "output_length");
  simdjson::ondemand::array ids;
  const bool has_ids = find("hash_ids", found);
  if (broken) return bad("not a JSON object");
  if (!has_ids || found.get_array().get(ids) != SUCCESS) return Verdict::record;
  for (auto id : ids) {
    uint64_t value = 0;
    if (id.get_uint64().get(value) != SUCCESS) return bad("want whole numbers in \"hash_ids\"");
    record.ids.push_back(value);
  }
  return Verdict::record;
}

}  // namespace penstock::replay
