// Names that clients choose (models) as small numbers, so that statistics can be arrays. Bounded: after `names_max`
// distinct names, and for names that cannot be a label, everything is `other`. A name never changes its number.
// Any thread; looking up takes no lock, and neither does being full. Only a name's first appearance takes one.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::observability {

class NameTable {
  struct Entry;

 public:
  static constexpr uint32_t other = 0;
  static constexpr size_t part_count = 3;
  static constexpr size_t part_bytes_max = 256;  // longer ones are `other`

  // Up to three strings that make one name: (model, target model) or (target model, endpoint, its place).
  struct Name {
    std::string parts[part_count];
    bool is(std::string_view a, std::string_view b, std::string_view c) const {
      return same(parts[0], a) && same(parts[1], b) && same(parts[2], c);
    }

   private:
    // operator== asks for an order, at twice the cost.
    static bool same(const std::string& x, std::string_view y) {
      return x.size() == y.size() && (y.empty() || std::memcmp(x.data(), y.data(), y.size()) == 0);
    }
  };

  // The name that one caller looked up last: looking it up again costs a comparison. Of one thread and one table.
  class Recent {
    friend NameTable;
    const Entry* entry_ = nullptr;  // entries live as long as the table
  };

  explicit NameTable(uint32_t names_max);
  ~NameTable();
  NameTable(const NameTable&) = delete;

  uint32_t index_of(std::string_view a, std::string_view b = {}, std::string_view c = {}) {
    Recent recent;
    return look_up(recent, a, b, c);
  }
  uint32_t index_of(Recent& recent, std::string_view a, std::string_view b = {}, std::string_view c = {}) {
    const Entry* const entry = recent.entry_;
    if (entry != nullptr && entry->name.is(a, b, c)) return entry->index;
    return look_up(recent, a, b, c);
  }
  // The same for a name that must not take a place: `other` when it is not there yet.
  uint32_t index_if_known(std::string_view a, std::string_view b = {}, std::string_view c = {}) const;
  uint32_t size() const { return size_.load(std::memory_order_acquire); }  // numbers 1 .. size() have names
  uint32_t names_max() const { return names_max_; }
  const Name& name(uint32_t index) const;  // of `other`: all parts "other"

 private:
  struct Entry {
    uint64_t hash;
    uint32_t index;
    Name name;
  };
  uint32_t look_up(Recent& recent, std::string_view a, std::string_view b, std::string_view c);
  const Entry* insert(uint64_t hash, std::string_view a, std::string_view b, std::string_view c);
  // The slot that holds this name, or the first empty one to try; slot_count_ when neither is near.
  size_t find(uint64_t hash, std::string_view a, std::string_view b, std::string_view c) const;

  const uint32_t names_max_;
  const size_t slot_count_;  // power of two, at least four times names_max_
  const uint64_t seed_;
  std::unique_ptr<std::atomic<const Entry*>[]> slots_;
  std::vector<std::unique_ptr<const Entry>> entries_;  // by index - 1; never grows beyond what was reserved
  std::atomic<uint32_t> size_{0};
  std::mutex inserting_;
};

}  // namespace penstock::observability
