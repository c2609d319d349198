// The command line of penstock-sim.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "penstock/net/ring.h"
#include "sim/engine_names.h"
#include "sim/fault.h"

namespace penstock::sim {

enum class OnSigterm : uint8_t { drain, abort };

// How it publishes what its KV cache holds.
struct KvEventsOptions {
  std::optional<uint16_t> port, replay_port;  // nothing: it does not; 0: the kernel chooses
  std::string topic;
  bool older = false;               // as older versions of vLLM: events are arrays, replays have no topic
  std::vector<uint64_t> dropped;    // batches with these numbers are not published, but replayed
  uint32_t buffer_batches = 10000;  // kept for replays
};

struct Options {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;             // 0: the kernel chooses
  std::string name;                 // sent as x-sim-name when not empty
  std::vector<std::string> models;  // the first is the one in the metrics
  std::vector<std::string> loras;
  uint32_t max_loras = 4;
  EngineOptions engine;
  uint32_t max_model_len = 0;         // 0: what the KV cache holds
  uint32_t max_num_queued_reqs = 0;   // sequences that run or wait; 0: any number
  uint32_t max_tokens_default = 128;  // 0: as vLLM, which has no single one
  bool ascii = false;                 // answers have their text in ASCII, the rest escaped
  bool tokenizer = true;              // /tokenize and /detokenize
  bool bos = false;                   // prompts begin with a token of their own
  uint32_t tokens_per_chunk = 1;
  uint32_t embedding_dimensions = 64;
  double keep_alive_s = 5;
  double drain_timeout_s = 30;
  OnSigterm on_sigterm = OnSigterm::drain;
  net::RingKind ring = net::RingKind::automatic;
  std::vector<Fault> faults;
  KvEventsOptions kv_events;
};

// Fills `out`. A value when the program should exit at once, with that code (--help, --version or an error, which has
// been printed).
std::optional<int> parse_command_line(int argc, const char* const* argv, Options& out);

}  // namespace penstock::sim
