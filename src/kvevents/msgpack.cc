#include "penstock/kvevents/msgpack.h"

namespace penstock::kvevents {

// The head of the next value: its kind and what it says of itself. Kind::none when it is not all there.
MsgpackReader::Head MsgpackReader::head() const {
  if (left_.empty()) return {};
  const auto first = static_cast<uint8_t>(left_[0]);
  if (first <= 0x7f) return {Kind::integer, 1, first, 0};
  if (first >= 0xe0) return {Kind::integer, 1, static_cast<uint64_t>(static_cast<int8_t>(first)), 0};
  if (first <= 0x8f) return {Kind::map, 1, first & 0xfu, 0};
  if (first <= 0x9f) return {Kind::array, 1, first & 0xfu, 0};
  if (first <= 0xbf) return {Kind::bytes, 1, 0, first & 0x1fu};

  // How the others are made: a number of so many bytes behind the first.
  struct Form {
    Kind kind;
    uint8_t number_bytes;
    bool is_length;  // bytes as many as the number says follow; else the number is the value
    uint8_t extra = 0;
  };
  static constexpr Form forms[] = {
      {Kind::nil, 0, false},          {Kind::none, 0, false},        {Kind::boolean, 0, false},      // c0 c1 c2
      {Kind::boolean, 0, false},      {Kind::bytes, 1, true},        {Kind::bytes, 2, true},         // c3 c4 c5
      {Kind::bytes, 4, true},         {Kind::extension, 1, true, 1}, {Kind::extension, 2, true, 1},  // c6 c7 c8
      {Kind::extension, 4, true, 1},  {Kind::real, 4, false},        {Kind::real, 8, false},         // c9 ca cb
      {Kind::integer, 1, false},      {Kind::integer, 2, false},     {Kind::integer, 4, false},      // cc cd ce
      {Kind::integer, 8, false},      {Kind::integer, 1, false},     {Kind::integer, 2, false},      // cf d0 d1
      {Kind::integer, 4, false},      {Kind::integer, 8, false},     {Kind::extension, 0, true, 2},  // d2 d3 d4
      {Kind::extension, 0, true, 3},  {Kind::extension, 0, true, 5}, {Kind::extension, 0, true, 9},  // d5 d6 d7
      {Kind::extension, 0, true, 17}, {Kind::bytes, 1, true},        {Kind::bytes, 2, true},         // d8 d9 da
      {Kind::bytes, 4, true},         {Kind::array, 2, false},       {Kind::array, 4, false},        // db dc dd
      {Kind::map, 2, false},          {Kind::map, 4, false},                                         // de df
  };
  const Form& form = forms[first - 0xc0];
  const uint32_t size = 1u + form.number_bytes;
  if (left_.size() < size) return {};
  uint64_t number = 0;
  for (uint32_t i = 1; i < size; ++i) number = number << 8 | static_cast<uint8_t>(left_[i]);
  const bool is_signed = first >= 0xd0 && first <= 0xd3;
  if (is_signed && form.number_bytes < 8 && (number >> (8 * form.number_bytes - 1)) != 0) {
    number |= ~uint64_t{0} << (8 * form.number_bytes);
  }
  return {form.kind, size, number, form.is_length ? number + form.extra : 0};
}

MsgpackReader::Kind MsgpackReader::peek() const {
  return head().kind;
}

bool MsgpackReader::nil() {
  if (head().kind != Kind::nil) return false;
  left_.remove_prefix(1);
  return true;
}

bool MsgpackReader::integer(uint64_t* out) {
  const Head found = head();
  if (found.kind != Kind::integer) return false;
  *out = found.value;
  left_.remove_prefix(found.size);
  return true;
}

bool MsgpackReader::bytes(std::string_view* out) {
  const Head found = head();
  if (found.kind != Kind::bytes || found.follows > left_.size() - found.size) return false;
  *out = left_.substr(found.size, static_cast<size_t>(found.follows));
  left_.remove_prefix(found.size + static_cast<size_t>(found.follows));
  return true;
}

bool MsgpackReader::array(uint32_t* count) {
  const Head found = head();
  if (found.kind != Kind::array || found.value > left_.size() - found.size) return false;  // a byte each at least
  *count = static_cast<uint32_t>(found.value);
  left_.remove_prefix(found.size);
  return true;
}

bool MsgpackReader::map(uint32_t* count) {
  const Head found = head();
  if (found.kind != Kind::map || found.value > (left_.size() - found.size) / 2) return false;
  *count = static_cast<uint32_t>(found.value);
  left_.remove_prefix(found.size);
  return true;
}

// However deep it is: what is still to come is a number, not a stack, and every value takes a byte at least.
bool MsgpackReader::skip() {
  std::string_view left = left_;
  for (uint64_t open = 1; open > 0; --open) {
    const Head found = MsgpackReader(left).head();
    if (found.kind == Kind::none || found.follows > left.size() - found.size) return false;
    left.remove_prefix(found.size + static_cast<size_t>(found.follows));
    if (found.kind == Kind::array) open += found.value;
    if (found.kind == Kind::map) open += 2 * found.value;
    if (open > 1 && left.size() < open - 1) return false;
  }
  left_ = left;
  return true;
}

}  // namespace penstock::kvevents
