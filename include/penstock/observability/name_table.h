// Names that clients choose (models) as small numbers, so that statistics can be arrays. Bounded: after `names_max`
// distinct names, beyond its room on the page, and for names that cannot be a label, everything is `other`. A name
// never changes its number. Any thread; looking up takes no lock, and neither does being full. Only a name's first
// appearance takes one.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::observability {

// A hash of up to four strings, with a seed of this process: clients cannot choose names that collide.
uint64_t hash_of_names(std::string_view a, std::string_view b, std::string_view c, std::string_view d);

// The models that endpoints serve. Any thread; has a lock: it is asked when a name is new.
class KnownModels {
 public:
  void set(std::set<std::string, std::less<>> models);
  bool contains(std::string_view model) const;

 private:
  mutable std::mutex mutex_;
  std::set<std::string, std::less<>> models_;
};

// What the names of a table may cost on the page of metrics: each takes `lines`, of `line_bytes` and the name's own
// bytes. A name whose first `models` parts are all known models costs nothing: clients cannot invent it.
struct NameRoom {
  size_t bytes = SIZE_MAX;
  size_t lines = 0, line_bytes = 0;
  size_t models = 0;
  const KnownModels* known = nullptr;
};

class NameTable {
  struct Entry;

 public:
  static constexpr uint32_t other = 0;
  static constexpr size_t part_count = 4;
  static constexpr size_t part_bytes_max = 256;  // longer ones are `other`

  // Up to four strings that make one name: (InferenceModelRewrite, model, target model) or so.
  struct Name {
    std::string parts[part_count];
    bool is(std::string_view a, std::string_view b, std::string_view c, std::string_view d) const {
      return same(parts[0], a) && same(parts[1], b) && same(parts[2], c) && same(parts[3], d);
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

  explicit NameTable(uint32_t names_max, const NameRoom& room = {});
  ~NameTable();
  NameTable(const NameTable&) = delete;

  uint32_t index_of(std::string_view a, std::string_view b = {}, std::string_view c = {}, std::string_view d = {}) {
    Recent recent;
    return look_up(recent, names_max_, a, b, c, d);
  }
  uint32_t index_of(Recent& recent, std::string_view a, std::string_view b = {}, std::string_view c = {},
                    std::string_view d = {}) {
    return index_within(recent, names_max_, a, b, c, d);
  }
  // The same, but a new name takes a place only among the first `places` (0: never), else it is `other`.
  uint32_t index_within(Recent& recent, uint32_t places, std::string_view a, std::string_view b = {},
                        std::string_view c = {}, std::string_view d = {}) {
    const Entry* const entry = recent.entry_;
    if (entry != nullptr && entry->name.is(a, b, c, d)) return entry->index;
    return look_up(recent, places, a, b, c, d);
  }
  uint32_t size() const { return size_.load(std::memory_order_acquire); }  // numbers 1 .. size() have names
  uint32_t names_max() const { return names_max_; }
  const Name& name(uint32_t index) const;  // of `other`: all parts "other"

 private:
  struct Entry {
    uint64_t hash;
    uint32_t index;
    Name name;
  };
  uint32_t look_up(Recent& recent, uint32_t places, std::string_view a, std::string_view b, std::string_view c,
                   std::string_view d);
  const Entry* insert(uint64_t hash, uint32_t places, std::string_view a, std::string_view b, std::string_view c,
                      std::string_view d);
  // The slot that holds this name, or the first empty one to try; slot_count_ when neither is near.
  size_t find(uint64_t hash, std::string_view a, std::string_view b, std::string_view c, std::string_view d) const;

  bool has_room(const Name& name);

  const uint32_t names_max_;
  const NameRoom room_;
  const size_t slot_count_;  // power of two, at least four times names_max_
  std::unique_ptr<std::atomic<const Entry*>[]> slots_;
  std::vector<std::unique_ptr<const Entry>> entries_;  // by index - 1; never grows beyond what was reserved
  std::atomic<uint32_t> size_{0};
  std::mutex inserting_;
  size_t spent_ = 0;  // of room_.bytes
};

}  // namespace penstock::observability
