#include "head_memory.h"

#include <cstring>

#include "bytes.h"
#include "head_guard.h"
#include "penstock/base/text.h"

namespace penstock::http {

namespace {
constexpr size_t kBytesMax = 1024, kHeadersMax = 24;

// What HeadGuard asks of a value, and that it is as long without spaces around it.
bool is_value(std::string_view text) {
  return !is_space(text.front()) && !is_space(text.back()) && !has_control(text);
}
}  // namespace

bool HeadMemory::worth(const Head& head) {
  return !head.chunked && head.storage_.size() <= kBytesMax && head.headers_.size() <= kHeadersMax;
}

void HeadMemory::keep(const Head& head) {
  copy(head, head.storage_, kept_);
  lines_.clear();
  lines_.reserve(head.headers_.size());
  const auto place = [&](std::string_view text) {
    return static_cast<uint16_t>(text.empty() ? 0 : text.data() - head.storage_.data());
  };
  const auto size = [](std::string_view text) { return static_cast<uint16_t>(text.size()); };
  for (const Header& header : head.headers_) {
    lines_.push_back({.name = place(header.name),
                      .name_size = size(header.name),
                      .value = place(header.value),
                      .value_size = size(header.value),
                      .field = header.field});
  }
}

bool HeadMemory::may_differ(const Line& line) {
  switch (line.field) {
    case Field::content_length:
    case Field::date:
    case Field::x_request_id:
    case Field::traceparent:
      return line.value_size > 0;
    default:
      return false;
  }
}

size_t HeadMemory::recall(std::string_view bytes, Head& head) const {
  const Match found = match(bytes);
  if (found.size == 0) return 0;
  copy(kept_, bytes.substr(0, found.size), head);
  head.content_length = found.content_length;
  const char* const begin = head.storage_.data();
  head.headers_.clear();
  for (const Line& line : lines_) {
    head.headers_.push_back({{begin + line.name, line.name_size}, {begin + line.value, line.value_size}, line.field});
  }
  return found.size;
}

HeadMemory::Match HeadMemory::match(std::string_view bytes) const {
  const std::string_view kept = kept_.storage_;
  if (kept.empty() || bytes.size() < kept.size()) return {};
  const auto same = [&](size_t from, size_t to) {
    return std::memcmp(bytes.data() + from, kept.data() + from, to - from) == 0;
  };
  Match found{.size = kept.size(), .content_length = kept_.content_length};
  size_t at = 0;  // up to here they agree
  for (const Line& line : lines_) {
    if (!may_differ(line)) continue;
    const std::string_view value(bytes.data() + line.value, line.value_size);
    if (!same(at, line.value)) return {};
    at = line.value + value.size();
    const bool good = line.field == Field::content_length ? read_length(value, found.content_length) == ParseError::none
                                                          : is_value(value);
    if (!good) return {};
  }
  return same(at, kept.size()) ? found : Match{};
}

// All but headers(). `bytes` are those of `from`, or as long and with the same views into them.
void HeadMemory::copy(const Head& from, std::string_view bytes, Head& to) {
  copy_text(to.storage_, bytes);
  const auto here = [&](std::string_view view) {
    if (view.empty()) return std::string_view();
    return std::string_view(to.storage_.data() + (view.data() - from.storage_.data()), view.size());
  };
  to.method = from.method;
  to.method_text = here(from.method_text);
  to.target = here(from.target);
  to.status = from.status;
  to.reason = here(from.reason);
  to.minor_version = from.minor_version;
  to.keep_alive = from.keep_alive;
  to.chunked = from.chunked;
  to.has_content_length = from.has_content_length;
  to.content_length = from.content_length;
  to.expects_continue = from.expects_continue;
  to.upgrade = from.upgrade;
  to.connection_names_fields_ = from.connection_names_fields_;
}

}  // namespace penstock::http
