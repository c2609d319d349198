#include "completion_tail.h"

#include <algorithm>
#include <bit>

#include "blocks.h"
#include "json_text.h"

namespace penstock::openai {
namespace {

constexpr char finish_reason[] = R"("finish_reason")";
constexpr size_t finish_reason_size = sizeof(finish_reason) - 1;
constexpr std::string_view counting_keys[] = {R"("status")", R"("stop_reason")", finish_reason};
constexpr char choices_key[] = R"("choices")";
constexpr size_t choices_key_size = sizeof(choices_key) - 1;
constexpr size_t tail_max = 4 * 1024;
constexpr size_t npos = std::string_view::npos;

// Whether the fields in front of "choices" may say something about the answer: only strings under a few keys do, and
// objects.
bool may_count(std::string_view text) {
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '{' || text[at] == '\\') return true;
    if (text[at] != '"') continue;
    const std::string_view rest = text.substr(at);
    for (const std::string_view key : counting_keys) {
      if (rest.starts_with(key)) return true;
    }
  }
  return false;
}

// The same, sixteen characters a step where there is none that may begin such a thing; the last step goes back a bit.
bool may_count_by_blocks(std::string_view text) {
  constexpr size_t step = sizeof(Block), size = step + 1;
  if (text.size() < size) return may_count(text);
  const size_t last = text.size() - size;
  for (size_t at = 0;; at = std::min(at + step, last)) {
    const Block here = block_at(text.data() + at), behind = block_at(text.data() + at + 1);
    const auto hits = (here == '{') | (here == '\\') | ((here == '"') & ((behind == 's') | (behind == 'f')));
    if (any(hits)) return may_count(text.substr(at));
    if (at == last) return false;
  }
}

// What follows the '[' of "choices", if that is the first of all and nothing that counts stands before it. A brace in
// front makes the key one of the top level. Without escapes it is a key and no part of a string.
std::string_view inside_choices(std::string_view json) {
  json = skip_space(json);
  const size_t bracket = json.find('[');
  if (bracket == npos) return "";
  std::string_view head = trim_end(json.substr(0, bracket));
  if (!head.ends_with(':')) return "";
  head = trim_end(head.substr(0, head.size() - 1));
  if (!head.starts_with('{') || head.size() <= choices_key_size) return "";
  const std::string_view front = head.substr(1, head.size() - choices_key_size - 1);
  if (!is_word(head.substr(front.size() + 1), choices_key) || may_count_by_blocks(front)) return "";
  return json.substr(bracket + 1);
}

// The last place of `first` with `second` behind it.
size_t find_last(std::string_view text, unsigned char first, unsigned char second) {
  size_t end = text.size();  // places from here on have been looked at, but the last, which has nothing behind it
  if (end > 0) --end;
  for (; end >= sizeof(Block); end -= sizeof(Block)) {
    const char* const begin = text.data() + end - sizeof(Block);
    const uint32_t hits = bits_of((block_at(begin) == first) & (block_at(begin + 1) == second));
    if (hits != 0) return end - sizeof(Block) + static_cast<size_t>(std::bit_width(hits)) - 1;
  }
  while (end > 0) {
    --end;
    if (text[end] == first && text[end + 1] == second) return end;
  }
  return npos;
}

// Where the last "finish_reason" begins that is a key and has a string.
size_t last_reason(std::string_view text) {
  const size_t skipped = text.size() - std::min(text.size(), tail_max);
  std::string_view searched = text.substr(skipped);
  for (size_t at = find_last(searched, '"', 'f'); at != npos; at = find_last(searched, '"', 'f')) {
    const std::string_view found = text.substr(skipped + at);
    if (is_word(found.substr(0, finish_reason_size), finish_reason)) {
      const std::string_view before = trim_end(searched.substr(0, at));
      const bool is_key = before.ends_with(',') || before.ends_with('{');
      const std::string_view colon = skip_space(found.substr(finish_reason_size));
      const bool has_string = colon.starts_with(':') && skip_space(colon.substr(1)).starts_with('"');
      return is_key && has_string ? skipped + at : npos;
    }
    searched = text.substr(skipped, at + 1);  // the quote may be the first of the two characters no more
  }
  return npos;
}

// Whether an array that is the value of a key may begin in `text` and hold something. In strings this errs to yes.
bool may_begin_array(std::string_view text) {
  for (size_t at = text.find('['); at != npos; at = text.find('[', at + 1)) {
    if (!trim_end(text.substr(0, at)).ends_with(':')) continue;
    if (!skip_space(text.substr(at + 1)).starts_with(']')) return true;
  }
  return false;
}

}  // namespace

// Closed by its tail, an object that begins with the lead puts the key into an object in an array at the top level. The
// array is "choices" if no other array of a key begins between the two; and then nothing but earlier choices, which
// count less, was left out.
std::string_view completion_tail(std::string_view json) {
  const std::string_view choices = inside_choices(json);
  const size_t at = last_reason(choices);
  if (at == npos || may_begin_array(choices.substr(0, at))) return "";
  return choices.substr(at);
}

}  // namespace penstock::openai
