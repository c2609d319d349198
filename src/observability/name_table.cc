#include "penstock/observability/name_table.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

#include "penstock/base/assert.h"
#include "text.h"

namespace penstock::observability {
namespace {

constexpr size_t probes_max = 32;  // bounds what crafted names can cost

__extension__ using uint128 = unsigned __int128;

uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<uint128>(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xe7037ed1a0b428dbu);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash_text(uint64_t seed, std::string_view text) {
  uint64_t hash = mix(seed, text.size());
  while (text.size() > 8) {
    uint64_t word;
    std::memcpy(&word, text.data(), 8);
    hash = mix(hash, word);
    text.remove_prefix(8);
  }
  uint64_t last = 0;
  if (!text.empty()) std::memcpy(&last, text.data(), text.size());
  return mix(hash, last);
}

uint64_t process_seed() {
  static const uint64_t seed = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  return seed;
}

const NameTable::Name& other_name() {
  static const NameTable::Name name{{"other", "other", "other", "other"}};
  return name;
}

}  // namespace

uint64_t hash_of_names(std::string_view a, std::string_view b, std::string_view c, std::string_view d) {
  uint64_t hash = process_seed();
  for (const std::string_view part : {a, b, c, d}) hash = hash_text(hash, part);
  return hash;
}

void KnownModels::set(std::set<std::string, std::less<>> models) {
  const std::lock_guard lock(mutex_);
  models_ = std::move(models);
}

bool KnownModels::contains(std::string_view model) const {
  const std::lock_guard lock(mutex_);
  return models_.contains(model);
}

NameTable::NameTable(uint32_t names_max, const NameRoom& room)
    : names_max_(names_max),
      room_(room),
      slot_count_(std::bit_ceil(size_t{names_max} * 4 + probes_max)),
      slots_(std::make_unique<std::atomic<const Entry*>[]>(slot_count_)) {
  entries_.reserve(names_max_);
}

NameTable::~NameTable() = default;

const NameTable::Name& NameTable::name(uint32_t index) const {
  PENSTOCK_ASSERT(index <= size());
  return index == other ? other_name() : entries_[index - 1]->name;
}

size_t NameTable::find(uint64_t hash, std::string_view a, std::string_view b, std::string_view c,
                       std::string_view d) const {
  for (size_t probe = 0; probe < probes_max; ++probe) {
    const size_t at = (hash + probe) & (slot_count_ - 1);
    const Entry* const entry = slots_[at].load(std::memory_order_acquire);
    if (entry == nullptr) return at;
    if (entry->hash == hash && entry->name.is(a, b, c, d)) return at;
  }
  return slot_count_;
}

uint32_t NameTable::look_up(Recent& recent, uint32_t places, std::string_view a, std::string_view b, std::string_view c,
                            std::string_view d) {
  for (const std::string_view part : {a, b, c, d}) {
    if (part.size() > part_bytes_max) return other;
  }
  const uint64_t hash = hash_of_names(a, b, c, d);
  const size_t at = find(hash, a, b, c, d);
  if (at == slot_count_) return other;
  const Entry* entry = slots_[at].load(std::memory_order_acquire);
  if (entry == nullptr && size() < places) entry = insert(hash, places, a, b, c, d);
  if (entry == nullptr) return other;
  recent.entry_ = entry;
  return entry->index;
}

bool NameTable::has_room(const Name& name) {
  size_t cost = room_.line_bytes, known = 0;
  for (const std::string& part : name.parts) cost += part.size();
  cost *= room_.lines;
  while (known < room_.models && room_.known->contains(name.parts[known])) ++known;
  if (room_.models > 0 && known == room_.models) return true;
  if (cost > room_.bytes - spent_) return false;
  spent_ += cost;
  return true;
}

// Null when the name cannot be a label or has no place.
const NameTable::Entry* NameTable::insert(uint64_t hash, uint32_t places, std::string_view a, std::string_view b,
                                          std::string_view c, std::string_view d) {
  for (const std::string_view part : {a, b, c, d}) {
    if (!is_label_text(part)) return nullptr;
  }
  const std::lock_guard lock(inserting_);
  const size_t at = find(hash, a, b, c, d);  // another shard may have been faster
  if (at == slot_count_) return nullptr;
  if (const Entry* const entry = slots_[at].load(std::memory_order_relaxed)) return entry;
  const uint32_t index = size() + 1;
  if (index > std::min(places, names_max_)) return nullptr;
  Name name{{std::string(a), std::string(b), std::string(c), std::string(d)}};
  if (!has_room(name)) return nullptr;
  entries_.push_back(std::make_unique<Entry>(Entry{hash, index, std::move(name)}));
  const Entry* const entry = entries_.back().get();
  slots_[at].store(entry, std::memory_order_release);
  size_.store(index, std::memory_order_release);
  return entry;
}

}  // namespace penstock::observability
