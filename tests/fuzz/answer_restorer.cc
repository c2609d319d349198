// Names of models restored in anything: 'J' and a JSON answer, otherwise an event stream; the second byte says how it
// is cut into pieces. However it is cut, the result is the same; of an answer that is JSON it is what a JSON parser
// says.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "penstock/base/random.h"
#include "penstock/openai/answer_restorer.h"
#include "tests/support/restored_answer.h"

namespace {

using penstock::openai::AnswerRestorer;

constexpr AnswerRestorer::Changes kChanges{.model = "al\"ias", .token_ids = true};

[[noreturn]] void fail(const char* what, std::string_view text) {
  std::fprintf(stderr, "%s: %.*s\n", what, static_cast<int>(text.size()), text.data());
  std::abort();
}

std::string in_pieces(AnswerRestorer::Shape shape, std::string_view text, uint64_t seed) {
  penstock::Random random(seed);
  AnswerRestorer restorer;
  restorer.begin(shape, kChanges);
  std::string out;
  while (!text.empty()) {
    // A copy as large as the piece: a read beyond it is a bug.
    const std::string piece(text.substr(0, 1 + random.below(1 + seed % 16)));
    text.remove_prefix(piece.size());
    restorer.feed(piece, out);
  }
  return out;
}

std::string at_once(AnswerRestorer::Shape shape, std::string_view text) {
  AnswerRestorer restorer;
  restorer.begin(shape, kChanges);
  std::string out;
  restorer.feed(text, out);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const auto shape = data[0] == 'J' ? AnswerRestorer::Shape::json : AnswerRestorer::Shape::events;
  const std::string whole = at_once(shape, text);
  if (in_pieces(shape, text, data[1]) != whole) fail("it matters how the answer is cut", text);
  if (shape != AnswerRestorer::Shape::json) return 0;
  const auto expected = penstock::test::RestoredAnswer::of(text, kChanges);
  if (expected && *expected != whole) fail("not what a JSON parser says", text);
  // The same answer as an event.
  if (!expected || text.find_first_of("\r\n") != std::string_view::npos) return 0;
  const std::string event = "data: " + std::string(text) + "\n\n";
  if (at_once(AnswerRestorer::Shape::events, event) != "data: " + whole + "\n\n") fail("an event differs", text);
  return 0;
}
