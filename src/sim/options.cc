#include "sim/options.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace penstock::sim {
namespace {

constexpr const char* kDescription =
    "penstock-sim: a stand-in for a vLLM server, without a model or a GPU.\n"
    "It serves vLLM's HTTP paths and metrics from a simulated engine: paged KV cache with prefix caching, continuous\n"
    "batching with chunked prefill, preemption. A token is four bytes of text. The text is a function of --seed and "
    "the\n"
    "prompt, so several servers with the same seed and block size give the same answers, and one continues the answer\n"
    "of another from the token ids of the prompt and of the text so far.";

constexpr const char* kFooter =
    "Faults (--fail SPEC, or the request header x-sim-fail: SPEC), with an optional probability and count:\n"
    "  refuse            resets connections as they are accepted (as a header: resets without an answer)\n"
    "  reset-after=N     resets after N bytes of the answer's body as sent\n"
    "  stall-after=N     sends nothing more after N bytes\n"
    "  status=CODE       answers with an error, for example 500 or 503\n"
    "  slow-header=MS    sends the head of the answer MS milliseconds late\n"
    "  truncate-chunk    ends the connection in the middle of a chunk\n"
    "  reset-after-tokens=N, stall-after-tokens=N     likewise, but after N tokens of the answer's text\n"
    "  end-after-tokens=N      ends the stream properly, without finish_reason and [DONE]\n"
    "  error-after-tokens=N    sends an error in the stream, then [DONE]\n"
    "  abort-after-tokens=N    ends the stream with finish_reason \"abort\", then [DONE]\n"
    "  SPEC@0.1          strikes one request in ten        SPECx3  strikes three times\n"
    "Where N is a place it may be a range: end-after-tokens=0..40 draws another one for each request. Answers that "
    "are\n"
    "no streams are reset, closed without a byte, answered with 500, cut with \"abort\", or never sent.\n"
    "Faults strike inference requests; refuse strikes any connection.\n"
    "\n"
    "Examples:\n"
    "  penstock-sim --port 8001 --model qwen --prefill-tokens-per-s 8000 --decode-ms 12\n"
    "  penstock-sim --port 8001 --instant                 as fast as it can be sent, for measuring a gateway\n"
    "  penstock-sim --port 8001 --instant --decode-ms 20  a token every 20 ms exactly\n"
    "  penstock-sim --port 8001 --fail status=503@0.05 --fail reset-after=2000x1";

struct Raw {
  std::string ring = "auto", on_sigterm = "drain", text = "plain";
  std::vector<std::string> faults;
  bool instant = false, no_prefix_caching = false, no_tokenizer = false;
  CLI::Option* decode_ms = nullptr;
  CLI::Option* prefill = nullptr;
};

void add_server_options(CLI::App& app, Options& out, Raw& raw) {
  const std::string group = "Server";
  app.add_option("--host", out.host, "Address to listen on")->capture_default_str()->group(group);
  app.add_option("--port", out.port, "Port; 0 lets the kernel choose and prints it")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str()
      ->group(group);
  app.add_option("--name", out.name, "Sent with every answer as x-sim-name")->group(group);
  app.add_option("--model", out.models, "Model served (repeatable; default sim-model)")->group(group);
  app.add_option("--lora", out.loras, "LoRA adapter served (repeatable)")->group(group);
  app.add_option("--max-loras", out.max_loras, "Adapters that one step can serve")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->group(group);
  app.add_option("--keep-alive-s", out.keep_alive_s, "Idle time after which a connection is closed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(group);
  app.add_option("--ring", raw.ring, "I/O engine")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--fail", raw.faults, "Fault to inject (repeatable; see below)")->group(group);
  app.add_option("--on-sigterm", raw.on_sigterm,
                 "drain: finish what runs, then exit; abort: end it where it is, then exit")
      ->check(CLI::IsMember({"drain", "abort"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--drain-timeout-s", out.drain_timeout_s, "Longest drain; what still runs is cut")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(group);
}

void add_kv_events_options(CLI::App& app, KvEventsOptions& out) {
  const std::string group = "KV events (ZeroMQ, as vLLM publishes them)";
  app.add_option("--kv-events-port", out.port,
                 "Publish the cache's blocks here; 0 lets the kernel choose and prints it")
      ->check(CLI::Range(0, 65535))
      ->group(group);
  app.add_option("--kv-events-replay-port", out.replay_port, "Replay them here; likewise")
      ->check(CLI::Range(0, 65535))
      ->group(group);
  app.add_option("--kv-events-topic", out.topic, "Topic of all messages")->group(group);
  app.add_flag("--kv-events-older", out.older, "As older vLLM: events as arrays, replays without their topic")
      ->group(group);
  app.add_option("--kv-events-drop", out.dropped, "Number of a batch that gets lost (repeatable)")->group(group);
  app.add_option("--kv-events-buffer", out.buffer_batches, "Batches kept for replays")
      ->capture_default_str()
      ->group(group);
}

void add_engine_options(CLI::App& app, Options& out, Raw& raw) {
  const std::string group = "Engine";
  EngineOptions& engine = out.engine;
  raw.prefill = app.add_option("--prefill-tokens-per-s", engine.prefill_tokens_per_s, "Prefill rate; 0: takes no time")
                    ->check(CLI::NonNegativeNumber)
                    ->capture_default_str()
                    ->group(group);
  raw.decode_ms = app.add_option("--decode-ms", engine.decode_ms, "Time of a decode step with one sequence")
                      ->check(CLI::NonNegativeNumber)
                      ->capture_default_str()
                      ->group(group);
  app.add_option("--decode-ms-per-seq", engine.decode_ms_per_seq, "More for each further sequence")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(group);
  app.add_option("--decode-ms-per-1k-tokens", engine.decode_ms_per_1k_tokens, "More for each 1000 tokens of context")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(group);
  app.add_option("--step-overhead-ms", engine.step_overhead_ms, "Fixed time of any step")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(group);
  app.add_flag("--instant", raw.instant,
               "Steps take no time, except --prefill-tokens-per-s and --decode-ms where given")
      ->group(group);
  app.add_option("--kv-blocks", engine.kv_blocks, "KV cache size in blocks")
      ->check(CLI::Range(1u, 1u << 28))
      ->capture_default_str()
      ->group(group);
  app.add_option("--block-size", engine.block_size, "Tokens in a block")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->group(group);
  app.add_flag("--no-prefix-caching", raw.no_prefix_caching, "Never find a block again")->group(group);
  app.add_option("--max-num-seqs", engine.max_num_seqs, "Sequences running together")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-num-batched-tokens", engine.max_num_batched_tokens, "Tokens in one step")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-num-queued-reqs", out.max_num_queued_reqs,
                 "Sequences that may run or wait; requests beyond are refused with 503. 0: any number")
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-model-len", out.max_model_len, "Longest prompt and answer; 0: what the KV cache holds")
      ->capture_default_str()
      ->group(group);
}

void add_answer_options(CLI::App& app, Options& out, Raw& raw) {
  const std::string text = "Answers";
  EngineOptions& engine = out.engine;
  app.add_option("--seed", engine.seed, "Of the text and of fault probabilities")->capture_default_str()->group(text);
  app.add_option(
         "--text", raw.text,
         "plain: words; varied: also what JSON escapes and characters of several bytes; varied-ascii: the same, "
         "with all but ASCII escaped; broken: also parts of characters, and bytes that stand for none")
      ->check(CLI::IsMember({"plain", "varied", "varied-ascii", "broken"}))
      ->capture_default_str()
      ->group(text);
  app.add_flag("--no-tokenizer", raw.no_tokenizer, "Have no /tokenize and /detokenize")->group(text);
  app.add_flag("--bos", out.bos, "Begin prompts with a token of their own, as many tokenizers do")->group(text);
  app.add_option(
         "--eos-mean", engine.eos_mean,
         "Mean length of answers that end by themselves, with an end that is a token (of one in N the only one); "
         "0: only max_tokens ends them")
      ->capture_default_str()
      ->group(text);
  app.add_option("--max-tokens-default", out.max_tokens_default,
                 "Answer length where the request sets none; 0: as vLLM, 16 for completions "
                 "and all of the context for the others")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str()
      ->group(text);
  app.add_option("--tokens-per-chunk", out.tokens_per_chunk, "Tokens in one streamed chunk")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->group(text);
  app.add_option("--embedding-dimensions", out.embedding_dimensions, "Length of embedding vectors")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->group(text);
}

// What the flags mean together. An empty string when all is well.
std::string settle(Options& out, const Raw& raw) {
  EngineOptions& engine = out.engine;
  engine.prefix_caching = !raw.no_prefix_caching;
  out.tokenizer = !raw.no_tokenizer;
  engine.text = raw.text == "plain" ? TextStyle::plain : raw.text == "broken" ? TextStyle::broken : TextStyle::varied;
  out.ascii = raw.text == "varied-ascii";
  if (raw.instant) {
    if (raw.prefill->count() == 0) engine.prefill_tokens_per_s = 0;
    if (raw.decode_ms->count() == 0) engine.decode_ms = 0;
    engine.decode_ms_per_seq = engine.decode_ms_per_1k_tokens = engine.step_overhead_ms = 0;
  }
  if (out.kv_events.replay_port && !out.kv_events.port) return "--kv-events-replay-port needs --kv-events-port";
  out.ring = raw.ring == "io_uring" ? net::RingKind::io_uring
             : raw.ring == "epoll"  ? net::RingKind::epoll
                                    : net::RingKind::automatic;
  out.on_sigterm = raw.on_sigterm == "abort" ? OnSigterm::abort : OnSigterm::drain;
  for (const std::string& text : raw.faults) {
    const Result<Fault> fault = parse_fault(text);
    if (!fault.ok()) return "--fail: " + fault.error().text;
    out.faults.push_back(*fault);
  }
  if (out.models.empty()) out.models = {"sim-model"};
  const uint64_t capacity = uint64_t{engine.kv_blocks} * engine.block_size;
  if (capacity > UINT32_MAX / 2) return "--kv-blocks times --block-size must be below 2^31 tokens";
  if (out.max_model_len > capacity) return "--max-model-len is more than the KV cache holds";
  if (out.max_model_len == 0) out.max_model_len = static_cast<uint32_t>(capacity);
  if (engine.max_num_batched_tokens < engine.max_num_seqs)
    return "--max-num-batched-tokens must be at least --max-num-seqs";
  return "";
}

}  // namespace

std::optional<int> parse_command_line(int argc, const char* const* argv, Options& out) {
  CLI::App app(kDescription);
  app.footer(kFooter);
  app.set_version_flag("--version", "penstock-sim 0.1.0");
  app.get_formatter()->column_width(36);
  Raw raw;
  add_server_options(app, out, raw);
  add_engine_options(app, out, raw);
  add_answer_options(app, out, raw);
  add_kv_events_options(app, out.kv_events);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  const std::string problem = settle(out, raw);
  if (problem.empty()) return std::nullopt;
  std::cerr << problem << "\n";
  return 1;
}

}  // namespace penstock::sim
