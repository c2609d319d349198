// Small files, as a whole.
#pragma once

#include <string>

#include "penstock/base/result.h"

namespace penstock {

// What the file holds, which may be nothing. The error says why it cannot be read and leaves the name to the caller.
Result<std::string> read_file(const std::string& path);

}  // namespace penstock
