#include "penstock/openai/delivered.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include "blocks.h"
#include "chunk.h"
#include "json_string.h"
#include "penstock/base/containers.h"
#include "penstock/base/text.h"
#include "penstock/openai/token_ids.h"
#include "stream_format.h"

namespace penstock::openai {
namespace {

constexpr size_t shape_bytes_max = 4 * 1024;
constexpr size_t head_bytes_max = 1024;
constexpr uint32_t text_bytes_first = 64;
constexpr size_t ids_first = 16;

// Bytes of a string that need no second look: no quote, escape or control character, and not the first of U+FFFD.
constexpr std::array<bool, 256> plain = [] {
  std::array<bool, 256> table{};
  for (size_t c = 0x20; c < table.size(); ++c) table[c] = c != '"' && c != '\\' && c != 0xEF;
  return table;
}();

bool gave_up(std::string_view finish_reason) {
  return finish_reason == "abort" || finish_reason == "error";
}

}  // namespace

Delivered::Delivered(Api api, uint32_t longest_text, bool keeps_ids)
    : format_(*stream_format_of(api)),
      keeps_ids_(keeps_ids),
      repeats_text_(format_.repeats_text()),
      longest_text_(longest_text) {}

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
  if (check == StringCheck::broken) return false;
  if (check == StringCheck::replaced) {
    replaced_ = true;
    if (!keeps_ids_) stop(ResumeObstacle::replacement_character);
    if (!can_go_on()) return true;
  }
  append(escaped);
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

void Delivered::add_ids(const Chunk& chunk) {
  if (!keeps_ids_) return;
  if (chunk.token_ids.empty()) {
    if (!chunk.text.empty()) forget_ids();
    return;
  }
  const auto commas = std::count(chunk.token_ids.begin(), chunk.token_ids.end(), ',');
  const size_t size = ids_.size() + static_cast<size_t>(commas) + 1;
  if (size > longest_text_) return stop(ResumeObstacle::too_long);
  if (size > ids_.capacity()) ids_.reserve(std::max({size, ids_.capacity() + ids_.capacity() / 4, ids_first}));
  if (!append_token_ids(chunk.token_ids, size, ids_)) forget_ids();
}

void Delivered::forget_ids() {
  keeps_ids_ = false;
  free_memory(ids_);
  if (replaced_) stop(ResumeObstacle::replacement_character);
}

void Delivered::remember(std::string_view escaped) {
  if (!can_go_on() || add_plain(escaped)) return;
  if (can_go_on()) stop(ResumeObstacle::unknown_event);
}

// Text with bytes that are not known cannot be continued again, but said again at the end.
void Delivered::add(std::string_view escaped) {
  if (can_go_on() && repeats_text_ && check_string(escaped) == StringCheck::replaced) {
    obstacle_ = ResumeObstacle::replacement_character;
    keeps_on_ = true;
  }
  if (keeps_on_) append(escaped);
  else remember(escaped);
}

void Delivered::append(std::string_view escaped) {
  if (escaped.size() > capacity_ - size_ && !make_room(escaped.size())) return;
  std::copy(escaped.begin(), escaped.end(), text_.get() + size_);
  size_ += static_cast<uint32_t>(escaped.size());
  ++events_;
}

// Where the reason comes with the usage, the client does not have it yet.
void Delivered::finish(std::string_view reason, std::string_view stop_reason_json) {
  finish_reason_ = reason;
  stop_reason_ = stop_reason_json;
  finished_ = format_.says_reason_first();
  matching_ = false;
  number_at_ = 0;
}

// What our own events are made from stays: the text that stopped it may be in one of them.
void Delivered::stop(ResumeObstacle obstacle) {
  obstacle_ = obstacle;
  matching_ = holds_ = keeps_on_ = false;
  number_at_ = 0;
  text_.reset();
  free_memory(ids_);
  size_ = capacity_ = 0;
}

// Reading events

// An event like the last one with the number that is due.
bool Delivered::take_numbered(std::string_view data) {
  const std::string_view shape = shape_;
  const std::string_view middle = shape.substr(before_, number_at_ - before_), end = shape.substr(number_at_);
  char digits[10];
  const std::string_view number(
      digits, std::to_chars(std::begin(digits), std::end(digits), state_.next_number).ptr - std::begin(digits));
  if (data.size() < shape.size() + number.size() || !data.starts_with(shape.substr(0, before_))) return false;
  data.remove_prefix(before_);
  for (const std::string_view part : {end, number, middle}) {
    if (!data.ends_with(part)) return false;
    data.remove_suffix(part.size());
  }
  if (!add_plain(data)) return false;
  ++state_.next_number;
  return true;
}

Delivered::Took Delivered::read(std::string_view data) {
  if (number_at_ != 0 && take_numbered(data)) return can_go_on() ? Took::text : Took::other;
  if (!can_go_on() || !data.starts_with('{')) return Took::other;
  Chunk chunk;
  const bool whole = format_.read(data, chunk);
  if (whole && (chunk.error || gave_up(chunk.finish_reason))) return Took::other;
  const bool sane = chunk.id.size() + chunk.created.size() + chunk.model.size() <= head_bytes_max;
  if (!whole || !sane) {
    stop(ResumeObstacle::unknown_event);
  } else if (chunk.has_ids && !keeps_ids_) {
    stop(ResumeObstacle::token_ids);
  } else if (chunk.obstacle != ResumeObstacle::none) {
    stop(chunk.obstacle);
  } else if (const ResumeObstacle misplaced = format_.note(chunk, state_); misplaced != ResumeObstacle::none) {
    stop(misplaced);
  } else {
    return read_noted(data, chunk);
  }
  return Took::other;
}

Delivered::Took Delivered::read_noted(std::string_view data, const Chunk& chunk) {
  const bool place = chunk.place == Chunk::Place::anywhere || chunk.place == Chunk::Place::close;
  if (holds_ && !place) stop(ResumeObstacle::unknown_event);  // there is more than one text
  if (chunk.held) {
    holds_ = true;
    matching_ = false;
    number_at_ = 0;
  }
  return chunk.choice && can_go_on() ? read_choice(data, chunk) : Took::other;
}

Delivered::Took Delivered::read_choice(std::string_view data, const Chunk& chunk) {
  const bool last = !chunk.finish_reason.empty();
  if (finished_) stop(ResumeObstacle::unknown_event);
  // A chunk with the finish reason may have the usage as well: nothing is continued behind it.
  if (chunk.usage && !last) stop(ResumeObstacle::usage_in_chunks);
  const bool first_role = chunk.role && !role_seen_;
  role_seen_ = role_seen_ || chunk.role;
  add_ids(chunk);
  if (chunk.has_text && !(chunk.text.empty() && (first_role || last))) remember(chunk.text);
  if (!can_go_on()) return Took::other;
  if (last) {
    finish(chunk.finish_reason, chunk.stop_reason);
    finished_ = true;
    holds_ = false;
    return Took::other;
  }
  if (!chunk.has_text || first_role) return Took::other;
  keep_shape(data, chunk);
  return Took::text;
}

// Only of an event with nothing unusual in it, which would be said again in those of ours. In servers that say the role
// in each event it is not unusual.
void Delivered::keep_shape(std::string_view data, const Chunk& chunk) {
  const bool ordinary = !chunk.extra && !keeps_ids_ && data.size() - chunk.text.size() <= shape_bytes_max;
  number_at_ = 0;
  matching_ = ordinary && chunk.number.empty();
  if (!chunk.number.empty()) return keep_numbered_shape(data, chunk, ordinary);
  if (!matching_) return;
  before_ = static_cast<uint32_t>(chunk.text.data() - data.data());
  const std::string_view after = data.substr(before_ + chunk.text.size());
  std::string shape;
  shape.reserve(before_ + after.size());
  shape_ = std::move(shape.append(data.substr(0, before_)).append(after));
  shape_repeats_ = format_.can_repeat(chunk, state_);
}

// Without the number, which is another one in each event. Only where it stands behind the text.
void Delivered::keep_numbered_shape(std::string_view data, const Chunk& chunk, bool ordinary) {
  const char* const text_end = chunk.text.data() + chunk.text.size();
  const char* const number_end = chunk.number.data() + chunk.number.size();
  if (!ordinary || chunk.number.data() < text_end) return;
  before_ = static_cast<uint32_t>(chunk.text.data() - data.data());
  shape_.assign(data.data(), before_).append(text_end, chunk.number.data());
  number_at_ = static_cast<uint32_t>(shape_.size());
  shape_.append(number_end, data.data() + data.size());
}

// Events of ours

void Delivered::append_text_event(std::string& out, std::string_view escaped) {
  const std::string_view shape = shape_;
  if (!shape_repeats_) return format_.append_text(out, state_, escaped);
  append_all(out, format_.text_lead(), shape.substr(0, before_), escaped, shape.substr(before_), "\n\n");
}

void Delivered::append_finish_event(std::string& out, std::string_view reason,
                                    std::string_view stop_reason_json) const {
  format_.append_finish(out, state_, {.reason = reason, .stop_reason_json = stop_reason_json, .text = {}, .usage = {}});
}

void Delivered::append_end_events(std::string& out, const std::optional<Usage>& usage) {
  format_.append_end(out, state_,
                     {.reason = finish_reason_, .stop_reason_json = stop_reason_, .text = text(), .usage = usage});
}

void Delivered::append_last_event(std::string& out) const {
  format_.append_last(out);
}

}  // namespace penstock::openai
