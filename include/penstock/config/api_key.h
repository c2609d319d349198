// The key that model servers want of those who ask them, from a file. The key itself is never a part of the options, so
// that nothing that shows options can show it.
#pragma once

#include <string>

#include "penstock/base/result.h"

namespace penstock::config {

// What the file holds, without white space around it. An error if it cannot be read, is empty, longer than 8 KiB, or
// holds anything but visible ASCII, which could not stand in a header field; it never cites what the file holds.
Result<std::string> read_api_key(const std::string& path);

}  // namespace penstock::config
