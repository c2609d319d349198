// Finds the frames in what a client sends, before nghttp2 reads them: with priorities off and streams forgotten once
// they are closed, it passes over frames that RFC 9113 wants answered, and says nothing of those that it ignores.
// Plain values; one thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::downstream {

struct Http2FrameHead {
  uint32_t length = 0;
  uint8_t type = 0, flags = 0;
  int32_t stream = 0;
  int32_t depends_on = -1;  // of PRIORITY
};

class Http2FrameReader {
 public:
  // How many of these bytes belong together: the rest of a frame's head, or of its payload. head() says whether a head
  // ends with them.
  size_t next(std::string_view bytes) {
    complete_ = false;
    if (preface_left_ > 0) return take(preface_left_, bytes.size());
    if (have_ == wanted_) return take(payload_left_, bytes.size());
    const size_t size = std::min(wanted_ - have_, bytes.size());
    std::copy_n(bytes.begin(), size, raw_.begin() + static_cast<ptrdiff_t>(have_));
    have_ += size;
    if (have_ == wanted_) read();
    return size;
  }
  const Http2FrameHead* head() const { return complete_ ? &head_ : nullptr; }

 private:
  static constexpr size_t head_size = 9, priority_size = 5;
  static constexpr uint8_t priority = 2;

  // The last byte of a payload makes ready for the next head.
  size_t take(size_t& left, size_t most) {
    const size_t size = std::min(left, most);
    left -= size;
    if (left == 0) have_ = 0, wanted_ = head_size;
    return size;
  }
  uint32_t number(size_t at, size_t size) const {
    uint32_t value = 0;
    for (size_t i = at; i < at + size; ++i) value = value << 8 | static_cast<uint8_t>(raw_[i]);
    return value;
  }
  void read() {
    constexpr uint32_t id = 0x7fffffff;
    if (wanted_ == head_size) {
      head_ = {.length = number(0, 3),
               .type = static_cast<uint8_t>(raw_[3]),
               .flags = static_cast<uint8_t>(raw_[4]),
               .stream = static_cast<int32_t>(number(5, 4) & id)};
      payload_left_ = head_.length;
      if (head_.type == priority && head_.length == priority_size) {
        wanted_ += priority_size;
        return;
      }
    } else {
      head_.depends_on = static_cast<int32_t>(number(head_size, 4) & id);
      payload_left_ = 0;
    }
    complete_ = true;
    if (payload_left_ == 0) have_ = 0, wanted_ = head_size;
  }

  Http2FrameHead head_;
  std::array<char, head_size + priority_size> raw_{};
  size_t preface_left_ = 24;
  size_t have_ = 0, wanted_ = head_size;  // bytes of the head
  size_t payload_left_ = 0;
  bool complete_ = false;
};

// Streams that have been closed, the last ones: what may still come for them depends on who closed them.
class Http2ClosedStreams {
 public:
  enum class By : uint8_t { unknown, client, us };
  void add(int32_t id, By by) { ids_[next_++ % ids_.size()] = by == By::us ? -id : id; }
  By find(int32_t id) const {
    for (const int32_t one : ids_) {
      if (one == id) return By::client;
      if (one == -id) return By::us;
    }
    return By::unknown;
  }

 private:
  std::array<int32_t, 128> ids_{};
  size_t next_ = 0;
};

}  // namespace penstock::downstream
