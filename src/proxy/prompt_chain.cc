#include "prompt_chain.h"

#include <algorithm>

#include "penstock/openai/token_ids.h"

namespace penstock::proxy {

namespace {

// The target model's name if it is a LoRA adapter, else "". The first endpoint that lists the model decides.
std::string_view adapter_of(const std::string& model, const endpoints::Pool* pool) {
  if (pool == nullptr) return {};
  const auto has = [&](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), model) != names.end();
  };
  for (const endpoints::EndpointView& endpoint : pool->endpoints) {
    if (has(endpoint.models)) return has(endpoint.adapters) ? std::string_view(model) : "";
  }
  return {};
}

}  // namespace

uint32_t block_tokens(const Context& context, const endpoints::Pool* pool) {
  const uint32_t usual = context.options.prefix.block_tokens;
  return !context.options.tune_blocks || pool == nullptr ? usual : routing::tuned_block_tokens(*pool, usual);
}

// Token ids are hashed as numbers, not as text, so that white space does not matter and block lengths are exact.
void hash_prompt(Context& context, const Intake& intake, const endpoints::Pool* pool, routing::Features& features) {
  const openai::Request& request = intake.request();
  routing::PrefixHashOptions prefix = context.options.prefix;
  prefix.block_tokens = features.block_tokens;
  prefix.hash = context.chain_hash;
  if (const uint32_t most = context.options.prefix_tokens_max; most > 0) {
    prefix.blocks_max = std::max(most / prefix.block_tokens, 1u);
  }
  context.prompt.clear();
  for (const openai::Range& range : request.prompt) context.prompt.push_back(range.in(intake.body().view()));
  const bool ids =
      request.prompt_token_ids > 0 && context.prompt.size() == 1 &&
      openai::parse_token_ids(context.prompt[0], size_t{prefix.blocks_max} * prefix.block_tokens, context.token_ids);
  if (ids) {
    prefix.bytes_per_token = sizeof(uint32_t);
    context.prompt[0] = routing::bytes_of(context.token_ids);
  }
  routing::hash_prompt(intake.target_model(), request.cache_salt, context.prompt, prefix, context.chain);
  features.blocks = context.chain;
  // KV events do not report the salt of a block, so salted prompts cannot be matched with them.
  if (!ids || !context.hash_told || !request.cache_salt.empty()) return;
  prefix.hash = routing::ChainHash::xxh3;  // as kvevents::BlockMap
  routing::hash_prompt(adapter_of(intake.target_model(), pool), {}, context.prompt, prefix, context.told_chain);
  features.told_blocks = context.told_chain;
}

}  // namespace penstock::proxy
