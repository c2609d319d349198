#include "penstock/routing/prefix_index.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "penstock/base/assert.h"

namespace penstock::routing {
namespace {

// A word: tag (28 bits of the block's hash) | endpoint slot (12) | stamp (24). Zero: empty.
constexpr unsigned stamp_bits = 24;
constexpr unsigned slot_bits = 12;
constexpr unsigned tag_shift = stamp_bits + slot_bits;
constexpr uint64_t stamp_mask = (uint64_t{1} << stamp_bits) - 1;
constexpr uint64_t slot_mask = (uint64_t{1} << slot_bits) - 1;

// Stamps run ahead of the endpoint's counter while a chain is being recorded, by at most this; seen from the counter
// they count as just recorded, not as 2^24 old.
constexpr uint64_t ahead_max = uint64_t{1} << 20;
// All lines are swept once in this many new blocks. A word dies at an age of capacity_max or less, so it is erased
// before its stamp, cut to 24 bits, could look young again.
constexpr unsigned sweep_period_bits = 22;
static_assert(PrefixIndex::capacity_max + (uint64_t{1} << sweep_period_bits) + ahead_max < stamp_mask);
static_assert(PrefixIndex::endpoint_slots_max == slot_mask + 1);

constexpr size_t words_per_line = 8;
// A block that many endpoints hold (a system prompt) spills into further lines, each block in its own sequence of
// lines: a line takes up to `spill_at` words of one block, and gives up a live word for another only if that is the
// line's only word of its block. So a rare block finds room in its first line, and popular blocks that meet do not push
// each other out. A reader that misses somebody goes on to the next line if this one is full or holds `follow_at` words
// of the block (some of `spill_at` may have been erased). It misses each endpoint once per chain, so it seldom goes on.
constexpr unsigned spill_at = 6;
constexpr unsigned follow_at = 4;
constexpr size_t lines_max = 20;
// Some more room than one block needs: other popular blocks may share a few of its lines.
static_assert(PrefixIndex::holders_max * 5 <= lines_max * spill_at * 4);

constexpr size_t prefetch_distance = 16;

uint64_t tag_of(uint64_t word) {
  return word >> tag_shift;
}
uint32_t slot_of(uint64_t word) {
  return static_cast<uint32_t>((word >> stamp_bits) & slot_mask);
}
uint64_t make_word(uint64_t hash, uint32_t slot, uint64_t stamp) {
  return (hash >> tag_shift << tag_shift) | (uint64_t{slot} << stamp_bits) | (stamp & stamp_mask);
}

// Blocks the endpoint has recorded since the word was stamped.
uint64_t age_of(uint64_t word, uint64_t counter) {
  const uint64_t age = (counter - word) & stamp_mask;
  return age > stamp_mask - ahead_max ? 0 : age;
}

// What a reader needs to judge words of one endpoint, read once per call.
struct View {
  uint64_t counter = 0;
  uint64_t span = 0;  // words of this age and more are void
  bool live(uint64_t word) const { return age_of(word, counter) < span; }
};

struct alignas(64) EndpointSlot {
  std::atomic<uint64_t> counter{1};  // blocks recorded; never falls
  std::atomic<uint64_t> base{0};     // the counter at the last forget: older stamps are void for good
  std::atomic<uint64_t> capacity{PrefixIndex::capacity_max};
  std::atomic<uint32_t> incarnation{0};

  View view() const {
    const uint64_t since = base.load(std::memory_order_relaxed);
    const uint64_t now = std::max(since, counter.load(std::memory_order_relaxed));
    return {now, std::min(capacity.load(std::memory_order_relaxed), now - since)};
  }
};

}  // namespace

// Every access to a word is relaxed: a word is complete in itself and nothing else is published through it. A reader
// that sees an old word sees a state the table was in; a writer that overwrites another's word costs that one a hit.
struct PrefixIndex::Table {
  explicit Table(size_t entries);
  ~Table() { std::free(memory); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  uint64_t* line(uint64_t hash, size_t step) const {
    const uint64_t stride = (hash >> 24) | 1;  // odd: visits all lines before one again
    return words + ((hash + step * stride) & line_mask) * words_per_line;
  }
  void prefetch(uint64_t hash) const { __builtin_prefetch(line(hash, 0)); }

  uint64_t touch(uint64_t hash, uint32_t slot, const View& own, uint64_t& fresh);
  size_t place_in(const uint64_t* line, bool last) const;
  void erase(uint64_t* word, uint64_t expected);
  void forget_block(uint64_t hash, uint32_t slot);
  void sweep(uint64_t recorded);
  void match_group(std::span<const uint64_t> chain, std::span<const uint32_t> slots, std::span<uint32_t> matched) const;

  void* memory;
  uint64_t* words;  // aligned to a cache line
  uint64_t line_mask;
  std::atomic<uint64_t> recorded_total{0};  // drives the sweep
  std::atomic<int64_t> used{0};             // words that are not zero
  std::array<EndpointSlot, endpoint_slots_max> slots;
};

namespace {
using Word = std::atomic_ref<uint64_t>;
uint64_t load(const uint64_t* word) {
  return Word(*const_cast<uint64_t*>(word)).load(std::memory_order_relaxed);
}
void store(uint64_t* word, uint64_t value) {
  Word(*word).store(value, std::memory_order_relaxed);
}
}  // namespace

PrefixIndex::Table::Table(size_t entries) {
  // At least a few lines per sequence of lines_max.
  const size_t lines = std::bit_ceil(std::max(entries, size_t{32} * words_per_line)) / words_per_line;
  line_mask = lines - 1;
  // calloc, because large zeroed memory is not touched (and so not resident) before it is used.
  const size_t line_bytes = words_per_line * sizeof(uint64_t);
  memory = std::calloc(lines + 1, line_bytes);
  PENSTOCK_ASSERT(memory != nullptr);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  words = reinterpret_cast<uint64_t*>((address + line_bytes - 1) / line_bytes * line_bytes);
}

PrefixIndex::PrefixIndex(size_t entries) : table_(std::make_unique<Table>(entries)) {}
PrefixIndex::~PrefixIndex() = default;

void PrefixIndex::match(std::span<const uint64_t> chain, std::span<const uint32_t> slots,
                        std::span<uint32_t> matched_blocks) const {
  PENSTOCK_ASSERT(slots.size() == matched_blocks.size());
  // One machine word of endpoints at a time; the lines that the first group read are in the cache for the next.
  constexpr size_t group = 64;
  for (size_t at = 0; at < slots.size(); at += group) {
    const size_t count = std::min(group, slots.size() - at);
    table_->match_group(chain, slots.subspan(at, count), matched_blocks.subspan(at, count));
  }
}

void PrefixIndex::Table::match_group(std::span<const uint64_t> chain, std::span<const uint32_t> group,
                                     std::span<uint32_t> matched) const {
  constexpr uint8_t nobody = 0xff;
  std::array<View, 64> views;
  std::array<uint8_t, endpoint_slots_max> position;  // of a slot in `group`; written up to slot_end only
  uint32_t slot_end = 0;
  for (const uint32_t slot : group) {
    if (slot < endpoint_slots_max) slot_end = std::max(slot_end, slot + 1);
  }
  std::memset(position.data(), nobody, slot_end);
  uint64_t active = 0;  // endpoints that hold all blocks so far
  for (size_t i = 0; i < group.size(); ++i) {
    matched[i] = 0;
    if (group[i] >= endpoint_slots_max) continue;
    position[group[i]] = static_cast<uint8_t>(i);
    views[i] = slots[group[i]].view();
    active |= uint64_t{1} << i;
  }

  for (size_t i = 0; i < std::min(prefetch_distance, chain.size()); ++i) prefetch(chain[i]);
  for (size_t block = 0; block < chain.size() && active != 0; ++block) {
    if (block + prefetch_distance < chain.size()) prefetch(chain[block + prefetch_distance]);
    const uint64_t hash = chain[block];
    uint64_t holders = 0;
    for (size_t step = 0; step < lines_max; ++step) {
      const uint64_t* words_of_line = line(hash, step);
      unsigned of_block = 0;
      bool full = true;
      for (size_t i = 0; i < words_per_line; ++i) {
        const uint64_t word = load(words_of_line + i);
        full = full && word != 0;
        if (tag_of(word) != tag_of(hash) || word == 0) continue;
        ++of_block;
        const uint32_t slot = slot_of(word);
        if (slot >= slot_end || position[slot] == nobody) continue;
        if (views[position[slot]].live(word)) holders |= uint64_t{1} << position[slot];
      }
      if ((active & ~holders) == 0 || !(full || of_block >= follow_at)) break;
    }
    for (uint64_t lost = active & ~holders; lost != 0; lost &= lost - 1) {
      matched[static_cast<size_t>(std::countr_zero(lost))] = static_cast<uint32_t>(block);
    }
    active &= holders;
  }
  for (; active != 0; active &= active - 1) {
    matched[static_cast<size_t>(std::countr_zero(active))] = static_cast<uint32_t>(chain.size());
  }
}

void PrefixIndex::record(std::span<const uint64_t> chain, uint32_t slot) {
  if (slot >= endpoint_slots_max || chain.empty()) return;
  chain = chain.first(std::min<size_t>(chain.size(), ahead_max));
  EndpointSlot& endpoint = table_->slots[slot];
  const View own = endpoint.view();
  // Tail first: model servers evict the tail of a chain before its head, and the head is what all matches need.
  uint64_t fresh = 0, ages = 0;
  for (size_t i = chain.size(); i-- > 0;) {
    if (i >= prefetch_distance) table_->prefetch(chain[i - prefetch_distance]);
    ages += table_->touch(chain[i], slot, own, fresh);
  }
  // A new block pushes every other one step towards eviction. One that was held already, at age a, pushes only the
  // blocks younger than it: a/span of them. The counter moves by the mean push.
  const uint64_t pushed = fresh + ages / std::max<uint64_t>(own.span, 1);
  if (pushed == 0) return;
  endpoint.counter.fetch_add(pushed, std::memory_order_relaxed);
  table_->sweep(pushed);
}

// Stamps the block as the newest of the endpoint. Returns the age it had; 0, and one more in `fresh`, if it was not
// held.
uint64_t PrefixIndex::Table::touch(uint64_t hash, uint32_t slot, const View& own, uint64_t& fresh) {
  for (size_t step = 0;; ++step) {
    uint64_t* words_of_line = line(hash, step);
    unsigned of_block = 0;
    for (size_t i = 0; i < words_per_line; ++i) {
      const uint64_t word = load(words_of_line + i);
      if (tag_of(word) != tag_of(hash) || word == 0) continue;
      ++of_block;
      if (slot_of(word) != slot) continue;
      const uint64_t age = age_of(word, own.counter);
      const bool held = age < own.span;
      fresh += held ? 0 : 1;
      store(words_of_line + i, make_word(hash, slot, own.counter + fresh));
      return held ? age : 0;
    }
    const bool last = step + 1 == lines_max;
    const size_t place = of_block < spill_at || last ? place_in(words_of_line, last) : words_per_line;
    if (place == words_per_line) continue;
    ++fresh;
    if (load(words_of_line + place) == 0) used.fetch_add(1, std::memory_order_relaxed);
    store(words_of_line + place, make_word(hash, slot, own.counter + fresh));
    return 0;
  }
}

// Where a new word may go: an empty place, else a void word, else the oldest that is alone of its block (on the last
// line the oldest of all). words_per_line: nowhere.
size_t PrefixIndex::Table::place_in(const uint64_t* words_of_line, bool last) const {
  std::array<uint64_t, words_per_line> seen;
  for (size_t i = 0; i < words_per_line; ++i) {
    seen[i] = load(words_of_line + i);
    if (seen[i] == 0) return i;
  }
  const auto alone = [&seen](uint64_t word) {
    return std::count_if(seen.begin(), seen.end(), [word](uint64_t w) { return tag_of(w) == tag_of(word); }) == 1;
  };
  size_t oldest = words_per_line;
  uint64_t oldest_age = 0;
  for (size_t i = 0; i < words_per_line; ++i) {
    const View view = slots[slot_of(seen[i])].view();
    const uint64_t age = age_of(seen[i], view.counter);
    if (age >= view.span) return i;
    if ((oldest == words_per_line || age > oldest_age) && (last || alone(seen[i]))) {
      oldest = i;
      oldest_age = age;
    }
  }
  return oldest;
}

void PrefixIndex::Table::erase(uint64_t* place, uint64_t expected) {
  if (Word(*place).compare_exchange_strong(expected, 0, std::memory_order_relaxed)) {
    used.fetch_sub(1, std::memory_order_relaxed);
  }
}

void PrefixIndex::Table::forget_block(uint64_t hash, uint32_t slot) {
  for (size_t step = 0; step < lines_max; ++step) {
    uint64_t* words_of_line = line(hash, step);
    unsigned of_block = 0;
    bool full = true;
    for (size_t i = 0; i < words_per_line; ++i) {
      const uint64_t word = load(words_of_line + i);
      full = full && word != 0;
      if (tag_of(word) != tag_of(hash) || word == 0) continue;
      ++of_block;
      if (slot_of(word) == slot) erase(words_of_line + i, word);
    }
    if (!full && of_block < follow_at) return;
  }
}

// Erases void words in the share of the table that is due for `recorded` more blocks. The total is the cursor.
void PrefixIndex::Table::sweep(uint64_t recorded) {
  const uint64_t before = recorded_total.fetch_add(recorded, std::memory_order_relaxed);
  const unsigned line_bits = static_cast<unsigned>(std::bit_width(line_mask));
  const auto cursor = [line_bits](uint64_t total) {
    return line_bits <= sweep_period_bits ? total >> (sweep_period_bits - line_bits)
                                          : total << (line_bits - sweep_period_bits);
  };
  for (uint64_t at = cursor(before), end = cursor(before + recorded); at != end; ++at) {
    uint64_t* words_of_line = line(at, 0);
    for (size_t i = 0; i < words_per_line; ++i) {
      const uint64_t word = load(words_of_line + i);
      if (word != 0 && !slots[slot_of(word)].view().live(word)) erase(words_of_line + i, word);
    }
  }
}

void PrefixIndex::forget_tail(std::span<const uint64_t> chain, uint32_t slot, size_t kept_blocks) {
  if (slot >= endpoint_slots_max) return;
  for (size_t i = kept_blocks; i < chain.size(); ++i) {
    if (i + prefetch_distance < chain.size()) table_->prefetch(chain[i + prefetch_distance]);
    table_->forget_block(chain[i], slot);
  }
}

void PrefixIndex::forget_endpoint(uint32_t slot) {
  if (slot >= endpoint_slots_max) return;
  EndpointSlot& endpoint = table_->slots[slot];
  // All stamps given so far are at most the old counter: void from here on. The step makes room for the next stamp.
  endpoint.base.store(endpoint.counter.fetch_add(1, std::memory_order_relaxed), std::memory_order_relaxed);
}

void PrefixIndex::bind(uint32_t slot, uint32_t incarnation) {
  if (slot >= endpoint_slots_max) return;
  std::atomic<uint32_t>& bound = table_->slots[slot].incarnation;
  uint32_t before = bound.load(std::memory_order_relaxed);
  if (before == incarnation) return;
  // One shard wins. The first incarnation of a slot has nothing to forget.
  if (bound.compare_exchange_strong(before, incarnation, std::memory_order_relaxed) && before != 0) {
    set_capacity(slot, 0);
    forget_endpoint(slot);
  }
}

void PrefixIndex::set_capacity(uint32_t slot, uint64_t blocks) {
  if (slot >= endpoint_slots_max) return;
  std::atomic<uint64_t>& capacity = table_->slots[slot].capacity;
  const uint64_t wanted = blocks == 0 ? capacity_max : std::min(blocks, capacity_max);
  if (capacity.load(std::memory_order_relaxed) != wanted) capacity.store(wanted, std::memory_order_relaxed);
}

size_t PrefixIndex::size() const {
  return static_cast<size_t>(std::max<int64_t>(table_->used.load(std::memory_order_relaxed), 0));
}

size_t PrefixIndex::bytes() const {
  return (table_->line_mask + 1) * words_per_line * sizeof(uint64_t) + sizeof(Table);
}

}  // namespace penstock::routing
