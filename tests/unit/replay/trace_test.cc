#include "penstock/replay/trace.h"

#include <doctest/doctest.h>

#include <sstream>

using namespace penstock;
using namespace penstock::replay;

namespace {

Result<Trace> read(const std::string& text) {
  std::istringstream in(text);
  return read_trace(in, "t");
}

std::vector<uint64_t> chain_of(const Trace& trace, size_t request, uint32_t block_tokens) {
  std::vector<uint64_t> chain;
  prompt_chain(trace, request, block_tokens, chain);
  return chain;
}

size_t shared(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  size_t count = 0;
  while (count < a.size() && count < b.size() && a[count] == b[count]) ++count;
  return count;
}

}  // namespace

TEST_CASE("Mooncake: times, lengths and ids, relative to the first and in order of time") {
  const auto trace = read(
      "{\"timestamp\":9000,\"input_length\":600,\"output_length\":5,\"hash_ids\":[4,5]}\n"
      "\n"
      "{\"timestamp\": 8500, \"input_length\": 100, \"output_length\": 7}\r\n");
  REQUIRE(trace.ok());
  REQUIRE(trace->requests.size() == 2);
  CHECK(trace->requests[0].at == Duration::zero());
  CHECK(trace->requests[0].prompt_tokens == 100);
  CHECK(trace->requests[0].output_tokens == 7);
  CHECK(trace->requests[0].id_count == 0);
  CHECK(trace->requests[1].at == milliseconds(500));
  CHECK(trace->ids_of(trace->requests[1])[1] == 5);
  CHECK(trace->requests[1].spread == Duration::zero());
  CHECK(trace->length() == milliseconds(500));
}

TEST_CASE("times that were recorded in steps say how exact they are") {
  std::string text;
  for (const char* at : {"0", "0", "3000", "5999", "9000"}) {
    text += std::string("{\"timestamp\":") + at + ",\"input_length\":1,\"output_length\":1}\n";
  }
  const auto trace = read(text);
  REQUIRE(trace.ok());
  for (const TraceRequest& request : trace->requests) CHECK(request.spread == milliseconds(2999));
}

TEST_CASE("Azure: CSV with times of seven decimals") {
  const auto trace = read(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-16 23:59:59.9000000,374,44\r\n"
      "2023-11-17 00:00:00.1500000,396,109\r\n");
  REQUIRE(trace.ok());
  REQUIRE(trace->requests.size() == 2);
  CHECK(trace->requests[1].at == milliseconds(250));
  CHECK(trace->requests[1].prompt_tokens == 396);
  CHECK(trace->requests[1].output_tokens == 109);
}

TEST_CASE("access log: requests with usage; the others are counted") {
  const auto trace = read(
      "{\"time\":\"2026-01-31T12:00:00.250Z\",\"status\":200,\"prompt_tokens\":10,\"completion_tokens\":3,\"x\":null}\n"
      "{\"time\":\"2026-01-31T12:00:01.000Z\",\"status\":503,\"prompt_tokens\":null,\"completion_tokens\":null}\n"
      "{\"time\":\"2026-01-31T12:00:01.250Z\",\"status\":200,\"prompt_tokens\":20,\"completion_tokens\":4}\n");
  REQUIRE(trace.ok());
  REQUIRE(trace->requests.size() == 2);
  CHECK(trace->left_out == 1);
  CHECK(trace->requests[1].at == seconds(1));
  CHECK(trace->requests[1].prompt_tokens == 20);
}

TEST_CASE("what is wrong is said with its line") {
  const auto message = [](const std::string& text) {
    const auto trace = read(text);
    return trace.ok() ? std::string() : trace.error().text;
  };
  CHECK(message("").starts_with("t:1: no request"));
  CHECK(message("hello\n").starts_with("t:1: neither"));
  CHECK(message("\x1f\x8b\x08 and so on") == "t:1: gzip-compressed; use zcat FILE | penstock replay --trace -");
  CHECK(message("{\"timestamp\":1,\"input_length\":1,\"output_length\":1}\n{oops\n").starts_with("t:2: "));
  CHECK(message("{\"timestamp\":\"x\",\"input_length\":1}\n").starts_with("t:1: want \"timestamp\""));
  CHECK(
      message("{\"timestamp\":1,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1,-2]}").starts_with("t:1: want"));
  CHECK(message("{\"time\":\"yesterday\"}").starts_with("t:1: want \"time\" such"));
  // Broken behind the first field that is asked for.
  CHECK(message("{\"timestamp\":1,\"]hash_ids\":[1,2}\n") == "t:1: not a JSON object");
  CHECK(message("{\"time\":\"2026-01-31T12:00:00Z\",\"x\":[1,2}\n") == "t:1: not a JSON object");
  // Times that a Duration cannot hold.
  for (const char* const year : {"0000", "1969", "2262", "9999"}) {
    CHECK(message("{\"time\":\"" + std::string(year) + "-11-16T18:17:03Z\"}").starts_with("t:1: want \"time\" such"));
  }
  CHECK(message("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-16 18:17:03,1,2\n").starts_with("t:2: want a time"));
  CHECK(message("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1\n").starts_with("t:2: want token"));
}

TEST_CASE("prompts share blocks exactly as far as their ids are equal") {
  const auto trace = read(
      "{\"timestamp\":0,\"input_length\":1500,\"output_length\":1,\"hash_ids\":[1,2,3]}\n"
      "{\"timestamp\":1,\"input_length\":1500,\"output_length\":1,\"hash_ids\":[1,2,4]}\n"
      "{\"timestamp\":2,\"input_length\":1500,\"output_length\":1,\"hash_ids\":[9,2,3]}\n"
      "{\"timestamp\":3,\"input_length\":1500,\"output_length\":1,\"hash_ids\":[1]}\n"
      "{\"timestamp\":4,\"input_length\":1500,\"output_length\":1}\n");
  REQUIRE(trace.ok());
  for (const uint32_t size : {16u, 64u, 512u}) {
    CAPTURE(size);
    const auto first = chain_of(*trace, 0, size);
    CHECK(first.size() == 1500 / size);
    CHECK(shared(first, chain_of(*trace, 0, size)) == first.size());
    CHECK(shared(first, chain_of(*trace, 1, size)) == 1024 / size);
    CHECK(shared(first, chain_of(*trace, 2, size)) == 0);
    CHECK(shared(first, chain_of(*trace, 3, size)) == 512 / size);
    CHECK(shared(first, chain_of(*trace, 4, size)) == 0);
  }
}

TEST_CASE("scaled prompts are as long as told, id by id, and share the same share") {
  auto trace = read(
      "{\"timestamp\":0,\"input_length\":1500,\"output_length\":100,\"hash_ids\":[1,2,3]}\n"
      "{\"timestamp\":1,\"input_length\":1536,\"output_length\":1,\"hash_ids\":[1,2,4]}\n"
      "{\"timestamp\":2,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1]}\n");
  REQUIRE(trace.ok());
  scale_lengths(*trace, 0.25);
  CHECK(trace->requests[0].prompt_tokens == 2 * 128 + 119);
  CHECK(trace->requests[0].output_tokens == 25);
  CHECK(trace->requests[1].prompt_tokens == 3 * 128);
  CHECK(trace->requests[1].output_tokens == 1);
  CHECK(trace->requests[2].prompt_tokens == 1);
  CHECK(shared(chain_of(*trace, 0, 16), chain_of(*trace, 1, 16)) == 2 * 128 / 16);
  scale_lengths(*trace, 4);
  CHECK(trace->requests[1].prompt_tokens == 1536);
  CHECK(shared(chain_of(*trace, 0, 16), chain_of(*trace, 1, 16)) == 1024 / 16);
}

TEST_CASE("merged traces keep their times and share nothing; a limit keeps the first requests") {
  const auto one = read("{\"timestamp\":0,\"input_length\":600,\"output_length\":1,\"hash_ids\":[1]}\n");
  const auto two = read(
      "{\"timestamp\":50,\"input_length\":600,\"output_length\":1,\"hash_ids\":[1]}\n"
      "{\"timestamp\":70,\"input_length\":600,\"output_length\":1,\"hash_ids\":[1]}\n");
  const Trace traces[] = {*one, *two};
  Trace all = merge(traces);
  REQUIRE(all.requests.size() == 3);
  CHECK(all.requests[2].at == milliseconds(20));
  CHECK(shared(chain_of(all, 0, 16), chain_of(all, 1, 16)) == 0);
  CHECK(shared(chain_of(all, 1, 16), chain_of(all, 2, 16)) == 32);
  cut(all, 0);
  CHECK(all.requests.size() == 3);
  cut(all, 2);
  CHECK(all.requests.size() == 2);
}
