#include "penstock/http/sse.h"

#include <algorithm>
#include <cstring>

#include "bytes.h"
#include "penstock/base/containers.h"

namespace penstock::http {

namespace {
constexpr size_t kKept = 4 * 1024;  // of capacity between events: a stream with one huge line does not keep it
constexpr std::string_view kPlainLead = "data: ", kPlainEnd = "\n\n";
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

const char* find(const char* begin, const char* end, char c) {
  const void* const at = begin == end ? nullptr : std::memchr(begin, c, static_cast<size_t>(end - begin));
  return at == nullptr ? end : static_cast<const char*>(at);
}

void release(std::string& text) {
  text.clear();
  if (text.capacity() > kKept) free_memory(text);
}

// Whether `bytes` are one event of one line, as model servers send them: "data: ...", its line end and an empty line.
bool is_plain_event(std::string_view bytes) {
  if (!bytes.starts_with(kPlainLead) || !bytes.ends_with(kPlainEnd)) return false;
  bytes.remove_suffix(kPlainEnd.size());
  return !has_line_end(bytes);
}
}  // namespace

// Line ends are LF, CR or CRLF. The next LF is looked up once and remembered, so that a stream with CR alone is
// not searched to its end again for every line.
void SseScanner::feed(std::string_view bytes) {
  const bool fresh = !in_event_ && !after_cr_ && carry_.empty();
  if (fresh && bytes.size() <= carry_bytes_max && is_plain_event(bytes)) {
    first_line_ = false;
    ++event_count_;
    events_.on_sse_event({}, bytes.substr(kPlainLead.size(), bytes.size() - kPlainLead.size() - kPlainEnd.size()));
    if (stop_) stopped_ = {.begin = 0, .end = static_cast<uint32_t>(bytes.size()), .whole = true};
    return;
  }
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  const auto skip_lf = [&] {
    after_cr_ = at == end;
    if (after_cr_ || *at != '\n') return;
    crlf_seen_ = true;
    ++at;
  };
  if (after_cr_) skip_lf();
  const bool whole = !in_event_ && carry_.empty();
  stopped_ = {.begin = whole ? static_cast<uint32_t>(at - bytes.data()) : 0, .whole = whole};
  const char* lf = find(at, end, '\n');
  while (at != end) {
    if (lf < at) lf = find(at, end, '\n');
    const char* const stop = find(at, lf, '\r');
    const std::string_view text(at, static_cast<size_t>(stop - at));
    if (stop == end) {
      keep(text);
      break;
    }
    const bool blank = text.empty() && carry_.empty();
    if (carry_.empty() && text.size() <= carry_bytes_max) {
      line(text, /*lasts=*/true);
    } else {
      keep(text);
      line(carry_, /*lasts=*/false);
      release(carry_);
      truncated_line_ = false;
    }
    at = stop + 1;
    if (*stop == '\r') skip_lf();
    if (!blank) continue;
    stopped_.end = static_cast<uint32_t>(at - bytes.data());
    if (stop_) return;
    stopped_ = {.begin = stopped_.end, .whole = true};
  }
  if (single_.data() == nullptr) return;
  data_.assign(single_);  // the event goes on in the next read
  single_ = {};
}

// Adds to the unfinished line.
void SseScanner::keep(std::string_view text) {
  const size_t room = carry_bytes_max - carry_.size();
  if (text.size() > room) {
    truncated_count_ += !truncated_line_;
    truncated_line_ = true;
  }
  carry_.append(text.substr(0, room));
}

// `lasts`: the text stays valid until feed() returns.
void SseScanner::line(std::string_view text, bool lasts) {
  if (first_line_ && text.substr(0, kByteOrderMark.size()) == kByteOrderMark) text.remove_prefix(kByteOrderMark.size());
  first_line_ = false;
  if (text.empty()) return dispatch();
  if (text[0] == ':') {
    ++comment_count_;
    return;
  }
  in_event_ = true;
  const size_t colon = text.find(':');
  const std::string_view field = text.substr(0, colon);
  std::string_view value = text.substr(std::min(field.size() + 1, text.size()));
  if (!value.empty() && value[0] == ' ') value.remove_prefix(1);
  if (field == "data") return add_data(value, lasts);
  if (field == "event") name_.assign(value);
}

void SseScanner::add_data(std::string_view value, bool lasts) {
  if (!has_data_) {
    has_data_ = true;
    if (lasts) {
      single_ = value;
    } else {
      data_.assign(value);
    }
    return;
  }
  if (single_.data() != nullptr) data_.assign(single_);
  single_ = {};
  const size_t room = carry_bytes_max - data_.size();  // for the line feed between the lines, too
  if (value.size() + 1 > room && !truncated_line_) ++truncated_count_;
  if (room == 0) return;
  data_ += '\n';
  data_.append(value.substr(0, room - 1));
}

void SseScanner::dispatch() {
  if (has_data_) {
    ++event_count_;
    events_.on_sse_event(name_, single_.data() != nullptr ? single_ : std::string_view(data_));
  }
  has_data_ = in_event_ = false;
  single_ = {};
  release(data_);
  release(name_);
}

void SseScanner::reset() {
  release(carry_);
  release(data_);
  release(name_);
  single_ = {};
  has_data_ = in_event_ = after_cr_ = crlf_seen_ = truncated_line_ = stop_ = false;
  first_line_ = true;
  event_count_ = comment_count_ = truncated_count_ = 0;
}

size_t SseScanner::incomplete_from(size_t size) const {
  if (at_boundary()) return size;
  return stopped_.whole ? stopped_.begin : 0;
}

// In a stream that has used CRLF, a CR at the very end is half of a line end.
bool SseScanner::at_boundary() const {
  return carry_.empty() && !in_event_ && !(after_cr_ && crlf_seen_);
}

}  // namespace penstock::http
