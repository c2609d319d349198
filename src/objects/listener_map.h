// Which of our own listeners takes the requests of a Gateway's listener: the one with its protocol and port; if there
// is none, all those of the protocol whose own port no Gateway's listener has. Ports in a pod are fixed by its
// Deployment, and a Service may give them other numbers, so that a Gateway's port 80 is usually the one listener that
// there is. Our listeners that take the requests of the same Gateways' listeners share a table of routes.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "penstock/objects/resolve.h"

namespace penstock::objects {

struct ListenerPort {
  int32_t port;
  bool tls;
  auto operator<=>(const ListenerPort&) const = default;
};

class ListenerMap {
 public:
  ListenerMap() = default;  // one table for everything
  // `asked`: what the listeners of all our Gateways ask for.
  ListenerMap(const std::vector<OwnListener>& ours, const std::set<ListenerPort>& asked);

  size_t tables() const { return of_table_.size(); }
  // The table of our listener with this number.
  size_t table_of(size_t own) const { return own < table_of_.size() ? table_of_[own] : 0; }
  // The table for a Gateway's listener; nothing: none of ours takes its requests.
  std::optional<size_t> find(const ListenerPort& asked) const;
  std::string names_of(size_t table) const;  // of our listeners, for people

 private:
  struct Table {
    ListenerPort takes;  // port 0: what no other table takes
    std::string names;
  };
  std::vector<size_t> table_of_;  // by the number of our listener
  std::vector<Table> of_table_ = {{{0, false}, ""}};
};

}  // namespace penstock::objects
