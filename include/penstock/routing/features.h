// What routing knows about a request. Built for each decision; views into the exchange's body and head.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace penstock::endpoints {
struct EndpointState;
}

namespace penstock::routing {

struct Features {
  std::string_view model;    // target model (after rewrites); "": none, or one that no endpoint lists
  uint64_t kind = 0;         // kind_of() the request; 0: one that was not read
  std::string_view session;  // x-session-token or the body's session
  std::string_view fairness_id;
  int priority = 0;
  bool streaming = false;
  bool multimodal = false;          // images, audio or video in the prompt
  std::span<const uint64_t> media;  // their hashes, each once; at most openai::Request::media_max
  // The next choices of an earlier decision: the first of them that is a candidate is taken. The pointers are only
  // compared with candidates, so their endpoints may be gone.
  std::span<endpoints::EndpointState* const> planned;
  std::string_view header_fields;           // the forwarded header fields: "name: value\r\n"...
  std::string_view test_endpoints;          // test-epp-endpoint-selection: addresses in order, with commas
  uint32_t prompt_tokens = 0;               // estimate (or exact for token-id prompts)
  uint32_t max_tokens = 0;                  // the request's limit for its answer; 0: none
  double slo_ttft_ms = 0, slo_tpot_ms = 0;  // 0: none
  std::span<const uint64_t> blocks;         // chain of block hashes; empty: nothing to match
  uint32_t block_tokens = 16;               // tokens in a block of the chain
  // For a prompt given as token ids: its block hashes for ToldIndex, as many as `blocks`. Empty: ToldIndex cannot match
  // it.
  std::span<const uint64_t> told_blocks;
};

// Requests of one kind are answered or refused alike, as far as that depends on the endpoint: those for one model
// through one API (its number). Never 0.
uint64_t kind_of(std::string_view model, uint32_t api);

// The trimmed value of the first field with this name (case-insensitive); "": none.
std::string_view header_of(const Features& features, std::string_view name);

}  // namespace penstock::routing
