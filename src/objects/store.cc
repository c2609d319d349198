#include "penstock/objects/store.h"

#include <algorithm>
#include <set>

#include "penstock/base/assert.h"
#include "penstock/base/number_text.h"

namespace penstock::objects {
namespace {

using Change = Store::Change;

template <typename T>
Change difference(const T& before, const T& after) {
  if constexpr (requires { before.spec; }) {
    if (!(before.meta == after.meta && before.spec == after.spec)) return Change::content;
    // A status that is what it was may have been something else in between.
    const bool same =
        before.status == after.status && before.meta.resource_version.text == after.meta.resource_version.text;
    return same ? Change::none : Change::status;
  } else {
    return before == after ? Change::none : Change::content;
  }
}

Change difference(const Object& before, const Object& after) {
  if (before.index() != after.index()) return Change::content;
  return std::visit(
      [&](const auto& typed) { return difference(typed, std::get<std::decay_t<decltype(typed)>>(after)); }, before);
}

constexpr uint64_t bit(Store::Scope scope) {
  return uint64_t{1} << scope;
}

}  // namespace

void Store::note(Kind kind, const Key& key, Change change) {
  constexpr size_t worth_listing = 4096;
  if (change == Change::none) return;
  ++revision_;
  if (changes_.everything) return;
  if (changes_.list.size() == worth_listing) {
    changes_.list.clear();
    changes_.everything = true;
    return;
  }
  changes_.list.push_back({kind, key.first, key.second, change});
}

Change Store::apply(Kind kind, Object object, Scope scope) {
  PENSTOCK_ASSERT(scope < scopes_max);
  const Meta& meta = meta_of(object);
  const auto [at, added] = of(kind).try_emplace(Key(meta.ns, meta.name));
  Entry& entry = at->second;
  entry.scopes |= bit(scope);
  Change change = Change::content;
  if (!added) {
    const Meta& before = meta_of(*entry.object);
    if (scope != entry.writer && before.uid == meta.uid &&
        smaller_number(meta.resource_version.text, before.resource_version.text)) {
      return Change::none;  // another watch is ahead of this one
    }
    change = difference(*entry.object, object);
  }
  entry.object = std::make_shared<const Object>(std::move(object));  // also for its resource version
  entry.writer = scope;
  note(kind, at->first, change);
  return change;
}

Change Store::drop(Kind kind, Map::iterator at, Scope scope) {
  at->second.scopes &= ~bit(scope);
  if (at->second.scopes != 0) return Change::none;
  note(kind, at->first, Change::content);
  of(kind).erase(at);
  return Change::content;
}

Change Store::erase(Kind kind, std::string_view ns, std::string_view name, std::string_view uid, Scope scope) {
  PENSTOCK_ASSERT(scope < scopes_max);
  const auto at = of(kind).find(Key(ns, name));
  if (at == of(kind).end() || (at->second.scopes & bit(scope)) == 0) return Change::none;
  const std::string& stored = meta_of(*at->second.object).uid;
  if (!uid.empty() && !stored.empty() && uid != stored) return Change::none;
  return drop(kind, at, scope);
}

Change Store::replace(Kind kind, std::vector<Object> objects, Scope scope) {
  PENSTOCK_ASSERT(scope < scopes_max);
  std::set<Key> listed;
  for (const Object& object : objects) listed.emplace(meta_of(object).ns, meta_of(object).name);
  Change most = Change::none;
  for (auto at = of(kind).begin(); at != of(kind).end();) {
    const auto next = std::next(at);
    if ((at->second.scopes & bit(scope)) != 0 && !listed.contains(at->first))
      most = std::max(most, drop(kind, at, scope));
    at = next;
  }
  for (Object& object : objects) most = std::max(most, apply(kind, std::move(object), scope));
  return most;
}

void Store::set_served(Kind kind, bool served) {
  set(served_[static_cast<size_t>(kind)], served);
}

void Store::set_awaited(Kind kind, bool awaited) {
  set(awaited_[static_cast<size_t>(kind)], awaited);
}

void Store::set(bool& flag, bool value) {
  if (flag == value) return;
  flag = value;
  ++revision_;
  changes_.list.clear();
  changes_.everything = true;
}

bool Store::in_force(Kind kind) const {
  const std::optional<Kind> successor = preferred_over(kind);
  return !successor || (!served_[static_cast<size_t>(*successor)] && of(*successor).empty());
}

}  // namespace penstock::objects
