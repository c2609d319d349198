// What routing may know of a request. Built once per exchange; views into the exchange's body and head.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace penstock::endpoints {
struct EndpointState;
}

namespace penstock::routing {

struct Features {
  std::string_view model;    // target model (after rewrite); "" when the path has none
  std::string_view session;  // x-session-token or the body's session
  std::string_view fairness_id;
  int priority = 0;
  bool streaming = false;
  bool multimodal = false;          // images, audio or video in the prompt
  std::span<const uint64_t> media;  // a hash of each of them, once; of very many only the first
  // Where an earlier decision wanted to go next: the first of these that may answer is taken. Only compared with
  // candidates, so they may be gone.
  std::span<endpoints::EndpointState* const> planned;
  std::string_view header_fields;           // of its head, those that are passed on: "name: value\r\n"...
  std::string_view test_endpoints;          // test-epp-endpoint-selection: addresses in order, with commas
  uint32_t prompt_tokens = 0;               // estimate (or exact for token-id prompts)
  uint32_t max_tokens = 0;                  // 0: not said
  double slo_ttft_ms = 0, slo_tpot_ms = 0;  // 0: none
  std::span<const uint64_t> blocks;         // chain of block hashes; empty: nothing to match
  uint32_t block_tokens = 16;               // tokens in a block of the chain
  // Of a prompt given as token ids: its chain as ToldIndex has it, as long as `blocks`; empty: it cannot be known
  // there.
  std::span<const uint64_t> told_blocks;
};

// The value of the first field of that name, without the spaces around it, whatever the case of the name; "": none.
std::string_view header_of(const Features& features, std::string_view name);

}  // namespace penstock::routing
