// Which objects a sink has been told of, and so must be told the end of. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace penstock::kube {

class HeldObjects {
 public:
  struct Object {
    std::string ns, name, uid;
  };

  size_t size() const { return objects_.size(); }
  void clear() { objects_.clear(); }

  // Notes an object as there, in this round of listing. The uid that it had before, if that was another one.
  std::optional<std::string> put(std::string_view ns, std::string_view name, std::string_view uid, uint64_t round) {
    Entry& entry = objects_.try_emplace(key(ns, name), Entry{std::string(uid), 0}).first->second;
    entry.round = round;
    if (entry.uid == uid) return std::nullopt;
    return std::exchange(entry.uid, std::string(uid));
  }
  bool holds(std::string_view ns, std::string_view name) const { return objects_.contains(key(ns, name)); }
  // The object, if it was held; with a uid that is not empty, only if it is that one.
  std::optional<Object> take(std::string_view ns, std::string_view name, std::string_view uid = {}) {
    const auto found = objects_.find(key(ns, name));
    if (found == objects_.end() || (!uid.empty() && found->second.uid != uid)) return std::nullopt;
    Object object{std::string(ns), std::string(name), std::move(found->second.uid)};
    objects_.erase(found);
    return object;
  }
  // Takes out everything that was not put in this round.
  std::vector<Object> take_others(uint64_t round) {
    std::vector<Object> others;
    for (auto entry = objects_.begin(); entry != objects_.end();) {
      if (entry->second.round == round) {
        ++entry;
        continue;
      }
      const size_t slash = entry->first.find('/');
      others.push_back({entry->first.substr(0, slash), entry->first.substr(slash + 1), std::move(entry->second.uid)});
      entry = objects_.erase(entry);
    }
    return others;
  }

  static std::string key(std::string_view ns, std::string_view name) {
    std::string key;
    key.reserve(ns.size() + 1 + name.size());
    return key.append(ns).append(1, '/').append(name);  // a namespace's name has no slash
  }

 private:
  struct Entry {
    std::string uid;
    uint64_t round;
  };
  std::unordered_map<std::string, Entry> objects_;
};

}  // namespace penstock::kube
