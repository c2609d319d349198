#include "penstock/kvevents/events.h"

#include <xxhash.h>

#include <algorithm>
#include <iterator>

#include "penstock/kvevents/msgpack.h"

namespace penstock::kvevents {
namespace {

using Kind = MsgpackReader::Kind;

// The fields of events that matter; with their places, behind the name, in the form that is an array.
constexpr std::string_view stored_fields[] = {"block_hashes", "parent_block_hash", "token_ids",
                                              "block_size",   "lora_id",           "medium",
                                              "lora_name",    "extra_keys",        "group_idx"};
constexpr std::string_view removed_fields[] = {"block_hashes", "medium", "group_idx"};

bool read_hash(MsgpackReader& in, uint64_t* out) {
  if (in.integer(out)) return true;
  std::string_view bytes;
  if (!in.bytes(&bytes)) return false;
  *out = XXH3_64bits(bytes.data(), bytes.size());
  return true;
}

bool read_hashes(MsgpackReader& in, std::vector<uint64_t>& out) {
  uint32_t count = 0;
  if (!in.array(&count)) return false;
  out.resize(count);  // a byte each is there
  return std::all_of(out.begin(), out.end(), [&in](uint64_t& hash) { return read_hash(in, &hash); });
}

bool read_tokens(MsgpackReader& in, std::vector<uint32_t>& out) {
  uint32_t count = 0;
  if (!in.array(&count)) return false;
  out.resize(count);
  for (uint32_t& token : out) {
    uint64_t id = 0;
    if (!in.integer(&id)) return false;
    token = static_cast<uint32_t>(id);
  }
  return true;
}

class EventReader {
 public:
  EventReader(MsgpackReader& in, StoredBlocks& blocks, EventSink& sink) : in_(in), blocks_(blocks), sink_(sink) {}

  bool read() {
    blocks_.hashes.clear();
    blocks_.tokens.clear();
    blocks_.has_parent = false;
    blocks_.block_tokens = 0;
    blocks_.adapter = {};
    blocks_.plain = SIZE_MAX;
    return in_.peek() == Kind::map ? read_map() : read_array();
  }

 private:
  // [name, field, ...]
  bool read_array() {
    uint32_t count = 0;
    std::string_view name;
    if (!in_.array(&count) || count == 0 || !in_.bytes(&name)) return false;
    const std::span<const std::string_view> fields = fields_of(name);
    for (uint32_t i = 1; i < count; ++i) {
      const std::string_view field = i - 1 < fields.size() ? fields[i - 1] : std::string_view{};
      if (!read_field(field)) return false;
    }
    return tell(name);
  }

  // {"type": name, "field": value, ...}
  bool read_map() {
    uint32_t count = 0;
    if (!in_.map(&count)) return false;
    std::string_view name;
    for (uint32_t i = 0; i < count; ++i) {
      std::string_view field;
      if (!in_.bytes(&field)) return false;
      const bool known = field == "type" ? in_.bytes(&name) : read_field(field);
      if (!known) return false;
    }
    return tell(name);
  }

  static std::span<const std::string_view> fields_of(std::string_view name) {
    if (name == "BlockStored") return stored_fields;
    if (name == "BlockRemoved") return removed_fields;
    return {};
  }

  bool read_field(std::string_view field) {
    uint64_t number = 0;
    if (field == "block_hashes") return read_hashes(in_, blocks_.hashes);
    if (field == "token_ids") return in_.nil() || read_tokens(in_, blocks_.tokens);
    if (field == "extra_keys") return in_.nil() || read_extra_keys();
    if (field == "lora_name") return in_.nil() || in_.bytes(&blocks_.adapter);
    if (field == "parent_block_hash") {
      if (in_.nil()) return true;
      blocks_.has_parent = true;
      return read_hash(in_, &blocks_.parent);
    }
    if (field == "block_size") {
      const bool good = in_.integer(&number);
      blocks_.block_tokens = static_cast<uint32_t>(std::min<uint64_t>(number, UINT32_MAX));
      return good;
    }
    if (field == "lora_id") {
      if (in_.nil()) return true;
      of_adapter_ = true;
      return in_.skip();
    }
    if (field == "group_idx") {
      if (in_.nil()) return true;
      const bool good = in_.integer(&number);
      first_group_ = number == 0;
      return good;
    }
    return in_.skip();
  }

  // For each block null or a list: names of media, salts and what else made its hash. An adapter's own name may be
  // among them.
  bool read_extra_keys() {
    uint32_t count = 0;
    if (!in_.array(&count)) return false;
    for (uint32_t i = 0; i < count; ++i) {
      if (in_.nil()) continue;
      MsgpackReader keys = in_;
      if (!in_.skip()) return false;
      uint32_t keys_count = 0;
      std::string_view key;
      const bool plain = keys.array(&keys_count) &&
                         (keys_count == 0 || (keys_count == 1 && keys.bytes(&key) && key == blocks_.adapter));
      if (!plain) blocks_.plain = std::min<size_t>(blocks_.plain, i);
    }
    return true;
  }

  bool tell(std::string_view name) {
    if (name == "AllBlocksCleared") {
      sink_.on_cleared();
    } else if (fields_of(name).empty() || !first_group_) {
      sink_.on_other();
    } else if (name == "BlockRemoved") {
      sink_.on_removed(blocks_.hashes);
    } else {
      blocks_.plain = std::min(blocks_.plain, blocks_.hashes.size());
      blocks_.adapter_named = !of_adapter_ || !blocks_.adapter.empty();
      sink_.on_stored(blocks_);
    }
    return true;
  }

  MsgpackReader& in_;
  StoredBlocks& blocks_;
  EventSink& sink_;
  bool of_adapter_ = false, first_group_ = true;
};

bool read_events(MsgpackReader& in, StoredBlocks& scratch, EventSink& sink) {
  uint32_t count = 0;
  if (!in.array(&count)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    if (!EventReader(in, scratch, sink).read()) return false;
  }
  return true;
}

}  // namespace

bool read_batch(std::string_view payload, StoredBlocks& scratch, EventSink& sink) {
  MsgpackReader in(payload);
  uint32_t count = 0;
  bool found = false;
  if (in.array(&count)) {
    if (count < 2 || !in.skip() || !read_events(in, scratch, sink)) return false;
    for (uint32_t i = 2; i < count; ++i) {
      if (!in.skip()) return false;
    }
    return in.at_end();
  }
  if (!in.map(&count)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view key;
    if (!in.bytes(&key)) return false;
    found |= key == "events";
    if (key == "events" ? !read_events(in, scratch, sink) : !in.skip()) return false;
  }
  return found && in.at_end();
}

}  // namespace penstock::kvevents
