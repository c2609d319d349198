#include "penstock/base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace penstock {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "penstock: internal error, please report: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace penstock
