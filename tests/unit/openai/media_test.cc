#include <doctest/doctest.h>

#include <string>

#include "penstock/openai/request.h"
#include "tests/support/allocations.h"
#include "tests/unit/openai/padded_body.h"

namespace penstock::openai {
namespace {

using Media = std::vector<uint64_t>;

Media media_of(Api api, const std::string& text) {
  RequestScanner scanner;
  Request request;
  const PaddedBody body(text);
  CHECK(scanner.scan(api, body.view(), request).error == ScanError::none);
  return request.media;
}

// A chat with these parts in one message.
std::string chat(const std::string& parts) {
  return R"({"model":"m","messages":[{"role":"user","content":[)" + parts + "]}]}";
}
std::string image(const std::string& url) {
  return R"({"type":"image_url","image_url":{"url":")" + url + R"("}})";
}

TEST_CASE("an image is known by its URL or data, wherever it stands and however it is written") {
  const Media one = media_of(Api::chat_completions, chat(image("http://x/1.png")));
  REQUIRE(one.size() == 1);
  const auto same = [&](Api api, const std::string& body) { CHECK(media_of(api, body) == one); };
  same(Api::chat_completions, chat(R"({"type":"text","text":"see"},{"image_url" : "http://x/1.png"})"));
  same(Api::chat_completions, chat(R"({"image_url":{"detail":"low","url":"http://x/1.png"},"type":"image_url"})"));
  same(Api::chat_completions, chat(R"({"type":"video_url","video_url":{"url":"http://x/1.png"}})"));
  same(Api::chat_completions,
       R"({"messages":[{"role":"user","content":"hi"},{"role":"user","content":[{"type":"text","text":"and"},)" +
           image("http://x/1.png") + R"(]},{"role":"user","content":"more"}],"model":"m"})");
  same(Api::responses, R"({"model":"m","input":[{"role":"user","content":[
           {"type":"input_image","image_url":"http://x/1.png"}]}]})");
  same(Api::messages, R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":[
           {"type":"image","source":{"type":"url","url":"http://x/1.png"}}]}]})");

  CHECK(media_of(Api::chat_completions, chat(image("http://x/2.png"))) != one);
  const Media data = media_of(Api::chat_completions, chat(R"({"input_audio":{"data":"QUJD","format":"wav"}})"));
  CHECK(data.size() == 1);
  CHECK(data != one);
  CHECK(data == media_of(Api::messages, R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":[
           {"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}]}]})"));
}

TEST_CASE("what is no medium is none") {
  for (const char* const part :
       {R"({"type":"text","text":"http://x/1.png"})", R"({"type":"image_url","image_url":null})",
        R"({"image_url":{"url":null}})", R"({"image_url":{"url":""}})", R"({"image_url":["http://x/1.png"]})",
        R"({"type":"text","source":{"url":"http://x/1.png"}})", R"({"image_url":{"detail":"low"}})"}) {
    CAPTURE(part);
    CHECK(media_of(Api::chat_completions, chat(part)).empty());
  }
  CHECK(media_of(Api::completions, R"({"model":"m","prompt":"http://x/1.png"})").empty());
}

TEST_CASE("each medium counts once, in its order, and of very many only the first") {
  const Media three =
      media_of(Api::chat_completions, chat(image("a") + ',' + image("b") + ',' + image("a") + ',' + image("c")));
  REQUIRE(three.size() == 3);
  CHECK(Media(three.begin(), three.begin() + 2) ==
        media_of(Api::chat_completions, chat(image("a") + ',' + image("b"))));
  std::string parts = image("0");
  for (size_t i = 1; i < Request::media_max; ++i) parts += ',' + image(std::to_string(i));
  const Media full = media_of(Api::chat_completions, chat(parts));
  CHECK(full.size() == Request::media_max);
  CHECK(media_of(Api::chat_completions, chat(parts + ',' + image("one more"))) == full);
}

TEST_CASE("gathering media allocates nothing once warm, and nothing is left for the next body") {
  const std::string with = chat(image("data:image/png;base64," + std::string(100'000, 'A')) + ',' + image("b"));
  const PaddedBody one(with), none(chat(R"({"type":"text","text":"hi"})"));
  RequestScanner scanner;
  Request request;
  const auto scan = [&](const PaddedBody& body) {
    return scanner.scan(Api::chat_completions, body.view(), request).error;
  };
  CHECK(scan(one) == ScanError::none);
  const uint64_t before = penstock::test::allocations();
  for (int i = 0; i < 10; ++i) scan(one);
  CHECK(penstock::test::allocations() == before);
  CHECK(request.media.size() == 2);
  CHECK(scan(none) == ScanError::none);
  CHECK(request.media.empty());
}

TEST_CASE("where nobody looks at media they are not hashed, and all else is read as ever") {
  RequestScanner hashing, plain(nullptr, false);
  Request hashed, request;
  const std::string parts[] = {image("a") + ',' + R"({"type":"input_audio","input_audio":{"data":"QUJD"}})",
                               R"({"type":"image_url","image_url":{"url":"a","detail":[}})"};
  for (const std::string& part : parts) {
    const PaddedBody body(chat(part));
    const ScanFailure failure = plain.scan(Api::chat_completions, body.view(), request);
    const ScanFailure expected = hashing.scan(Api::chat_completions, body.view(), hashed);
    CHECK(failure.error == expected.error);
    CHECK(failure.message == expected.message);
    CHECK(request.multimodal);
    CHECK(request.prompt_bytes == hashed.prompt_bytes);
    CHECK(!hashed.media.empty());
    CHECK(request.media.empty());
  }
}

}  // namespace
}  // namespace penstock::openai
