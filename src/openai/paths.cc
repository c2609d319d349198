#include "penstock/openai/paths.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "penstock/base/url_path.h"

namespace penstock::openai {
namespace {

enum Methods : uint8_t { get = 1, post = 2, put = 4, del = 8 };

enum class Kind : uint8_t {
  inference,  // costs work; the body is JSON
  media,      // costs work; the body is a form, or anything
  cheap,      // costs next to nothing
};

struct Row {
  std::string_view path;
  uint8_t methods;
  Kind kind;
  Api api = Api::other;
};

// By path. SGLang takes PUT for some of them.
constexpr uint8_t run = post | put;
constexpr Row rows[] = {
    {"/api/chat", run, Kind::inference},      // Ollama's, in SGLang and llama.cpp
    {"/api/generate", run, Kind::inference},  // likewise
    {"/api/show", post, Kind::cheap},
    {"/api/tags", get, Kind::cheap},
    {"/api/version", get, Kind::cheap},
    {"/apply-template", post, Kind::cheap},
    {"/chat/completions", run, Kind::inference, Api::chat_completions},
    {"/chat_tokenize", post, Kind::cheap},
    {"/classify", run, Kind::inference},
    {"/completion", run, Kind::inference},  // llama.cpp's own
    {"/completions", run, Kind::inference},
    {"/detokenize", post, Kind::cheap},
    {"/embedding", run, Kind::inference},
    {"/embeddings", run, Kind::inference},
    {"/encode", run, Kind::inference},
    {"/generate", run, Kind::inference},
    {"/generate_stream", run, Kind::inference},
    {"/generative_scoring", run, Kind::inference},
    {"/get_model_info", get, Kind::cheap},
    {"/health", get, Kind::cheap},
    {"/health_generate", get, Kind::cheap},
    {"/inference/v1/generate", run, Kind::inference},
    {"/infill", run, Kind::inference},
    {"/info", get, Kind::cheap},
    {"/invocations", run, Kind::inference},
    {"/model_info", get, Kind::cheap},
    {"/models", get, Kind::cheap},
    {"/ping", get | post, Kind::cheap},
    {"/pooling", run, Kind::inference},
    {"/ready", get, Kind::cheap},
    {"/rerank", run, Kind::inference},
    {"/reranking", run, Kind::inference},
    {"/responses", run, Kind::inference, Api::responses},
    {"/score", run, Kind::inference},
    {"/tokenize", post, Kind::cheap},
    {"/tokenizer_info", get, Kind::cheap},
    {"/v1/audio/speech", run, Kind::inference},
    {"/v1/audio/transcriptions", run, Kind::media},
    {"/v1/audio/translations", run, Kind::media},
    {"/v1/audio/voices", get, Kind::cheap},
    {"/v1/chat/completions", run, Kind::inference, Api::chat_completions},
    {"/v1/chat/completions/batch", run, Kind::inference},
    {"/v1/chat/completions/render", post, Kind::cheap},
    {"/v1/classify", run, Kind::inference},
    {"/v1/completions", run, Kind::inference, Api::completions},
    {"/v1/completions/render", post, Kind::cheap},
    {"/v1/conversations", post, Kind::inference, Api::conversations},
    {"/v1/decisions", run, Kind::inference},
    {"/v1/detokenize", post, Kind::cheap},
    {"/v1/embeddings", run, Kind::inference, Api::embeddings},
    {"/v1/health", get, Kind::cheap},
    {"/v1/images/edits", run, Kind::media},
    {"/v1/images/generations", run, Kind::inference},
    {"/v1/messages", run, Kind::inference, Api::messages},
    {"/v1/messages/count_tokens", post, Kind::cheap},
    {"/v1/models", get, Kind::cheap},
    {"/v1/realtime", get, Kind::cheap},  // a WebSocket: what it costs is the session's affair
    {"/v1/rerank", run, Kind::inference},
    {"/v1/reranking", run, Kind::inference},
    {"/v1/responses", run, Kind::inference, Api::responses},
    {"/v1/responses/compact", run, Kind::inference},
    {"/v1/responses/input_tokens", post, Kind::cheap},
    {"/v1/score", run, Kind::inference},
    {"/v1/tokenize", post, Kind::cheap},
    {"/v2/embed", run, Kind::inference},
    {"/v2/rerank", run, Kind::inference},
    {"/version", get, Kind::cheap},
    {"/vertex_generate", run, Kind::inference},
};
static_assert(std::is_sorted(std::begin(rows), std::end(rows),
                             [](const Row& a, const Row& b) { return a.path < b.path; }));

// Lengths are compared faster than texts, and most paths differ in theirs.
constexpr bool shorter(std::string_view a, std::string_view b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}
constexpr auto rows_by_length = [] {
  std::array<Row, std::size(rows)> sorted{};
  std::copy(std::begin(rows), std::end(rows), sorted.begin());
  std::sort(sorted.begin(), sorted.end(), [](const Row& a, const Row& b) { return shorter(a.path, b.path); });
  return sorted;
}();

// As patterns of path_matches(). The first that matches counts.
constexpr Row patterns[] = {
    {"/v1/models/**", get, Kind::cheap},
    {"/v1/responses/*", get | del, Kind::cheap},
    {"/v1/responses/*/cancel", post, Kind::cheap},
    {"/v1/responses/*/input_items", get, Kind::cheap},
    {"/v1/conversations/*", get | post | del, Kind::cheap},
    {"/v1/conversations/*/items", get | post, Kind::cheap},
    {"/v1/conversations/*/items/*", get | del, Kind::cheap},
};

// The row of a path, whatever the method; null: it is not listed.
const Row* row_of(std::string_view path) {
  const auto row =
      std::lower_bound(rows_by_length.begin(), rows_by_length.end(), path,
                       [](const Row& entry, std::string_view wanted) { return shorter(entry.path, wanted); });
  if (row != rows_by_length.end() && row->path == path) return &*row;
  if (!path.starts_with(std::string_view("/v1/"))) return nullptr;
  const auto matches = [&](const Row& entry) { return path_matches(entry.path, path); };
  const Row* const pattern = std::find_if(std::begin(patterns), std::end(patterns), matches);
  return pattern == std::end(patterns) ? nullptr : pattern;
}

// HEAD goes with GET. OPTIONS is asked by browsers before any other method (CORS).
uint8_t method_bits(std::string_view method) {
  if (method == "POST") return post;
  if (method == "GET" || method == "HEAD") return get;
  if (method == "PUT") return put;
  if (method == "DELETE") return del;
  return method == "OPTIONS" ? 0xff : 0;
}

bool has_work(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

struct Suffix {
  std::string_view text;
  Api api;
};
// No entry is a suffix of another, since each begins with "/v1".
constexpr std::array<Suffix, 6> suffixes = {{
    {"/v1/completions", Api::completions},
    {"/v1/chat/completions", Api::chat_completions},
    {"/v1/responses", Api::responses},
    {"/v1/conversations", Api::conversations},
    {"/v1/embeddings", Api::embeddings},
    {"/v1/messages", Api::messages},
}};

Api api_by_suffix(std::string_view path) {
  for (const Suffix& suffix : suffixes) {
    if (path.ends_with(suffix.text)) return suffix.api;
  }
  return Api::other;
}

void append_row(std::string& out, const Row& row) {
  std::string methods;
  for (const auto& [bit, name] : {std::pair(get, "GET"), {post, "POST"}, {put, "PUT"}, {del, "DELETE"}}) {
    if ((row.methods & bit) != 0) methods.append(methods.empty() ? "" : ",").append(name);
  }
  out.append(methods).append(" ").append(row.path).append("\n");
}

}  // namespace

PathInfo path_info(std::string_view method, std::string_view target) {
  const std::string_view path = bare_path(target);
  const bool works = has_work(method);
  if (const Row* const row = row_of(path)) {
    const bool costs = works && row->kind != Kind::cheap;
    return {.api = works ? row->api : Api::other,
            .listed = (row->methods & method_bits(method)) != 0,
            .costs_work = costs,
            .json = costs && row->kind == Kind::inference};
  }
  const Api api = works ? api_by_suffix(path) : Api::other;
  return {.api = api, .listed = false, .costs_work = works, .json = api != Api::other};
}

std::string_view response_id_in_path(std::string_view target) {
  constexpr std::string_view parent = "/v1/responses/";
  if (!target.starts_with(parent)) return {};
  std::string_view id = bare_path(target);
  id.remove_prefix(std::min(id.size(), parent.size()));
  id = id.substr(0, id.find('/'));
  return id == "compact" || id == "input_tokens" ? std::string_view() : id;
}

std::string describe_listed_paths() {
  std::string out;
  for (const Row& row : rows) append_row(out, row);
  for (const Row& row : patterns) append_row(out, row);
  return out;
}

}  // namespace penstock::openai
