#include "penstock/openai/request.h"

#include <doctest/doctest.h>
#include <simdjson.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/openai/splice.h"
#include "tests/unit/openai/padded_body.h"

namespace penstock::openai {
namespace {

ScanFailure scan(Api api, std::string_view text, Request& request) {
  RequestScanner scanner;
  const PaddedBody body(text);
  return scanner.scan(api, body.view(), request);
}

TEST_CASE("numbers of tokens are read however they are written") {
  struct Row {
    const char* text;
    std::optional<uint32_t> expected;
  };
  for (const Row& row :
       {Row{"0", 0}, Row{"7", 7}, Row{"100", 100}, Row{"999999999", 999999999}, Row{"1000000000", 1000000000},
        Row{"4294967295", 4294967295}, Row{"4294967296", 4294967295}, Row{"1e3", 1000}, Row{"5.0", 5},
        Row{"-1", std::nullopt}, Row{"-0", 0}, Row{"null", std::nullopt}, Row{"1e999", 4294967295}, Row{"\"5\"", 5},
        Row{"\"5.5\"", std::nullopt}, Row{"5.5", std::nullopt}, Row{"true", std::nullopt}, Row{"[]", std::nullopt}}) {
    CAPTURE(row.text);
    Request request;
    const std::string body = std::string(R"({"model":"m","prompt":"p","max_tokens":)") + row.text + " }";
    REQUIRE(scan(Api::completions, body, request).error == ScanError::none);
    CHECK(request.max_tokens == row.expected);
  }
  for (const char* text : {"007", "1x", "1-", "99999999x", "+1", ".5"}) {
    CAPTURE(text);
    Request request;
    const std::string body = std::string(R"({"model":"m","prompt":"p","max_tokens":)") + text + "}";
    CHECK(scan(Api::completions, body, request).error != ScanError::none);
  }
}

TEST_CASE("flags are read as servers read them") {
  struct Row {
    const char* text;
    bool expected;
  };
  for (const Row& row :
       {Row{"true", true}, Row{"false", false}, Row{"null", false}, Row{"1", true}, Row{"0", false}, Row{"1.0", true},
        Row{"2", false}, Row{"\"true\"", true}, Row{"\"On\"", true}, Row{"\"YES\"", true}, Row{"\"off\"", false},
        Row{"\"\"", false}, Row{"[1]", false}, Row{"{}", false}}) {
    CAPTURE(row.text);
    Request request;
    const std::string text = row.text;
    const std::string body =
        R"({"model":"m","stream":)" + text + R"( ,"stream_options":{"include_usage":)" + text + R"(},"prompt":"p"})";
    REQUIRE(scan(Api::completions, body, request).error == ScanError::none);
    CHECK(request.stream == row.expected);
    CHECK(request.include_usage == row.expected);
  }
}

TEST_CASE("the messages of a longer conversation begin with the bytes of the shorter one") {
  const std::string head = R"({"model":"m","messages":[{"role":"user","content":"a"})";
  Request shorter, longer;
  const std::string one = head + " ] }", two = head + R"(,{"role":"assistant","content":"b"}]})";
  REQUIRE(scan(Api::chat_completions, one, shorter).error == ScanError::none);
  REQUIRE(scan(Api::chat_completions, two, longer).error == ScanError::none);
  REQUIRE(shorter.prompt.size() == 1);
  REQUIRE(longer.prompt.size() == 1);
  CHECK(longer.prompt[0].in(two).starts_with(shorter.prompt[0].in(one)));
}

TEST_CASE("a prompt of 20 MB is scanned in place, and the scanner serves small bodies afterwards") {
  std::string text = R"({"model":"m","prompt":")";
  const size_t begin = text.size();
  text.append(20'000'000, 'x');
  text += R"(","stream":true})";
  RequestScanner scanner;
  Request request;
  const PaddedBody big(text);
  REQUIRE(scanner.scan(Api::completions, big.view(), request).error == ScanError::none);
  REQUIRE(request.prompt.size() == 1);
  CHECK(request.prompt[0].begin == begin);
  CHECK(request.prompt[0].size == 20'000'000);
  CHECK(request.prompt_bytes == 20'000'000);
  CHECK(request.stream);
  const PaddedBody small(R"({"model":"other","prompt":"p"})");
  REQUIRE(scanner.scan(Api::completions, small.view(), request).error == ScanError::none);
  CHECK(request.model == "other");
  CHECK_FALSE(request.stream);
  CHECK(request.prompt_bytes == 1);
}

TEST_CASE("what reading a large body needs beside it counts against the memory budget while it is read") {
  const std::string text = R"({"model":"m","prompt":[)" + std::string(2 << 20, ' ') + "1]}";
  const PaddedBody body(text);
  Request request;
  const size_t needed = text.size() * RequestScanner::scratch_per_byte;
  for (const size_t limit : {needed - 1, needed}) {
    MemoryBudget budget(limit);
    RequestScanner scanner(&budget);
    const ScanFailure failure = scanner.scan(Api::completions, body.view(), request);
    CHECK(failure.error == (limit == needed ? ScanError::none : ScanError::no_memory));
    CHECK(failure.message.empty() == (limit == needed));
    CHECK(budget.used() == 0);
    CHECK(budget.refusals() == (limit == needed ? 0 : 1));
    const PaddedBody small(R"({"model":"other","prompt":"p"})");
    CHECK(scanner.scan(Api::completions, small.view(), request).error == ScanError::none);
  }
}

TEST_CASE("of texts that are copied as much is taken as anybody needs, and no more") {
  const auto with = [](std::string_view before, size_t size, std::string_view after) {
    return std::string(R"({"prompt":"p","messages":[{"content":"c"}],)") + std::string(before) + '"' +
           std::string(size, 'x') + '"' + std::string(after) + "}";
  };
  struct Place {
    const char *name, *before, *after;
    Api api = Api::completions;
  };
  const size_t most = RequestScanner::text_bytes_max;
  for (const Place& place :
       {Place{"model", R"("model":)", ""}, Place{"cache_salt", R"("model":"m","cache_salt":)", ""},
        Place{"session_id", R"("model":"m","session_id":)", ""}, Place{"user", R"("model":"m","user":)", ""},
        Place{"prompt_cache_key", R"("model":"m","prompt_cache_key":)", ""},
        Place{"metadata.user_id", R"("model":"m","metadata":{"user_id":)", "}", Api::messages}}) {
    CAPTURE(place.name);
    Request request;
    CHECK(scan(place.api, with(place.before, most, place.after), request).error == ScanError::none);
    CHECK((request.model + request.cache_salt + request.session).size() >= most);
    const ScanFailure failure = scan(place.api, with(place.before, most + 1, place.after), request);
    CHECK(failure.error == ScanError::too_long);
    CHECK(failure.param == place.name);
    CHECK(failure.message == "The field \"" + std::string(place.name) + "\" is longer than 4096 bytes.");
  }
}

TEST_CASE("a failure does not repeat a name of any length") {
  Request request;
  for (const size_t size : {256, 257, 1'000'000}) {
    const std::string name(size, 'k');
    const std::string deep(RequestScanner::nesting_max, '[');
    const ScanFailure failure =
        scan(Api::completions,
             R"({"model":"m","prompt":"p",")" + name + "\":" + deep + std::string(deep.size(), ']') + "}", request);
    CHECK(failure.error == ScanError::too_deep);
    CHECK(failure.param == (size == 256 ? name : ""));
  }
}

TEST_CASE("nesting is refused at its limit, in every kind of place, and not one level before") {
  const auto nested = [](int levels, const char* open, const char* close) {
    std::string text;
    for (int i = 0; i < levels; ++i) text += open;
    text += "1";
    for (int i = 0; i < levels; ++i) text += close;
    return text;
  };
  const int inside = RequestScanner::nesting_max - 1;  // the body's own object is one
  Request request;
  struct Kind {
    const char* open;
    const char* close;
  };
  for (const Kind& kind : {Kind{"[", "]"}, Kind{"{\"k\":", "}"}}) {
    const std::string before = R"({"model":"m","messages":[{"content":"c"}],"x":)";
    CHECK(scan(Api::chat_completions, before + nested(inside, kind.open, kind.close) + "}", request).error ==
          ScanError::none);
    CHECK(scan(Api::chat_completions, before + nested(inside + 1, kind.open, kind.close) + "}", request).error ==
          ScanError::too_deep);
    CHECK(scan(Api::chat_completions, before + nested(10'000, kind.open, kind.close) + "}", request).error ==
          ScanError::too_deep);
  }
  const std::string parts = nested(10'000, R"({"content":[)", "]}");
  CHECK(scan(Api::chat_completions, R"({"model":"m","messages":[)" + parts + "]}", request).error ==
        ScanError::too_deep);
  CHECK(scan(Api::completions, R"({"model":"m","prompt":)" + nested(10'000, "[", "]") + "}", request).error ==
        ScanError::bad_type);
}

TEST_CASE("a body cut anywhere is refused") {
  const std::string text =
      R"({"x":[{"y":[{}]}],"model":"m","tools":[{"a":"b"}],"messages":[{"role":"user","content":[{"type":"text","text":"\"}]}"}]}],"n":2})";
  Request request;
  REQUIRE(scan(Api::chat_completions, text, request).error == ScanError::none);
  RequestScanner scanner;
  for (size_t size = 0; size < text.size(); ++size) {
    for (const char behind : {'}', ']', ',', ':', '[', '{', '"', '1', ' ', '\0', '\xFF'}) {
      CAPTURE(size);
      const PaddedBody body(std::string_view(text).substr(0, size), behind);
      CHECK(scanner.scan(Api::chat_completions, body.view(), request).error == ScanError::not_json);
    }
  }
}

TEST_CASE("a rewritten model is spliced between the untouched bytes of the body") {
  const std::string text = R"({"a":1, "model" : "old\n" ,"prompt":"p"})";
  Request request;
  REQUIRE(scan(Api::completions, text, request).error == ScanError::none);
  CHECK(request.model == "old\n");
  const Spliced spliced = splice_model(text, request.model_value, "new \"one\"");
  const std::string joined = std::string(spliced.before) + spliced.value + std::string(spliced.after);
  CHECK(joined == R"({"a":1, "model" : "new \"one\"" ,"prompt":"p"})");
  CHECK(spliced.size() == joined.size());
  CHECK(spliced.before.data() == text.data());
  CHECK(spliced.after.data() + spliced.after.size() == text.data() + text.size());

  const Spliced untouched = splice_model("{}", Range{}, "new");
  CHECK(untouched.before == "{}");
  CHECK(untouched.size() == 2);
}

// Bodies made of fragments that lie next to the edges of the grammar, judged by simdjson's full parser as well.
class Fragments {
 public:
  explicit Fragments(uint64_t seed) : random_(seed) {}
  std::string body() {
    std::string out = random_.below(4) == 0 ? "" : R"({"model":"m","prompt":"p")";
    for (uint64_t count = random_.below(12); count > 0; --count) out += pieces[random_.below(pieces.size())];
    if (random_.below(4) != 0) out += '}';
    return out;
  }

 private:
  static constexpr std::array<std::string_view, 34> pieces = {"{",          "}",
                                                              "[",          "]",
                                                              ",",          ":",
                                                              "\"",         "\\",
                                                              "\"a\"",      "\"model\"",
                                                              "\"stream\"", "true",
                                                              "null",       "-1.5e",
                                                              "e3",         "0",
                                                              "01",         " ",
                                                              "\n",         ",\"x\":",
                                                              ",\"y\":[1,", ",\"z\":{\"b\":",
                                                              "\"\\\\",     "\"\"",
                                                              "nul",        "[[1],",
                                                              "]}",         "\x01",
                                                              "\xC3\xA9",   "\xC3",
                                                              ",\"x\":[]",  ",\"x\":{}",
                                                              ",\"n\":2",   ",\"w\":\"v\""};
  Random random_;
};

TEST_CASE("random bodies are JSON for the scanner exactly if they are for a full parser") {
  RequestScanner scanner;
  Request request;
  simdjson::dom::parser oracle;
  int objects = 0, others = 0;
  for (uint64_t seed = 1; seed <= 40'000; ++seed) {
    const std::string text = Fragments(seed).body();
    const PaddedBody body(text, "}]\" "[seed % 4]);
    simdjson::dom::element root;
    const auto verdict = oracle.parse(text).get(root);
    // Escapes and the size of numbers are where the two differ, and said so in the header.
    if (verdict == simdjson::STRING_ERROR || verdict == simdjson::NUMBER_ERROR) continue;
    const bool is_object = verdict == simdjson::SUCCESS && root.is_object();
    const ScanFailure failure = scanner.scan(Api::other, body.view(), request);
    CAPTURE(seed);
    CAPTURE(text);
    if (is_object) {
      CHECK(failure.error != ScanError::not_json);
      ++objects;
    } else {
      CHECK(failure.error != ScanError::none);
      ++others;
    }
  }
  CHECK(objects > 1'000);
  CHECK(others > 1'000);
}

}  // namespace
}  // namespace penstock::openai
