#include "penstock/routing/prefix_index.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>

#include "penstock/base/assert.h"
#include "prefix_words.h"

namespace penstock::routing {
namespace {

constexpr size_t words_per_line = 8;
constexpr size_t line_bytes = words_per_line * sizeof(uint64_t);
constexpr size_t huge_page = size_t{2} << 20;
// A block that many endpoints hold (a system prompt) spills from its first line into further ones, which are its own
// for each group of slots, so that who records goes past the words of its group only, however many endpoints there are:
// a line takes up to `spill_at` words of one block, and gives up a live word for another only if that is the line's
// only word of its block. So a rare block finds room in its first line, and popular blocks that meet do not push each
// other out. A reader that misses somebody goes on to the next line if this one is full or holds `follow_at` words of
// the block (some of `spill_at` may have been erased), from the first line to those of each group; in a table that is
// full all over, one line of each. It misses each endpoint once per chain, so it seldom goes on.
constexpr unsigned spill_at = 6;
constexpr unsigned follow_at = 4;
constexpr uint32_t group_slots = 48;
constexpr size_t group_lines = 10;
// Some more room than one block needs: other popular blocks may share a few of its lines.
static_assert(group_slots * 5 <= group_lines * spill_at * 4);
constexpr uint32_t groups_max = PrefixIndex::endpoint_slots_max / group_slots + 1;
// The lines of a block, counted: the first, then those of each group.
constexpr size_t first_line(uint32_t group) {
  return 1 + group * group_lines;
}
constexpr size_t end_of_lines(uint32_t group) {
  return first_line(group + 1);
}

// Blocks younger than this share of the endpoint's capacity need no new stamp, up to `young_max`: in a table that is
// full the words with the oldest stamps go first, and what else is lost of a chain is to come back soon.
constexpr uint64_t young_share = 64, young_max = 2048;

constexpr size_t prefetch_distance = 16;
// Entries from one look at a chain to the next, and how many such looks are prefetched.
constexpr uint32_t stride = 32;
constexpr uint32_t strides_ahead = 12;

// The blocks of a chain that have entries, counted 0, 1, 2, ... as the others never were. The last of a run of `every`
// blocks speaks for the run: its hash is of all that stands before it.
class Sampled {
 public:
  Sampled(std::span<const uint64_t> chain, PrefixIndex::Sampling sampling) : chain_(chain), sampling_(sampling) {
    const size_t size = chain.size(), dense = sampling.dense;
    size_ = static_cast<uint32_t>(size <= dense ? size : dense + (size - dense) / sampling.every);
  }
  uint32_t size() const { return size_; }
  uint64_t operator[](size_t entry) const { return chain_[blocks(entry + 1) - 1]; }
  // Blocks that the first `entries` speak for.
  size_t blocks(size_t entries) const {
    const size_t dense = sampling_.dense;
    return entries <= dense ? entries : dense + (entries - dense) * sampling_.every;
  }
  uint64_t weight(size_t entry) const { return entry < sampling_.dense ? 1 : sampling_.every; }

 private:
  std::span<const uint64_t> chain_;
  PrefixIndex::Sampling sampling_;
  uint32_t size_;
};

// What a reader needs to judge words of one endpoint, read once per call.
struct View {
  uint64_t counter;
  uint64_t span;   // words of this age and more are void
  uint64_t young;  // words younger than this need no new stamp yet; at most `span`
  bool live(uint64_t word) const { return age_of(word, counter) < span; }
};

// The same, for many words. Counted from a stamp that is ahead by the most, ages do not wrap for those that are ahead,
// and one comparison does.
struct Judge {
  uint64_t newest;
  uint64_t span;  // 0: nothing is live
  explicit Judge(const View& view)
      : newest(view.counter + ahead_max), span(view.span == 0 ? 0 : view.span + ahead_max) {}
  Judge() {}  // in an array, of which only some are used
  bool live(uint64_t word) const { return ((newest - word) & stamp_mask) < span; }
};

// How far each endpoint has been followed along a chain. Indexed by slot; only those of the candidates are read.
struct Followed {
  static constexpr uint32_t nobody = UINT32_MAX;
  std::array<uint32_t, PrefixIndex::endpoint_slots_max> reached;  // entries held so far; nobody: not a candidate
  std::array<Judge, PrefixIndex::endpoint_slots_max> judges;
  uint32_t slot_end = 0;  // after the last candidate's
  std::array<uint32_t, groups_max> group_members{};
};

// What recording a chain has done so far. (The table's own counters are touched once for a chain: a locked instruction
// for each block would cost more than the block.)
struct Recorded {
  uint64_t fresh = 0;  // blocks that were not held
  int64_t filled = 0;  // words that were empty
};

struct alignas(64) EndpointSlot {
  std::atomic<uint64_t> counter{1};  // blocks recorded; never falls
  std::atomic<uint64_t> base{0};     // the counter at the last forget: older stamps are void for good
  std::atomic<uint64_t> capacity{PrefixIndex::capacity_max};
  std::atomic<uint32_t> incarnation{0};
  std::atomic<uint64_t> swept{0};  // where the sweep had come to when it last recorded

  View view() const {
    const uint64_t since = base.load(std::memory_order_relaxed);
    const uint64_t now = std::max(since, counter.load(std::memory_order_relaxed));
    const uint64_t most = capacity.load(std::memory_order_relaxed), span = std::min(most, now - since);
    return {now, span, std::min({most / young_share, span, young_max})};
  }
};

}  // namespace

// Every access to a word, and to the number of lines, is relaxed: a word is complete in itself and nothing else is
// published through it. A reader that sees an old word sees a state the table was in; a writer that overwrites
// another's word costs that one a hit.
struct PrefixIndex::Table {
  Table(Room room, Sampling sampling);
  ~Table() { ::munmap(memory, memory_bytes); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  uint64_t* line(uint64_t hash, size_t step) const {
    const uint64_t stride = (hash >> 24) | 1;  // odd: visits all lines before one again
    return words + ((hash + step * stride) & line_mask.load(std::memory_order_relaxed)) * words_per_line;
  }
  size_t lines() const { return line_mask.load(std::memory_order_relaxed) + 1; }
  bool open_lines(size_t from, size_t to, bool huge);
  bool grow();
  void prefetch(uint64_t hash) const { __builtin_prefetch(line(hash, 0)); }
  void prefetch_to_write(uint64_t hash) const { __builtin_prefetch(line(hash, 0), 1); }

  bool young(uint64_t hash, uint32_t slot, const View& own) const;
  uint64_t touch(uint64_t hash, uint64_t weight, uint32_t slot, const View& own, Recorded& done);
  uint64_t touch_or_place(uint64_t hash, uint64_t weight, uint32_t slot, const View& own, Recorded& done);
  static uint64_t renew(uint64_t* place, uint64_t word, uint64_t wanted, uint64_t weight, const View& own,
                        Recorded& done);
  size_t place_in(const uint64_t* line, bool last) const;
  bool erase(uint64_t* word, uint64_t expected);
  bool forget_in(uint64_t hash, size_t step, uint32_t slot, int64_t& erased);
  int64_t forget_block(uint64_t hash, uint32_t slot);
  void sweep(EndpointSlot& endpoint, uint64_t recorded);
  struct Scanned {
    unsigned of_block;
    bool full;
  };
  Scanned scan(uint64_t hash, size_t step, uint32_t from, uint32_t to, size_t& found, Followed& followed) const;
  size_t advance(uint64_t hash, uint32_t from, uint32_t to, size_t wanted, Followed& followed) const;
  void find_ends(const Sampled& chain, uint32_t from, uint32_t to, size_t lost, Followed& followed) const;
  void follow(const Sampled& chain, size_t candidates, Followed& followed) const;

  const Sampling sampling;
  void* memory;
  size_t memory_bytes;
  uint64_t* words;  // aligned to a huge page
  size_t lines_most;
  std::atomic<uint64_t> line_mask;
  alignas(64) std::atomic<uint64_t> swept{0};  // new blocks that the sweep has kept up with: its place
  std::atomic<int64_t> used{0};                // words that are not zero
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
bool full(const uint64_t* line) {
  for (size_t i = 0; i < words_per_line; ++i) {
    if (load(line + i) == 0) return false;
  }
  return true;
}
}  // namespace

PrefixIndex::Table::Table(Room room, Sampling which) : sampling(which) {
  PENSTOCK_ASSERT(which.every > 0);
  // At least a few lines for each that a block has.
  constexpr size_t least = size_t{32} * words_per_line;
  const size_t lines = std::bit_ceil(std::max(room.entries, least)) / words_per_line;
  lines_most = std::max(std::bit_floor(std::max(room.most, least)) / words_per_line, lines);
  line_mask = lines - 1;
  // Addresses for all that it may come to, without memory behind them, which is not charged to anybody.
  memory_bytes = lines_most * line_bytes + huge_page;
  memory = ::mmap(nullptr, memory_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PENSTOCK_ASSERT(memory != MAP_FAILED);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  words = reinterpret_cast<uint64_t*>((address + huge_page - 1) / huge_page * huge_page);
  // A very large table that was asked for stays on small pages, resident as it is used.
  constexpr size_t huge_table_max = size_t{256} << 20;
  const bool opened = open_lines(0, lines, lines * line_bytes <= huge_table_max);
  PENSTOCK_ASSERT(opened);
}

// Blocks lie all over the table, so that with small pages nearly every look-up would also miss the TLB: at 220 KB a
// prompt a third of a shard's time went here. Huge pages are taken now and not by whoever meets them first: the kernel
// may move memory about for tens of milliseconds to make one. False: there is no memory for it.
bool PrefixIndex::Table::open_lines(size_t from, size_t to, bool huge) {
  uint64_t* const begin = words + from * words_per_line;
  const size_t bytes = (to - from) * line_bytes;
  const size_t into_page = reinterpret_cast<uintptr_t>(begin) % static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* const page = reinterpret_cast<char*>(begin) - into_page;
  if (::mprotect(page, into_page + bytes, PROT_READ | PROT_WRITE) != 0) return false;
  if (!huge || bytes < huge_page || ::madvise(begin, bytes, MADV_HUGEPAGE) != 0) return true;
  for (size_t at = 0; at < bytes / sizeof(uint64_t); at += huge_page / sizeof(uint64_t)) store(begin + at, 0);
  return true;
}

// Twice as many lines. The upper half becomes a copy of the lower: whichever of the two lines a block has from now on,
// it had the lower one before, so all that was known is found again at once. The other copy is never looked at, goes
// unused, and is overwritten like all that is old. What is void goes now: this pass counts as one of the sweep's. What
// is recorded while it runs may be missing from the copy, which costs that block a hit.
bool PrefixIndex::Table::grow() {
  const size_t before = lines();
  if (before * 2 > lines_most || !open_lines(before, before * 2, true)) return false;
  const size_t count = before * words_per_line;
  int64_t more = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t word = load(words + i);
    if (word == 0) continue;
    if (slots[slot_of(word)].view().live(word)) {
      store(words + count + i, word);
      ++more;
    } else if (erase(words + i, word)) {
      --more;
    }
  }
  used.fetch_add(more, std::memory_order_relaxed);
  line_mask.store(before * 2 - 1, std::memory_order_release);
  return true;
}

PrefixIndex::PrefixIndex(Room room, Sampling sampling) : table_(std::make_unique<Table>(room, sampling)) {}
PrefixIndex::PrefixIndex(size_t entries) : PrefixIndex(entries, every_block) {}
PrefixIndex::~PrefixIndex() = default;

void PrefixIndex::match(std::span<const uint64_t> chain, std::span<const uint32_t> slots,
                        std::span<uint32_t> matched_blocks) const {
  PENSTOCK_ASSERT(slots.size() == matched_blocks.size());
  Followed followed;
  for (const uint32_t slot : slots) {
    if (slot < endpoint_slots_max) followed.slot_end = std::max(followed.slot_end, slot + 1);
  }
  std::fill_n(followed.reached.begin(), followed.slot_end, Followed::nobody);
  size_t candidates = 0;
  for (const uint32_t slot : slots) {
    if (slot >= endpoint_slots_max || followed.reached[slot] == 0) continue;
    followed.reached[slot] = 0;
    followed.judges[slot] = Judge(table_->slots[slot].view());
    ++followed.group_members[slot / group_slots];
    ++candidates;
  }
  const Sampled entries(chain, table_->sampling);
  table_->follow(entries, candidates, followed);
  for (size_t i = 0; i < slots.size(); ++i) {
    const uint32_t reached = slots[i] < endpoint_slots_max ? followed.reached[slots[i]] : 0;
    matched_blocks[i] = static_cast<uint32_t>(entries.blocks(reached));
  }
}

// All candidates at once, in strides: who holds the last block of a stride holds the stride, since caches and this
// index lose the tail of a chain before its head.
void PrefixIndex::Table::follow(const Sampled& chain, size_t candidates, Followed& followed) const {
  const uint32_t size = chain.size();
  if (size == 0) return;
  for (uint32_t at = 0, ahead = 0; ahead < strides_ahead && at < size; ++ahead, at += stride) prefetch(chain[at]);
  uint32_t at = 1;
  size_t active = advance(chain[0], 0, 1, candidates, followed);
  while (active > 0 && at < size) {
    const uint32_t to = std::min(at + stride, size);
    const size_t ahead = size_t{to} - 1 + strides_ahead * stride;
    if (ahead < size) prefetch(chain[ahead]);
    const size_t kept = advance(chain[to - 1], at, to, active, followed);
    find_ends(chain, at, to, active - kept, followed);
    active = kept;
    at = to;
  }
}

// `lost` endpoints were followed to `from` and do not hold the last entry before `to`: where between do they end?
void PrefixIndex::Table::find_ends(const Sampled& chain, uint32_t from, uint32_t to, size_t lost,
                                   Followed& followed) const {
  while (lost > 0 && to - from > 1) {
    const uint32_t middle = from + (to - from) / 2;
    prefetch(chain[from + (middle - from) / 2]);
    prefetch(chain[middle + (to - middle) / 2 - 1]);
    const size_t kept = advance(chain[middle - 1], from, middle, lost, followed);
    find_ends(chain, middle, to, kept, followed);
    lost -= kept;
    to = middle;
  }
}

// Those that were followed to `from` and whose words of the block `hash` are in this line have reached `to`.
inline PrefixIndex::Table::Scanned PrefixIndex::Table::scan(uint64_t hash, size_t step, uint32_t from, uint32_t to,
                                                            size_t& found, Followed& followed) const {
  const uint64_t* words_of_line = line(hash, step);
  unsigned of_block = 0;
#pragma GCC unroll 8
  for (size_t i = 0; i < words_per_line; ++i) {
    const uint64_t word = load(words_of_line + i);
    if (!same_tag(word ^ hash) || word == 0) continue;
    ++of_block;
    const uint32_t slot = slot_of(word);
    if (slot >= followed.slot_end || followed.reached[slot] != from || !followed.judges[slot].live(word)) continue;
    followed.reached[slot] = to;
    ++found;
  }
  return {of_block, full(words_of_line)};
}

// Those that were followed to `from` and hold the block `hash` have reached `to`. Returns how many; `wanted` at most.
size_t PrefixIndex::Table::advance(uint64_t hash, uint32_t from, uint32_t to, size_t wanted, Followed& followed) const {
  size_t found = 0;
  const Scanned first = scan(hash, 0, from, to, found, followed);
  const bool popular = first.of_block >= follow_at;
  if (!popular && !first.full) return found;
  for (uint32_t group = 0; group * group_slots < followed.slot_end && found < wanted; ++group) {
    if (followed.group_members[group] == 0) continue;
    for (size_t step = first_line(group); step < end_of_lines(group) && found < wanted; ++step) {
      __builtin_prefetch(line(hash, step + group_lines));
      const Scanned next = scan(hash, step, from, to, found, followed);
      if (next.of_block < follow_at && !(popular && next.full)) break;
    }
  }
  return found;
}

void PrefixIndex::record(std::span<const uint64_t> chain, uint32_t slot) {
  if (slot >= endpoint_slots_max || chain.empty()) return;
  Table& table = *table_;
  const Sampled entries(chain.first(std::min<size_t>(chain.size(), ahead_max)), table.sampling);
  EndpointSlot& endpoint = table.slots[slot];
  const View own = endpoint.view();
  if (table.young(entries[entries.size() - 1], slot, own)) return;
  // Tail first: model servers evict the tail of a chain before its head, and the head is what all matches need.
  Recorded done;
  uint64_t ages = 0;
  for (size_t i = entries.size(); i-- > 0;) {
    if (i >= prefetch_distance) table.prefetch_to_write(entries[i - prefetch_distance]);
    ages += table.touch(entries[i], entries.weight(i), slot, own, done);
  }
  // A new block pushes every other one step towards eviction. One that was held already, at age a, pushes only the
  // blocks younger than it: a/span of them. The counter moves by the mean push.
  if (done.filled > 0) table.used.fetch_add(done.filled, std::memory_order_relaxed);
  const uint64_t pushed = done.fresh + ages / std::max<uint64_t>(own.span, 1);
  if (pushed == 0) return;
  endpoint.counter.fetch_add(pushed, std::memory_order_relaxed);
  table.sweep(endpoint, pushed);
}

// Whether the endpoint recorded the block a short while ago. All that stands before it was stamped then or later: to
// record it again would change next to nothing. Looked for where it mostly stands: false says nothing.
bool PrefixIndex::Table::young(uint64_t hash, uint32_t slot, const View& own) const {
  const uint64_t wanted = make_word(hash, slot, 0);
  unsigned of_block = 0;
  for (const size_t step : {size_t{0}, first_line(slot / group_slots)}) {
    const uint64_t* const words_of_line = line(hash, step);
    for (size_t i = 0; i < words_per_line; ++i) {
      const uint64_t word = load(words_of_line + i);
      if (!same_tag(word ^ wanted) || word == 0) continue;
      if (same_tag_and_slot(word ^ wanted)) return age_of(word, own.counter) < own.young;
      ++of_block;
    }
    if (of_block < follow_at) break;
  }
  return false;
}

// Stamps the entry, which speaks for `weight` blocks, as the newest of the endpoint. Returns the ages that these had;
// 0, and so many more that are fresh, if they were not held.
inline uint64_t PrefixIndex::Table::touch(uint64_t hash, uint64_t weight, uint32_t slot, const View& own,
                                          Recorded& done) {
  // What is recorded has mostly been recorded before, and stands in the first line.
  const uint64_t wanted = make_word(hash, slot, 0);
  uint64_t* const words_of_line = line(hash, 0);
#pragma GCC unroll 8
  for (size_t i = 0; i < words_per_line; ++i) {
    const uint64_t word = load(words_of_line + i);
    if (same_tag_and_slot(word ^ wanted) && word != 0) return renew(words_of_line + i, word, wanted, weight, own, done);
  }
  Recorded then = done;  // a copy: `done` itself stays in registers
  const uint64_t ages = touch_or_place(hash, weight, slot, own, then);
  done = then;
  return ages;
}

// `word`, at `place`, is the one that is wanted, alive or void.
inline uint64_t PrefixIndex::Table::renew(uint64_t* place, uint64_t word, uint64_t wanted, uint64_t weight,
                                          const View& own, Recorded& done) {
  const uint64_t age = age_of(word, own.counter);
  const bool held = age < own.span;
  done.fresh += held ? 0 : weight;
  store(place, wanted | ((own.counter + done.fresh) & stamp_mask));
  return held ? age * weight : 0;
}

[[gnu::noinline]] uint64_t PrefixIndex::Table::touch_or_place(uint64_t hash, uint64_t weight, uint32_t slot,
                                                              const View& own, Recorded& done) {
  const uint64_t wanted = make_word(hash, slot, 0);
  size_t next = first_line(slot / group_slots);
  const size_t end = next + group_lines;
  for (size_t step = 0;; step = next++) {
    uint64_t* words_of_line = line(hash, step);
    unsigned of_block = 0;
#pragma GCC unroll 8
    for (size_t i = 0; i < words_per_line; ++i) {
      const uint64_t word = load(words_of_line + i);
      if (!same_tag(word ^ wanted) || word == 0) continue;
      ++of_block;
      if (same_tag_and_slot(word ^ wanted)) return renew(words_of_line + i, word, wanted, weight, own, done);
    }
    const bool last = next == end;
    const size_t place = of_block < spill_at || last ? place_in(words_of_line, last) : words_per_line;
    if (place == words_per_line) continue;
    done.fresh += weight;
    if (load(words_of_line + place) == 0) ++done.filled;
    store(words_of_line + place, make_word(hash, slot, own.counter + done.fresh));
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

// The caller takes it off `used`.
bool PrefixIndex::Table::erase(uint64_t* place, uint64_t expected) {
  return Word(*place).compare_exchange_strong(expected, 0, std::memory_order_relaxed);
}

// False: the next line need not be looked at.
bool PrefixIndex::Table::forget_in(uint64_t hash, size_t step, uint32_t slot, int64_t& erased) {
  uint64_t* words_of_line = line(hash, step);
  unsigned of_block = 0;
  bool full = true;
  for (size_t i = 0; i < words_per_line; ++i) {
    const uint64_t word = load(words_of_line + i);
    full = full && word != 0;
    if (tag_of(word) != tag_of(hash) || word == 0) continue;
    ++of_block;
    if (slot_of(word) == slot && erase(words_of_line + i, word)) ++erased;
  }
  return full || of_block >= follow_at;
}

// Returns how many words were erased.
int64_t PrefixIndex::Table::forget_block(uint64_t hash, uint32_t slot) {
  int64_t erased = 0;
  if (!forget_in(hash, 0, slot, erased)) return erased;
  const uint32_t group = slot / group_slots;
  for (size_t step = first_line(group); step < end_of_lines(group); ++step) {
    if (!forget_in(hash, step, slot, erased)) break;
  }
  return erased;
}

// Erases void words in the share of the table that is due for `recorded` more blocks of the endpoint, as far as others
// have not seen to it since it last recorded.
void PrefixIndex::Table::sweep(EndpointSlot& endpoint, uint64_t recorded) {
  const uint64_t due = endpoint.swept.load(std::memory_order_relaxed) + recorded;
  uint64_t before = swept.load(std::memory_order_relaxed);
  while (before < due && !swept.compare_exchange_weak(before, due, std::memory_order_relaxed)) {
  }
  endpoint.swept.store(std::max(before, due), std::memory_order_relaxed);
  if (before >= due) return;
  const unsigned line_bits = static_cast<unsigned>(std::bit_width(lines() - 1));
  const auto cursor = [line_bits](uint64_t total) {
    return line_bits <= sweep_period_bits ? total >> (sweep_period_bits - line_bits)
                                          : total << (line_bits - sweep_period_bits);
  };
  int64_t erased = 0;
  for (uint64_t at = cursor(before), end = cursor(due); at != end; ++at) {
    uint64_t* words_of_line = line(at, 0);
    for (size_t i = 0; i < words_per_line; ++i) {
      const uint64_t word = load(words_of_line + i);
      if (word != 0 && !slots[slot_of(word)].view().live(word) && erase(words_of_line + i, word)) ++erased;
    }
  }
  if (erased > 0) used.fetch_sub(erased, std::memory_order_relaxed);
}

void PrefixIndex::forget_tail(std::span<const uint64_t> chain, uint32_t slot, size_t kept_blocks) {
  if (slot >= endpoint_slots_max) return;
  const Sampled entries(chain, table_->sampling);
  const size_t kept = Sampled(chain.first(std::min(kept_blocks, chain.size())), table_->sampling).size();
  int64_t erased = 0;
  for (size_t i = kept; i < entries.size(); ++i) {
    if (i + prefetch_distance < entries.size()) table_->prefetch(entries[i + prefetch_distance]);
    erased += table_->forget_block(entries[i], slot);
  }
  if (erased > 0) table_->used.fetch_sub(erased, std::memory_order_relaxed);
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

size_t PrefixIndex::entries() const {
  return table_->lines() * words_per_line;
}

size_t PrefixIndex::bytes_most() const {
  return table_->lines_most * line_bytes + sizeof(Table);
}

bool PrefixIndex::reserve(size_t wanted) {
  while (entries() < wanted) {
    if (!table_->grow()) return false;
  }
  return true;
}

size_t PrefixIndex::bytes() const {
  return entries() * sizeof(uint64_t) + sizeof(Table);
}

}  // namespace penstock::routing
