#include "penstock/openai/delivered.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "blocks.h"
#include "chunk.h"
#include "json_string.h"
#include "penstock/base/text.h"

namespace penstock::openai {
namespace {

constexpr size_t shape_bytes_max = 4 * 1024;
constexpr size_t head_bytes_max = 1024;
constexpr uint32_t text_bytes_first = 64;

// Bytes of a string that need no second look: no quote, escape or control character, and not the first of U+FFFD.
constexpr std::array<bool, 256> plain = [] {
  std::array<bool, 256> table{};
  for (size_t c = 0x20; c < table.size(); ++c) table[c] = c != '"' && c != '\\' && c != 0xEF;
  return table;
}();

constexpr std::string_view object_of(Api api) {
  return api == Api::chat_completions ? R"("object":"chat.completion.chunk")" : R"("object":"text_completion")";
}

std::string head_of(Api api, const Chunk& chunk) {
  std::string head = "{";
  if (!chunk.id.empty()) append_all(head, R"("id":)", chunk.id, ",");
  head += object_of(api);
  if (!chunk.created.empty()) append_all(head, R"(,"created":)", chunk.created);
  if (!chunk.model.empty()) append_all(head, R"(,"model":)", chunk.model);
  return head;
}

bool gave_up(std::string_view finish_reason) {
  return finish_reason == "abort" || finish_reason == "error";
}

}  // namespace

// Remembering text

// False: it may be no piece of text, or it is too much; nothing was remembered. Text is short: to copy each byte with
// the look at it costs less than a call. Of long pieces sixteen bytes are looked at together.
bool Delivered::add_plain(std::string_view escaped) {
  if (escaped.size() > capacity_ - size_ && !make_room(escaped.size())) return false;
  char* to = text_.get() + size_;
  std::string_view rest = escaped;
  for (; rest.size() >= sizeof(Block); rest.remove_prefix(sizeof(Block)), to += sizeof(Block)) {
    const Block block = block_at(rest.data());
    if (any((block < 0x20) | (block == '"') | (block == '\\') | (block == 0xEF))) return add_checked(escaped);
    std::memcpy(to, &block, sizeof(Block));
  }
  for (const char c : rest) {
    if (!plain[static_cast<unsigned char>(c)]) return add_checked(escaped);
    *to++ = c;
  }
  size_ += static_cast<uint32_t>(escaped.size());
  ++events_;
  return true;
}

bool Delivered::add_checked(std::string_view escaped) {
  const StringCheck check = check_string(escaped);
  if (check == StringCheck::replaced) stop(ResumeObstacle::replacement_character);
  if (check != StringCheck::good) return check != StringCheck::broken;
  std::copy(escaped.begin(), escaped.end(), text_.get() + size_);
  size_ += static_cast<uint32_t>(escaped.size());
  ++events_;
  return true;
}

// By a quarter, since there are many streams and their memory is counted by the token. False: it is too long now.
bool Delivered::make_room(size_t bytes) {
  const size_t needed = size_ + bytes;
  if (needed > longest_text_) {
    stop(ResumeObstacle::too_long);
    return false;
  }
  const size_t more = std::min<size_t>(longest_text_, std::max(capacity_ + capacity_ / 4, text_bytes_first));
  capacity_ = static_cast<uint32_t>(std::max(needed, more));
  auto larger = std::make_unique_for_overwrite<char[]>(capacity_);
  std::copy(text_.get(), text_.get() + size_, larger.get());
  text_ = std::move(larger);
  return true;
}

void Delivered::add(std::string_view escaped) {
  if (!can_go_on() || add_plain(escaped)) return;
  if (can_go_on()) stop(ResumeObstacle::unknown_event);
}

void Delivered::finish(std::string_view reason) {
  finished_ = true;
  matching_ = false;
  finish_reason_ = reason;
}

// What our own events are made from stays: the text that stopped it may be in one of them.
void Delivered::stop(ResumeObstacle obstacle) {
  obstacle_ = obstacle;
  matching_ = false;
  text_.reset();
  size_ = capacity_ = 0;
}

// Reading events

Delivered::Took Delivered::read(std::string_view data) {
  if (!can_go_on() || !data.starts_with('{')) return Took::other;
  Chunk chunk;
  const bool whole = read_chunk(api_, data, chunk);
  if (whole && (chunk.error || gave_up(chunk.finish_reason))) return Took::other;
  const bool sane = chunk.id.size() + chunk.created.size() + chunk.model.size() <= head_bytes_max;
  if (!whole || !sane) {
    stop(ResumeObstacle::unknown_event);
  } else if (chunk.obstacle != ResumeObstacle::none) {
    stop(chunk.obstacle);
  } else {
    const std::string head = head_of(api_, chunk);
    if (head_.empty()) head_ = head;
    if (chunk.choice) return read_choice(data, chunk, head);
  }
  return Took::other;
}

Delivered::Took Delivered::read_choice(std::string_view data, const Chunk& chunk, const std::string& head) {
  const bool last = !chunk.finish_reason.empty();
  if (finished_) stop(ResumeObstacle::unknown_event);
  // A chunk with the finish reason may have the usage as well: nothing is continued behind it.
  if (chunk.usage && !last) stop(ResumeObstacle::usage_in_chunks);
  const bool first_role = chunk.role && !role_seen_;
  role_seen_ = role_seen_ || chunk.role;
  if (chunk.has_text && !(chunk.text.empty() && (first_role || last))) add(chunk.text);
  if (!can_go_on()) return Took::other;
  if (last) {
    finish(chunk.finish_reason);
    return Took::other;
  }
  if (!chunk.has_text || first_role) return Took::other;
  keep_shape(data, chunk, head);
  return Took::text;
}

// Only of an event with nothing unusual in it, which would be said again in those of ours. In servers that say the role
// in each event it is not unusual.
void Delivered::keep_shape(std::string_view data, const Chunk& chunk, const std::string& head) {
  matching_ = !chunk.extra && data.size() - chunk.text.size() <= shape_bytes_max;
  if (!matching_) return;
  before_ = static_cast<uint32_t>(chunk.text.data() - data.data());
  const std::string_view after = data.substr(before_ + chunk.text.size());
  std::string shape;
  shape.reserve(before_ + after.size());
  shape_ = std::move(shape.append(data.substr(0, before_)).append(after));
  shape_has_head_ = head == head_;
}

// Events of ours

void Delivered::append_head(std::string& out) const {
  out += "data: ";
  if (!head_.empty()) {
    out += head_;
  } else {  // nothing came that had an id
    append_all(out, "{", object_of(api_));
  }
}

void Delivered::append_text_event(std::string& out, std::string_view escaped) const {
  const std::string_view shape = shape_;
  if (shape_has_head_) {
    return append_all(out, "data: ", shape.substr(0, before_), escaped, shape.substr(before_), "\n\n");
  }
  append_head(out);
  if (api_ == Api::chat_completions) {
    append_all(out, R"(,"choices":[{"index":0,"delta":{"content":")", escaped,
               "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
  } else {
    append_all(out, R"(,"choices":[{"index":0,"text":")", escaped,
               "\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}]}\n\n");
  }
}

void Delivered::append_finish_event(std::string& out, std::string_view reason,
                                    std::string_view stop_reason_json) const {
  const std::string_view content = api_ == Api::chat_completions ? R"("delta":{"content":""})" : R"("text":"")";
  append_head(out);
  append_all(out, R"(,"choices":[{"index":0,)", content, R"(,"logprobs":null,"finish_reason":")", reason,
             R"(","stop_reason":)", stop_reason_json.empty() ? "null" : stop_reason_json, "}]}\n\n");
}

void Delivered::append_usage_event(std::string& out, uint32_t prompt_tokens, uint32_t completion_tokens,
                                   std::optional<uint32_t> cached_tokens) const {
  const auto number = [](uint64_t value) { return std::to_string(value); };
  append_head(out);
  append_all(out, R"(,"choices":[],"usage":{"prompt_tokens":)", number(prompt_tokens), R"(,"total_tokens":)",
             number(uint64_t{prompt_tokens} + completion_tokens), R"(,"completion_tokens":)",
             number(completion_tokens));
  if (cached_tokens) append_all(out, R"(,"prompt_tokens_details":{"cached_tokens":)", number(*cached_tokens), "}");
  out += "}}\n\n";
}

}  // namespace penstock::openai
