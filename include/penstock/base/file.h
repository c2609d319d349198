// Small files, as a whole.
#pragma once

#include <sys/uio.h>

#include <span>
#include <string>

#include "penstock/base/result.h"

namespace penstock {

// What the file holds, which may be nothing. The error says why it cannot be read and leaves the name to the caller.
Result<std::string> read_file(const std::string& path);

// As writev(), but a pipe, socket or terminal that is full is never waited for, whether or not its descriptor blocks:
// -1 and EAGAIN. What is given to one of those is cut to what it takes at once.
ssize_t write_now(int fd, std::span<const iovec> pieces);

}  // namespace penstock
