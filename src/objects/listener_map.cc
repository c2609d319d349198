#include "listener_map.h"

#include <algorithm>

namespace penstock::objects {

ListenerMap::ListenerMap(const std::vector<OwnListener>& ours, const std::set<ListenerPort>& asked) {
  if (ours.empty()) return;
  of_table_.clear();
  for (const OwnListener& own : ours) {
    ListenerPort takes{own.port, own.tls};
    if (!asked.contains(takes)) takes.port = 0;
    auto table = std::ranges::find(of_table_, takes, &Table::takes);
    if (table == of_table_.end()) table = of_table_.insert(table, {takes, ""});
    table->names.append(table->names.empty() ? "" : ",").append(own.name);
    table_of_.push_back(static_cast<size_t>(table - of_table_.begin()));
  }
}

std::optional<size_t> ListenerMap::find(const ListenerPort& asked) const {
  for (const ListenerPort& wanted : {asked, ListenerPort{0, asked.tls}}) {
    const auto table = std::ranges::find(of_table_, wanted, &Table::takes);
    if (table != of_table_.end()) return static_cast<size_t>(table - of_table_.begin());
  }
  return std::nullopt;
}

std::string ListenerMap::names_of(size_t table) const {
  return of_table_[table].names;
}

}  // namespace penstock::objects
