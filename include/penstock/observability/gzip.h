// Compressed pages. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace penstock::observability {

// The text as one gzip member (RFC 1952). Level 1: a page of metrics becomes 20 times smaller, and higher levels cost
// more time than they save bytes.
std::string gzip(std::string_view text);

// Whether a client that sent this value of Accept-Encoding ("" when none) takes gzip: it names gzip, x-gzip or *, with
// a weight that is not 0 (RFC 9110, section 12.5.3).
bool accepts_gzip(std::string_view accept_encoding);

}  // namespace penstock::observability
