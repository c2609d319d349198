#include "penstock/openai/continuation.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "stream_events.h"

namespace penstock::openai {
namespace {

using State = Continuation::State;
using Strings = std::vector<std::string>;

// A chat of which `text` was delivered.
Delivered chat_with(const std::string& text) {
  Delivered delivered(Api::chat_completions);
  delivered.take(chat_role());
  delivered.take(chat_text(text));
  return delivered;
}

TEST_CASE("events of a completion become events of the chat") {
  Delivered delivered = chat_with("Hello");
  Continuation continuation(delivered, {}, false);
  std::string out;
  CHECK(continuation.take(text_event(" \\\"wor"), out) == State::going);
  CHECK(continuation.take(text_event("ld\\\""), out) == State::going);
  CHECK(out == sent(chat_text(" \\\"wor")) + sent(chat_text("ld\\\"")));
  out.clear();
  CHECK(continuation.take(text_event("!", R"("stop")", "42"), out) == State::finished);
  CHECK(out ==
        sent(chat_text("!")) + sent(chat_event(R"({"content":""})", R"("finish_reason":"stop","stop_reason":42})")));
  out.clear();
  CHECK(continuation.take(usage_event(9, 3), out) == State::finished);
  CHECK(continuation.take("[DONE]", out) == State::over);
  CHECK(out.empty());
  REQUIRE(continuation.usage().has_value());
  CHECK(continuation.usage()->completion_tokens == 3);
  CHECK(continuation.events() == 3);
  CHECK(delivered.text() == "Hello \\\"world\\\"!");
  CHECK(delivered.finished());
  CHECK(delivered.finish_reason() == "stop");
}

TEST_CASE("a completion is continued as the completion that it was") {
  Delivered delivered(Api::completions);
  delivered.take(text_event("a", "null", "null", "cmpl-1"));
  Continuation continuation(delivered, {}, false);
  std::string out;
  continuation.take(text_event("b"), out);
  continuation.take(text_event("", R"("length")"), out);
  CHECK(out == sent(text_event("b", "null", "null", "cmpl-1")) + sent(text_event("", R"("length")", "null", "cmpl-1")));
}

TEST_CASE("a continuation that breaks says so, and can be continued in its turn") {
  for (const std::string& last :
       {text_event("lost", R"("abort")"), text_event("lost", R"("error")"), std::string(R"({"error":{"message":"x"}})"),
        std::string("[DONE]"), std::string(R"({"choices":[)"), std::string(R"({"choices":[{"index":1,"text":"x"}]})"),
        text_event("\\q")}) {
    CAPTURE(last);
    Delivered delivered = chat_with("a");
    Continuation first(delivered, {}, false);
    std::string out;
    first.take(text_event("b"), out);
    out.clear();
    CHECK(first.take(last, out) == State::failed);
    CHECK(first.take(text_event("c"), out) == State::failed);
    CHECK(out.empty());
    CHECK(delivered.text() == "ab");
    CHECK_FALSE(delivered.finished());
    Continuation second(delivered, {}, false);
    CHECK(second.take(text_event("c", R"("stop")"), out) == State::finished);
    CHECK(delivered.text() == "abc");
  }
}

TEST_CASE("what is no event of the answer is passed over") {
  Delivered delivered = chat_with("a");
  Continuation continuation(delivered, {}, false);
  std::string out;
  CHECK(continuation.take("", out) == State::going);
  CHECK(continuation.take("ping", out) == State::going);
  CHECK(continuation.take(R"({"choices":[]})", out) == State::going);
  CHECK(out.empty());
}

TEST_CASE("text of the continuation that could not be continued again is delivered all the same") {
  Delivered delivered = chat_with("a");
  Continuation continuation(delivered, {}, false);
  std::string out;
  CHECK(continuation.take(text_event("\\ufffd"), out) == State::going);
  CHECK(continuation.take(text_event("b", R"("stop")"), out) == State::finished);
  CHECK(out == sent(chat_text("\\ufffd")) + sent(chat_text("b")) + sent(chat_finish("stop")));
  CHECK(delivered.obstacle() == ResumeObstacle::replacement_character);
}

// Feeds the pieces; what the client got of text and of its end.
struct Seam {
  Delivered delivered;
  std::string text, out;
  bool cut = false;
  State state = State::going;

  Seam(const std::string& before, const Strings& stops, const Strings& pieces, bool include = false)
      : delivered(chat_with(before)) {
    Continuation continuation(delivered, stops, include);
    for (const std::string& piece : pieces) state = continuation.take(text_event(piece), out);
    cut = continuation.cut();
    text = std::string(delivered.text().substr(before.size()));
  }
};

TEST_CASE("a stop string that began in the text delivered ends the answer") {
  const Seam seam("some EN", {"END"}, {"D", " more"});
  CHECK(seam.cut);
  CHECK(seam.text == "");
  CHECK(seam.state == State::finished);
  CHECK(seam.out == sent(chat_event(R"({"content":""})", R"("finish_reason":"stop","stop_reason":"END"})")));
  CHECK(seam.delivered.finish_reason() == "stop");
}

TEST_CASE("text that may complete a stop string is held back until it is known") {
  for (const Strings& pieces : {Strings{"D", "O", "F", "x"}, Strings{"DOF"}, Strings{"DO", "", "Fx"}}) {
    const Seam seam("EN", {"ENDOF"}, pieces);
    CHECK(seam.cut);
    CHECK(seam.text == "");
  }
  const Seam held("EN", {"ENDOF"}, {"D", "O"});
  CHECK_FALSE(held.cut);
  CHECK(held.out == "");
  const Seam other("EN", {"ENDOF"}, {"D", "O", "\\\"", "x"});
  CHECK_FALSE(other.cut);
  CHECK(other.out == sent(chat_text("DO\\\"")) + sent(chat_text("x")));
}

TEST_CASE("held text comes before the finish reason") {
  Delivered delivered = chat_with("EN");
  Continuation continuation(delivered, {"END"}, false);
  std::string out;
  continuation.take(text_event(""), out);
  CHECK(continuation.take(text_event("", R"("length")"), out) == State::finished);
  CHECK(out == sent(chat_finish("length")));
  Delivered second = chat_with("EN");
  Continuation held(second, {"ENDING"}, false);
  out.clear();
  held.take(text_event("DI"), out);
  CHECK(held.take(text_event("", R"("length")"), out) == State::finished);
  CHECK(out == sent(chat_text("DI")) + sent(chat_finish("length")));
}

TEST_CASE("the stop string is in the answer where the request wants it there") {
  CHECK(Seam("EN", {"END\"s"}, {"D", "\\\"s and more"}, true).text == "D\\\"s");
  CHECK(Seam("EN", {"END\"s"}, {"D", "\\\"s and more"}, false).text == "");
}

TEST_CASE("stop strings are compared as text, whatever its escapes") {
  CHECK(Seam("a\\n", {"\n\n"}, {"\\n"}).cut);
  CHECK(Seam("a\\u000a", {"\n\n"}, {"\\n"}).cut);
  CHECK(Seam("a\\u00e9", {"\xC3\xA9\xF0\x9F\x98\x80!"}, {"\xF0\x9F\x98\x80", "!"}).cut);
  CHECK(Seam("a\xC3\xA9", {"\xC3\xA9\xF0\x9F\x98\x80!"}, {"\\ud83d\\ude00!"}).cut);
  const Seam seam("a\\n", {"\n\n"}, {"\\n"});
  CHECK(seam.out.find(R"("stop_reason":"\u000a\u000a")") != std::string::npos);
}

TEST_CASE("of several stop strings the one that is complete first ends the answer") {
  CHECK(Seam("ab", {"abcde", "bcd"}, {"cdef"}).out.find(R"("stop_reason":"bcd")") != std::string::npos);
  CHECK(Seam("ab", {"abcd", "bcd"}, {"cdef"}).out.find(R"("stop_reason":"abcd")") != std::string::npos);
  // The later beginning of the same string counts when the earlier one fails.
  CHECK(Seam("aa", {"aab"}, {"ab"}).cut);
  CHECK(Seam("xaxa", {"xaxaxb"}, {"xaxb"}).cut);
}

TEST_CASE("a stop string that lies in the new text is the endpoint's to find") {
  CHECK_FALSE(Seam("ab", {"cd"}, {"cd"}).cut);
  CHECK_FALSE(Seam("aba", {"abab"}, {"x", "abab"}).cut);
  CHECK(Seam("ab", {"aba"}, {"x", "aba"}).text == "xaba");
  CHECK_FALSE(Seam("ab", {""}, {"x"}).cut);
  CHECK_FALSE(Seam("ab", {"b"}, {"b"}).cut);
}

// Every way to cut a text into what was delivered and two pieces, beside a plain search.
TEST_CASE("a straddling stop string is found wherever the seam is") {
  for (const std::string text : {"aabaabaaab", "abababac", "aaaaaaaa", "xyzzyxyzzy"}) {
    for (const std::string stop : {"aab", "aaab", "abac", "aaaa", "zzyx", "ba"}) {
      for (size_t seam = 1; seam < text.size(); ++seam) {
        for (size_t cut = seam; cut <= text.size(); ++cut) {
          size_t expected = std::string::npos;
          for (size_t at = 0; at < seam && expected == std::string::npos; ++at) {
            if (at + stop.size() > seam && text.compare(at, stop.size(), stop) == 0) expected = at + stop.size();
          }
          const std::string before = text.substr(0, seam);
          const Seam found(before, {stop}, {text.substr(seam, cut - seam), text.substr(cut)}, true);
          CAPTURE(text + " " + stop + " " + std::to_string(seam) + " " + std::to_string(cut));
          CHECK(found.cut == (expected != std::string::npos));
          if (found.cut) CHECK(before + found.text == text.substr(0, expected));
        }
      }
    }
  }
}

// What the client gets behind `before`, when `gap` was made and not delivered.
std::string behind(const std::string& before, const std::string& gap, const Strings& stops, const Strings& pieces,
                   bool include = false) {
  Delivered delivered = chat_with(before);
  Continuation continuation(delivered, stops, include, gap);
  std::string out;
  for (const std::string& piece : pieces) continuation.take(text_event(piece), out);
  continuation.take(text_event("", R"("length")"), out);
  return std::string(delivered.text().substr(before.size()));
}

TEST_CASE("text that was made and not delivered comes first") {
  CHECK(behind("a", "b\\n", {}, {"c", "d"}) == "b\\ncd");
  CHECK(behind("a", "b", {}, {}) == "b");
  CHECK(behind("a", "b", {"nothing"}, {"c"}) == "bc");
}

TEST_CASE("a stop string may begin in text that was made and not delivered") {
  CHECK(behind("a", "xEN", {"END"}, {"D", "x"}) == "x");
  CHECK(behind("a", "xEN", {"END"}, {"D", "x"}, true) == "xEND");
  CHECK(behind("a", "EN", {"END"}, {"E", "x"}) == "ENEx");
  CHECK(behind("aE", "N", {"END", "xyz"}, {"D"}) == "");
  CHECK(behind("a", "EN", {"ENDING"}, {"DIN", "GO"}) == "");
  CHECK(behind("a", "bE", {"END", "Exy"}, {"xy"}) == "b");
}

TEST_CASE("after a stop string only the usage and the end are read") {
  Delivered delivered = chat_with("EN");
  Continuation continuation(delivered, {"END"}, false);
  std::string out;
  CHECK(continuation.take(text_event("D"), out) == State::finished);
  out.clear();
  CHECK(continuation.take(text_event("x", R"("abort")"), out) == State::finished);
  CHECK(continuation.take(usage_event(5, 6), out) == State::finished);
  CHECK(continuation.take("[DONE]", out) == State::over);
  CHECK(continuation.usage()->completion_tokens == 6);
  CHECK(out == "");
}

}  // namespace
}  // namespace penstock::openai
