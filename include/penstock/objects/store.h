// What the API server (or a folder of manifests) says there is. Applying the same twice changes nothing; a change is
// remembered until the Resolver takes it. One thread.
//
// Scopes: one kind may be watched by several watches (one for each namespace or selector). Each has its own scope, a
// small number; an object is there as long as one scope has it, and replace() removes only what its scope had.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/objects/types.h"

namespace penstock::objects {

class Store {
 public:
  using Scope = uint8_t;
  static constexpr Scope scopes_max = 64;

  // none: nothing that matters differs. status: only the status does (usually our own write coming back), or of an
  // object with a status nothing but the version.
  enum class Change : uint8_t { none, status, content };
  struct Changed {
    Kind kind;
    std::string ns, name;
    Change change;
  };
  struct Changes {
    bool everything = false;  // more than are worth listing
    std::vector<Changed> list;
  };

  // `object` must be what Decoder gave for `kind`. Added and modified are the same.
  Change apply(Kind kind, Object object, Scope scope = 0);
  // The object is gone. With another uid than the stored one (of an earlier object with this name) nothing happens.
  Change erase(Kind kind, std::string_view ns, std::string_view name, std::string_view uid, Scope scope = 0);
  // A complete list: what the scope had and the list has not is gone. The most drastic change is returned.
  Change replace(Kind kind, std::vector<Object> objects, Scope scope = 0);
  // Whether the API server serves this resource; of interest for kinds that make legacy ones ignored.
  void set_served(Kind kind, bool served);
  // There may be objects of this kind that are not here yet: what would be wrong without them is to be put off.
  void set_awaited(Kind kind, bool awaited);
  bool awaited(Kind kind) const { return awaited_[static_cast<size_t>(kind)]; }
  // False for a legacy kind whose successor is served or has objects here.
  bool in_force(Kind kind) const;

  // Rises with each change that matters.
  uint64_t revision() const { return revision_; }
  size_t size(Kind kind) const { return of(kind).size(); }
  // What changed since the last call. One taker.
  Changes take_changes() { return std::exchange(changes_, {}); }

  // The object, or null. T must be the type of the kind.
  template <typename T>
  std::shared_ptr<const T> get(Kind kind, std::string_view ns, std::string_view name) const {
    const auto found = of(kind).find(Key(ns, name));
    return found == of(kind).end() ? nullptr : typed<T>(found->second.object);
  }
  // visit(const std::shared_ptr<const T>&) in the order of namespace and name.
  template <typename T, typename Visit>
  void each(Kind kind, Visit&& visit) const {
    for (const auto& [key, entry] : of(kind)) visit(typed<T>(entry.object));
  }
  template <typename T, typename Visit>
  void each_in(Kind kind, std::string_view ns, Visit&& visit) const {
    for (auto at = of(kind).lower_bound(Key(ns, "")); at != of(kind).end() && at->first.first == ns; ++at) {
      visit(typed<T>(at->second.object));
    }
  }

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, name
  struct Entry {
    std::shared_ptr<const Object> object;
    uint64_t scopes = 0;  // a bit for each that has it
    Scope writer = 0;     // whose version this is
  };
  using Map = std::map<Key, Entry>;

  const Map& of(Kind kind) const { return maps_[static_cast<size_t>(kind)]; }
  Map& of(Kind kind) { return maps_[static_cast<size_t>(kind)]; }
  template <typename T>
  static std::shared_ptr<const T> typed(const std::shared_ptr<const Object>& object) {
    const T* const found = std::get_if<T>(object.get());
    return std::shared_ptr<const T>(object, found);
  }
  void note(Kind kind, const Key& key, Change change);
  Change drop(Kind kind, Map::iterator at, Scope scope);

  std::array<Map, kind_count> maps_;
  void set(bool& flag, bool value);
  std::array<bool, kind_count> served_{}, awaited_{};
  Changes changes_;
  uint64_t revision_ = 0;
};

}  // namespace penstock::objects
