// One line of the access log, formatted into memory that the caller gives. Pure; does not allocate.
#pragma once

#include <span>
#include <string_view>

#include "penstock/base/log.h"
#include "penstock/proxy/observer.h"

namespace penstock::observability {

constexpr size_t access_line_max = 8192;

// Returns the line, with its newline, inside `space` (at least access_line_max bytes). What clients control is escaped
// and cut to a bounded length, so that a line is always one line and never more than that.
// Without `with_query` the path ends before its '?': what stands behind it is often a secret.
std::string_view format_access_line(std::span<char> space, log::Format format, const proxy::ExchangeRecord& record,
                                    bool with_query = false);

}  // namespace penstock::observability
