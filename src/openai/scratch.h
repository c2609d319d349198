// Where answers and their events are parsed.
#pragma once

#include <simdjson.h>

#include <cstddef>
#include <memory>
#include <string_view>

namespace penstock::openai {

// A padded copy of what is parsed, and the parser. One for each thread and not for each observer: there may be tens of
// thousands of streams, and each needs it for a microsecond at its end.
class Scratch {
 public:
  // `text` (with `lead` in front) as a document; it lives until the next call.
  bool open(std::string_view lead, std::string_view text, simdjson::ondemand::document& document);
  // What `copied`, a part of the copy, was in `text`, which was opened without a lead.
  std::string_view original(std::string_view text, std::string_view copied) const {
    return text.substr(static_cast<size_t>(copied.data() - bytes_.get()), copied.size());
  }
  void shrink();

 private:
  simdjson::ondemand::parser parser_;
  std::unique_ptr<char[]> bytes_;
  size_t capacity_ = 0;
};

Scratch& scratch();

}  // namespace penstock::openai
