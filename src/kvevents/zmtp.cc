#include "penstock/kvevents/zmtp.h"

#include <algorithm>
#include <cstring>

#include "penstock/base/text.h"

namespace penstock::kvevents {
namespace {

constexpr uint8_t flag_more = 1, flag_long = 2, flag_command = 4;
constexpr std::string_view mechanism_null{"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20};
constexpr size_t signature_bytes = 10, mechanism_at = 12;

uint64_t big_endian(const char* bytes, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

void append_big_endian(std::string& out, uint64_t value, int bytes) {
  while (bytes-- > 0) out += static_cast<char>(value >> (8 * bytes));
}

void append_frame(std::string& out, uint8_t flags, std::string_view body) {
  const bool is_long = body.size() > 255;
  out += static_cast<char>(flags | (is_long ? flag_long : 0));
  append_big_endian(out, body.size(), is_long ? 8 : 1);
  out += body;
}

}  // namespace

const char* to_string(ZmtpError error) {
  switch (error) {
    case ZmtpError::none:
      return "none";
    case ZmtpError::stopped:
      return "stopped";
    case ZmtpError::not_zmtp:
      return "the peer does not speak ZMTP 3";
    case ZmtpError::mechanism:
      return "the peer wants a security mechanism";
    case ZmtpError::bad_frame:
      return "a frame is broken";
    case ZmtpError::too_large:
      return "a message is too large";
    case ZmtpError::too_many_frames:
      return "a message has too many frames";
    case ZmtpError::memory:
      return "the memory budget is exhausted";
  }
  return "";
}

void ZmtpReader::reset() {
  state_ = State::greeting;
  gathered_ = frames_ = 0;
  left_ = 0;
  body_.reset();
}

ZmtpError ZmtpReader::feed(std::string_view bytes) {
  ZmtpError error = ZmtpError::none;
  while (!bytes.empty() && error == ZmtpError::none) {
    error = state_ == State::greeting ? take_greeting(bytes)
            : state_ == State::head   ? take_head(bytes)
                                      : take_body(bytes);
  }
  return error;
}

// True: head_ has `wanted` bytes.
bool ZmtpReader::gather(std::string_view& bytes, size_t wanted) {
  const size_t taken = std::min(wanted - gathered_, bytes.size());
  std::memcpy(head_.data() + gathered_, bytes.data(), taken);
  gathered_ += taken;
  bytes.remove_prefix(taken);
  return gathered_ == wanted;
}

ZmtpError ZmtpReader::take_greeting(std::string_view& bytes) {
  const bool whole = gather(bytes, greeting_bytes);
  // Looked at as it comes: who does not speak ZMTP may never send 64 bytes.
  if (static_cast<uint8_t>(head_[0]) != 0xff) return ZmtpError::not_zmtp;
  if (gathered_ >= signature_bytes && head_[signature_bytes - 1] != 0x7f) return ZmtpError::not_zmtp;
  if (gathered_ > signature_bytes && head_[signature_bytes] < 3) return ZmtpError::not_zmtp;
  if (!whole) return ZmtpError::none;
  if (std::string_view(head_.data() + mechanism_at, mechanism_null.size()) != mechanism_null) {
    return ZmtpError::mechanism;
  }
  gathered_ = 0;
  state_ = State::head;
  return sink_.on_greeting() ? ZmtpError::none : ZmtpError::stopped;
}

ZmtpError ZmtpReader::take_head(std::string_view& bytes) {
  if (gathered_ == 0 && !gather(bytes, 1)) return ZmtpError::none;
  flags_ = static_cast<uint8_t>(head_[0]);
  const bool command = (flags_ & flag_command) != 0;
  if (flags_ > (flag_more | flag_long | flag_command)) return ZmtpError::bad_frame;
  if (command && ((flags_ & flag_more) != 0 || frames_ > 0)) return ZmtpError::bad_frame;
  const size_t length_bytes = (flags_ & flag_long) != 0 ? 8 : 1;
  if (!gather(bytes, 1 + length_bytes)) return ZmtpError::none;
  left_ = big_endian(head_.data() + 1, length_bytes);
  gathered_ = 0;
  if (left_ > (command ? command_bytes_max : message_bytes_max - body_.view().size())) return ZmtpError::too_large;
  if (frames_ == frames_max) return ZmtpError::too_many_frames;
  if (left_ == 0) return end_frame();
  state_ = State::body;
  return ZmtpError::none;
}

ZmtpError ZmtpReader::take_body(std::string_view& bytes) {
  const size_t taken = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
  if (!body_.append(bytes.substr(0, taken), body_.view().size() + static_cast<size_t>(left_))) {
    return ZmtpError::memory;
  }
  bytes.remove_prefix(taken);
  left_ -= taken;
  return left_ == 0 ? end_frame() : ZmtpError::none;
}

ZmtpError ZmtpReader::end_frame() {
  state_ = State::head;
  const std::string_view all = body_.view();
  ends_[frames_++] = all.size();
  if ((flags_ & flag_more) != 0) return ZmtpError::none;
  bool go_on = false;
  if ((flags_ & flag_command) != 0) {
    const size_t name = all.empty() ? 0 : static_cast<uint8_t>(all[0]);
    if (name == 0 || name + 1 > all.size()) return ZmtpError::bad_frame;
    go_on = sink_.on_command(all.substr(1, name), all.substr(1 + name));
  } else {
    std::array<std::string_view, frames_max> frames;
    for (size_t i = 0, begin = 0; i < frames_; begin = ends_[i++]) frames[i] = all.substr(begin, ends_[i] - begin);
    go_on = sink_.on_message({frames.data(), frames_});
  }
  frames_ = 0;
  body_.reset();
  return go_on ? ZmtpError::none : ZmtpError::stopped;
}

void append_greeting(std::string& out) {
  out += '\xff';
  out.append(8, '\0');
  out += '\x7f';
  out += '\x03';
  out += '\0';
  out += mechanism_null;
  out.append(32, '\0');  // not a server (of a mechanism), and filler
}

void append_command(std::string& out, std::string_view name, std::string_view data) {
  std::string body(1, static_cast<char>(name.size()));
  body.append(name).append(data);
  append_frame(out, flag_command, body);
}

void append_ready(std::string& out, std::string_view socket_type) {
  std::string data;
  const auto property = [&data](std::string_view name, std::string_view value) {
    data += static_cast<char>(name.size());
    data += name;
    append_big_endian(data, value.size(), 4);
    data += value;
  };
  property("Socket-Type", socket_type);
  if (socket_type == "DEALER" || socket_type == "ROUTER") property("Identity", "");
  append_command(out, "READY", data);
}

void append_message(std::string& out, std::span<const std::string_view> frames) {
  for (size_t i = 0; i < frames.size(); ++i) append_frame(out, i + 1 < frames.size() ? flag_more : 0, frames[i]);
}

std::string_view ready_property(std::string_view data, std::string_view name) {
  while (!data.empty()) {
    const size_t name_size = static_cast<uint8_t>(data[0]);
    if (data.size() < 1 + name_size + 4) return {};
    const std::string_view found = data.substr(1, name_size);
    const uint64_t size = big_endian(data.data() + 1 + name_size, 4);
    data.remove_prefix(1 + name_size + 4);
    if (size > data.size()) return {};
    if (same_ignoring_case(found, name)) return data.substr(0, static_cast<size_t>(size));
    data.remove_prefix(static_cast<size_t>(size));
  }
  return {};
}

}  // namespace penstock::kvevents
