// Bodies of the answers that are not generated text: embeddings, scores, tokens. Numbers are functions of the prompt.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sim/answer.h"

namespace penstock::sim {

struct EmbeddingFormat {
  uint32_t dimensions = 64;
  bool base64 = false;  // little-endian floats; else a JSON array
};
// `digests`: one per prompt (TokenStream::digest). Vectors have length 1.
void append_embeddings(std::string& out, const AnswerShape& shape, std::span<const uint64_t> digests,
                       const EmbeddingFormat& format, const Tally& tally);
// Results in order of relevance, the best `top_n` of them (0: all).
void append_rerank(std::string& out, const AnswerShape& shape, std::span<const uint64_t> digests,
                   std::span<const std::string> documents, uint32_t top_n, const Tally& tally);
void append_scores(std::string& out, const AnswerShape& shape, std::span<const uint64_t> digests, const Tally& tally);

// The text's tokens, cut from its beginning; `strings`: and each one's text.
void append_tokens(std::string& out, std::string_view text, uint32_t max_model_len, bool strings);
void append_detokenized(std::string& out, std::span<const uint32_t> tokens);

}  // namespace penstock::sim
