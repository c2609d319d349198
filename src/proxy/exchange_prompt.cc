// What routing is told about a request, the hash chain of its prompt, and what the decision says beside the endpoint.
#include <algorithm>

#include "exchange.h"
#include "penstock/base/text.h"
#include "penstock/openai/token_ids.h"

namespace penstock::proxy {

// Keeps what the decision says beside the endpoint: the endpoints to try next if this one fails, and header fields that
// tell it which servers prefill and encode.
void Exchange::keep_plan(const routing::Decision& decision) {
  if (!decision.next.empty()) {
    planned_count_ = static_cast<uint32_t>(std::min(decision.next.size(), planned_.size()));
    std::copy_n(decision.next.begin(), planned_count_, planned_.begin());
  }
  stage_fields_.clear();
  if (decision.prefill != nullptr) {
    append_all(stage_fields_, "x-prefiller-host-port: ", decision.prefill->address, "\r\n");
  }
  if (decision.kv_source != nullptr) {
    append_all(stage_fields_, "x-kv-cache-source-host-port: ", decision.kv_source->address, "\r\n");
  }
  if (decision.encode.empty()) return;
  stage_fields_ += "x-encoder-hosts-ports: ";
  for (const endpoints::EndpointState* const encoder : decision.encode) {
    if (encoder != decision.encode.front()) stage_fields_ += ',';
    stage_fields_ += encoder->address;
  }
  stage_fields_ += "\r\n";
}

routing::Features Exchange::features() {
  routing::Features features;
  features.model = routed_model();
  features.kind = request_kind();
  features.session = session();
  features.fairness_id = head_.fairness_id;
  features.priority = priority_;
  features.streaming = request_.stream;
  features.multimodal = request_.multimodal;
  features.media = request_.media;
  features.header_fields = head_.fields;
  features.test_endpoints = head_.test_endpoints;
  features.planned = {planned_.data(), planned_count_};
  features.prompt_tokens = prompt_tokens_;
  features.max_tokens = request_.max_tokens.value_or(0);
  features.slo_ttft_ms = head_.slo_ttft_ms;
  features.slo_tpot_ms = head_.slo_tpot_ms;
  features.block_tokens = block_tokens();
  if (!inference_ || !context_.hash_prompts) return features;
  if (held_ != nullptr && !context_.hash_told) {
    features.blocks = held_->chain;
    features.block_tokens = held_->prompt.block_tokens;  // the engines' own may have become known since
    return features;
  }
  hash_prompt(features);
  return features;
}

// Token ids are hashed as numbers, not as text, so that white space does not matter and block lengths are exact.
void Exchange::hash_prompt(routing::Features& features) {
  routing::PrefixHashOptions prefix = context_.options.prefix;
  prefix.block_tokens = features.block_tokens;
  prefix.hash = context_.chain_hash;
  if (const uint32_t most = context_.options.prefix_tokens_max; most > 0) {
    prefix.blocks_max = std::max(most / prefix.block_tokens, 1u);
  }
  context_.prompt.clear();
  for (const openai::Range& range : request_.prompt) context_.prompt.push_back(range.in(body_.view()));
  const bool ids =
      request_.prompt_token_ids > 0 && context_.prompt.size() == 1 &&
      openai::parse_token_ids(context_.prompt[0], size_t{prefix.blocks_max} * prefix.block_tokens, context_.token_ids);
  if (ids) {
    prefix.bytes_per_token = sizeof(uint32_t);
    context_.prompt[0] = routing::bytes_of(context_.token_ids);
  }
  routing::hash_prompt(target_model_, request_.cache_salt, context_.prompt, prefix, context_.chain);
  features.blocks = context_.chain;
  // KV events do not report the salt of a block, so salted prompts cannot be matched with them.
  if (!ids || !context_.hash_told || !request_.cache_salt.empty()) return;
  prefix.hash = routing::ChainHash::xxh3;  // as kvevents::BlockMap
  routing::hash_prompt(adapter(), {}, context_.prompt, prefix, context_.told_chain);
  features.told_blocks = context_.told_chain;
}

// The target model's name if it is a LoRA adapter, else "". The first endpoint that lists the model decides.
std::string_view Exchange::adapter() {
  const endpoints::Pool* const pool = pool_id_.has_value() ? gateway_.pool(*pool_id_) : nullptr;
  if (pool == nullptr) return {};
  const auto has = [this](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), target_model_) != names.end();
  };
  for (const endpoints::EndpointView& endpoint : pool->endpoints) {
    if (has(endpoint.models)) return has(endpoint.adapters) ? std::string_view(target_model_) : "";
  }
  return {};
}

uint32_t Exchange::block_tokens() const {
  const uint32_t usual = context_.options.prefix.block_tokens;
  if (!context_.options.tune_blocks || !pool_id_.has_value()) return usual;
  const endpoints::Pool* const pool = gateway_.pool(*pool_id_);
  return pool == nullptr ? usual : routing::tuned_block_tokens(*pool, usual);
}

}  // namespace penstock::proxy
