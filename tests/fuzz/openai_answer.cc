// The observer of answers, fed with anything: first byte 'A', the rest is one whole answer; 'T', the same behind enough
// text to be read from its tail; otherwise lines of "name|data", each an event. It must not fall over, and what it
// finds in a tail, or at the end of a completion's answer, must be what it finds in the whole.
#include <simdjson.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "penstock/openai/usage.h"

namespace {

using namespace penstock::openai;

void check_reset(AnswerObserver& observer) {
  observer.reset();
  if (observer.usage() || !observer.finish_reason().empty() || observer.saw_done()) std::abort();
}

// `fields` follow an opening brace and a long string. Only JSON counts: of anything else each may take what it reads
// before it notices.
void tail_and_whole_agree(std::string_view fields) {
  const std::string short_one = R"({"text":"x")" + std::string(fields);
  simdjson::dom::parser parser;
  if (parser.parse(short_one).error() != simdjson::SUCCESS) return;
  // Of a key that is there twice the whole reading adds up the parts, the tail takes the last.
  if (fields.find(R"("usage")") != fields.rfind(R"("usage")")) return;
  static const std::string lead = R"({"text":")" + std::string(1024 * 1024, 'x') + "\"";
  static std::string whole = lead;  // kept, since to build a mebibyte takes longer than to read its tail
  whole.resize(lead.size());
  whole += fields;
  AnswerObserver small, large;
  small.on_answer(short_one);
  large.on_answer(whole);
  if (!large.usage() || !small.usage()) return;  // the tail may say less
  if (large.usage()->prompt_tokens == small.usage()->prompt_tokens) return;
  std::fprintf(stderr, "tail and whole disagree: %.*s\n", static_cast<int>(fields.size()), fields.data());
  std::abort();
}

bool same(const AnswerObserver& a, const AnswerObserver& b) {
  if (a.finish_reason() != b.finish_reason() || a.usage().has_value() != b.usage().has_value()) return false;
  return !a.usage() || (a.usage()->prompt_tokens == b.usage()->prompt_tokens &&
                        a.usage()->completion_tokens == b.usage()->completion_tokens &&
                        a.usage()->cached_tokens == b.usage()->cached_tokens);
}

// An object in front has the whole answer read. Only JSON counts, as above.
void end_and_whole_agree(std::string_view json, const AnswerObserver& observer) {
  if (!json.starts_with('{')) return;
  const std::string other = R"({"unknown":{},)" + std::string(json.substr(1));
  simdjson::dom::parser parser;
  if (parser.parse(std::string(json)).error() != simdjson::SUCCESS) return;
  if (parser.parse(other).error() != simdjson::SUCCESS) return;  // it had no field
  AnswerObserver full;
  full.on_answer(other);
  if (same(observer, full)) return;
  std::fprintf(stderr, "the end and the whole disagree: %.*s\n", static_cast<int>(json.size()), json.data());
  std::abort();
}

void events(std::string_view lines) {
  AnswerObserver observer;
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(line.size() == lines.size() ? line.size() : line.size() + 1);
    const size_t bar = line.find('|');
    // A copy as large as the data: a read beyond it is a bug.
    const std::string data(bar == std::string_view::npos ? line : line.substr(bar + 1));
    const auto kind = observer.on_event(bar == std::string_view::npos ? "" : line.substr(0, bar), data);
    if (kind == AnswerObserver::Kind::done && !observer.saw_done()) std::abort();
    if (kind == AnswerObserver::Kind::usage_only && !observer.usage()) std::abort();
  }
  check_reset(observer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes[0] == 'T') {
    tail_and_whole_agree(bytes.substr(1));
  } else if (bytes[0] == 'A') {
    AnswerObserver observer;
    observer.on_answer(std::string(bytes.substr(1)));
    end_and_whole_agree(bytes.substr(1), observer);
    check_reset(observer);
  } else {
    events(bytes);
  }
  return 0;
}
