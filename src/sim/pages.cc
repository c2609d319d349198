#include "sim/pages.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <vector>

#include "penstock/base/random.h"
#include "penstock/base/text.h"

namespace penstock::sim {
namespace {

void append_float(std::string& out, double value) {
  char text[40];
  out.append(text, std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 6).ptr);
}

void append_base64(std::string& out, std::string_view bytes) {
  constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k) {
      const uint32_t byte = i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0;
      three = three << 8 | byte;
    }
    for (size_t k = 0; k < 4; ++k) out += i + k > bytes.size() ? '=' : alphabet[three >> (18 - 6 * k) & 63];
  }
}

std::vector<float> embedding_of(uint64_t digest, uint32_t dimensions) {
  Random random(digest);
  std::vector<float> vector(dimensions);
  double squares = 0;
  for (float& x : vector) {
    x = static_cast<float>(random.unit() * 2 - 1);
    squares += double{x} * x;
  }
  for (float& x : vector) x = static_cast<float>(x / std::sqrt(squares));
  return vector;
}

double score_of(uint64_t digest) {
  return Random(digest).unit();
}

void append_head(std::string& out, const AnswerShape& shape, std::string_view object) {
  out.append("{\"id\":\"").append(shape.id).append("\",\"object\":\"").append(object);
  out.append("\",\"created\":").append(std::to_string(shape.created)).append(",\"model\":");
  append_json_string(out, shape.model);
}

void append_usage(std::string& out, const Tally& tally) {
  const std::string tokens = std::to_string(tally.prompt_tokens);
  out.append(",\"usage\":{\"prompt_tokens\":").append(tokens).append(",\"total_tokens\":").append(tokens);
  out.append(",\"completion_tokens\":0,\"prompt_tokens_details\":{\"cached_tokens\":");
  out.append(std::to_string(tally.cached_tokens)).append("}}");
}

}  // namespace

void append_embeddings(std::string& out, const AnswerShape& shape, std::span<const uint64_t> digests,
                       const EmbeddingFormat& format, const Tally& tally) {
  append_head(out, shape, "list");
  out += ",\"data\":[";
  for (size_t i = 0; i < digests.size(); ++i) {
    out.append(i == 0 ? "" : ",").append("{\"index\":").append(std::to_string(i));
    out.append(",\"object\":\"embedding\",\"embedding\":");
    const std::vector<float> vector = embedding_of(digests[i], format.dimensions);
    if (format.base64) {
      out += '"';
      append_base64(out, {reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float)});
      out += "\"}";
      continue;
    }
    for (size_t k = 0; k < vector.size(); ++k) {
      out += k == 0 ? '[' : ',';
      append_float(out, vector[k]);
    }
    out += "]}";
  }
  out += "]";
  append_usage(out, tally);
  out += "}";
}

void append_rerank(std::string& out, const AnswerShape& shape, std::span<const uint64_t> digests,
                   std::span<const std::string> documents, uint32_t top_n, const Tally& tally) {
  std::vector<size_t> order(digests.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return score_of(digests[a]) > score_of(digests[b]); });
  if (top_n > 0 && top_n < order.size()) order.resize(top_n);
  out.append("{\"id\":\"").append(shape.id).append("\",\"model\":");
  append_json_string(out, shape.model);
  out.append(",\"usage\":{\"total_tokens\":").append(std::to_string(tally.prompt_tokens)).append("},\"results\":[");
  for (size_t rank = 0; rank < order.size(); ++rank) {
    out.append(rank == 0 ? "" : ",").append("{\"index\":").append(std::to_string(order[rank]));
    out += ",\"document\":{\"text\":";
    append_json_string(out, documents[order[rank]]);
    out += "},\"relevance_score\":";
    append_float(out, score_of(digests[order[rank]]));
    out += "}";
  }
  out += "]}";
}

void append_scores(std::string& out, const AnswerShape& shape, std::span<const uint64_t> digests, const Tally& tally) {
  append_head(out, shape, "list");
  out += ",\"data\":[";
  for (size_t i = 0; i < digests.size(); ++i) {
    out.append(i == 0 ? "" : ",")
        .append("{\"index\":")
        .append(std::to_string(i))
        .append(",\"object\":\"score\",\"score\":");
    append_float(out, score_of(digests[i]));
    out += "}";
  }
  out += "]";
  append_usage(out, tally);
  out += "}";
}

void append_tokens(std::string& out, std::string_view text, uint32_t max_model_len, bool strings) {
  std::string ids, texts;
  size_t count = 0;
  for (; !text.empty(); ++count) {
    const std::string_view token = text.substr(0, bytes_per_token);
    text.remove_prefix(token.size());
    ids.append(count == 0 ? "" : ",").append(std::to_string(token_id_of(token)));
    if (!strings) continue;
    texts += count == 0 ? "" : ",";
    append_json_string(texts, token);  // a character that is cut shows as U+FFFD on both sides
  }
  out.append("{\"count\":").append(std::to_string(count)).append(",\"max_model_len\":");
  out.append(std::to_string(max_model_len)).append(",\"tokens\":[").append(ids).append("],\"token_strs\":");
  if (strings) out.append("[").append(texts).append("]}");
  else out += "null}";
}

void append_detokenized(std::string& out, std::span<const uint32_t> tokens) {
  std::string text;
  for (const uint32_t id : tokens) text += bytes_of_token(id).view();
  out += "{\"prompt\":\"";
  append_json_text(out, text, /*ascii=*/false);
  out += "\"}";
}

}  // namespace penstock::sim
