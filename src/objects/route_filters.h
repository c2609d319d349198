// Filters of HTTPRoutes, compiled. A filter must not be skipped: where one cannot be obeyed, that is found.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "penstock/objects/route_table.h"

namespace penstock::objects {

// The first thing that is wrong; later ones do not replace it.
struct Finding {
  std::string reason, message;
  bool found() const { return !reason.empty(); }
  void note(std::string why, std::string text) {
    if (found()) return;
    reason = std::move(why);
    message = std::move(text);
  }
};

// `filters` are those of `rule` or of one of its backends.
RouteFilters compile_filters(const std::vector<RouteFilter>& filters, const RouteRule& rule, Finding& unsupported);

// For RouteTable::describe(): all that the filters say, " request set x=1 redirect 302 ...".
void describe_filters(std::string& out, const RouteFilters& filters);

}  // namespace penstock::objects
