#include "sim/options.h"

#include <doctest/doctest.h>

#include <vector>

using namespace penstock;
using namespace penstock::sim;

namespace {

std::optional<int> parse(std::vector<const char*> arguments, Options& out) {
  arguments.insert(arguments.begin(), "penstock-sim");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data(), out);
}

}  // namespace

TEST_CASE("The command line sets the server, the engine and the faults") {
  Options options;
  REQUIRE_FALSE(parse({"--port",
                       "0",
                       "--model",
                       "a",
                       "--model",
                       "b",
                       "--lora",
                       "l",
                       "--decode-ms",
                       "3",
                       "--kv-blocks",
                       "100",
                       "--fail",
                       "status=503@0.5",
                       "--fail",
                       "refusex1",
                       "--on-sigterm",
                       "abort",
                       "--ring",
                       "epoll",
                       "--no-prefix-caching",
                       "--seed",
                       "9"},
                      options));
  CHECK(options.port == 0);
  CHECK(options.models == std::vector<std::string>{"a", "b"});
  CHECK(options.loras == std::vector<std::string>{"l"});
  CHECK(options.engine.decode_ms == 3);
  CHECK(options.engine.prefill_tokens_per_s == 20000);
  CHECK_FALSE(options.engine.prefix_caching);
  CHECK(options.engine.seed == 9);
  CHECK(options.max_model_len == 1600);
  CHECK(options.faults.size() == 2);
  CHECK(options.on_sigterm == OnSigterm::abort);
  CHECK(options.ring == net::RingKind::epoll);
}

TEST_CASE("Instant means no time, except where a time is given") {
  Options all, paced;
  REQUIRE_FALSE(parse({"--instant"}, all));
  CHECK(all.engine.decode_ms + all.engine.prefill_tokens_per_s + all.engine.step_overhead_ms == 0);
  CHECK(all.models == std::vector<std::string>{"sim-model"});
  REQUIRE_FALSE(parse({"--instant", "--decode-ms", "20"}, paced));
  CHECK(paced.engine.decode_ms == 20);
  CHECK(paced.engine.decode_ms_per_seq == 0);
}

TEST_CASE("Text, tokenizer and lengths of answers are as they are asked for") {
  Options usual, other;
  REQUIRE_FALSE(parse({}, usual));
  CHECK(usual.engine.text == TextStyle::plain);
  CHECK(usual.tokenizer);
  CHECK_FALSE(usual.bos);
  REQUIRE_FALSE(parse({"--text", "varied-ascii", "--no-tokenizer", "--bos", "--max-tokens-default", "0"}, other));
  CHECK(other.engine.text == TextStyle::varied);
  CHECK(other.ascii);
  CHECK_FALSE(other.tokenizer);
  CHECK(other.bos);
  CHECK(other.max_tokens_default == 0);
}

TEST_CASE("What cannot be meant is refused") {
  for (const std::vector<const char*>& arguments : std::vector<std::vector<const char*>>{
           {"--nonsense"},
           {"--fail", "explode"},
           {"--ring", "kqueue"},
           {"--block-size", "0"},
           {"--text", "odd"},
           {"--fail", "end-after-tokens=4..2"},
           {"--kv-blocks", "10", "--max-model-len", "161"},
           {"--kv-blocks", "200000000"},
           {"--max-num-seqs", "100", "--max-num-batched-tokens", "50"},
       }) {
    CAPTURE(arguments[0]);
    Options options;
    const auto code = parse(arguments, options);
    REQUIRE(code.has_value());
    CHECK(*code != 0);
  }
}
