// A recorded trace: when requests came, how long their prompts and answers were and, where the recording says so, which
// beginnings they shared. Readers of three formats; the format is told from the first line. Pure.
//
//   Mooncake     JSON lines: timestamp (ms), input_length, output_length and, possibly, hash_ids: one id for each 512
//                tokens of the prompt; equal ids mean an equal prompt up to there
//   Azure        CSV of the Azure LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens
//   access log   our own, as JSON lines: time, prompt_tokens, completion_tokens. Requests without usage are left out
#pragma once

#include <cstdint>
#include <istream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"
#include "penstock/base/time.h"

namespace penstock::replay {

struct TraceRequest {
  Duration at{};      // since the first request
  Duration spread{};  // the recording is only this exact: it came within this time after `at`
  uint32_t prompt_tokens = 0, output_tokens = 0;
  uint64_t first_id = 0;  // in Trace::ids
  uint32_t id_count = 0;  // 0: what it shares is not known (nothing, then)
};

struct Trace {
  static constexpr uint32_t tokens_per_id = 512;  // as recorded
  uint32_t id_tokens = tokens_per_id;             // as scale_lengths() left it
  std::vector<TraceRequest> requests;             // in order of time
  std::vector<uint64_t> ids;
  size_t left_out = 0;  // records without what a replay needs

  std::span<const uint64_t> ids_of(const TraceRequest& request) const {
    return std::span(ids).subspan(request.first_id, request.id_count);
  }
  // How long it took, at its own speed.
  Duration length() const { return requests.empty() ? Duration::zero() : requests.back().at; }
};

// `name` is for the message: "name:line: what is wrong".
Result<Trace> read_trace(std::istream& in, std::string_view name);
// All requests of all traces, each trace from its own beginning; what requests of different traces share is forgotten.
Trace merge(std::span<const Trace> traces);
// Prompts and answers become `factor` times as long, of 1 token at least; what they share stays shared. Before it the
// trace is as it was read.
void scale_lengths(Trace& trace, double factor);
// The first `limit` requests (0: all).
void cut(Trace& trace, size_t limit);

// The chain of block hashes of a prompt: its full blocks of `block_tokens`. Equal prompts have equal chains, whatever
// the block size. Blocks beyond the recorded ids are shared with nobody.
void prompt_chain(const Trace& trace, size_t request, uint32_t block_tokens, std::vector<uint64_t>& chain);

}  // namespace penstock::replay
