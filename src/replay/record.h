// One line of a trace, in any of the formats.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "penstock/base/time.h"

namespace penstock::replay {

struct Record {
  Duration at{};  // since any one moment
  uint32_t prompt_tokens = 0, output_tokens = 0;
  std::vector<uint64_t> ids;
};

// Tells the format from the first line and reads one line after the other.
class RecordReader {
 public:
  enum class Verdict : uint8_t { record, header, bad };
  RecordReader();
  ~RecordReader();
  Verdict read(std::string_view line, Record& record);
  const char* problem() const { return problem_; }  // of a bad line

 private:
  enum class Format : uint8_t { unknown, mooncake, azure, access_log };
  struct Parser;
  Verdict bad(const char* what) {
    problem_ = what;
    return Verdict::bad;
  }
  Verdict read_json(std::string_view line, Record& record);
  Verdict read_csv(std::string_view line, Record& record);

  std::unique_ptr<Parser> parser_;
  Format format_ = Format::unknown;
  const char* problem_ = "";
};

}  // namespace penstock::replay
