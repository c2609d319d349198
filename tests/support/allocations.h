// How often the program has asked for memory. A program that links allocations.cc has its global allocation functions
// replaced by ones that count; sanitizers see through them.
#pragma once

#include <cstdint>

namespace penstock::test {

uint64_t allocations();  // of all threads so far

}  // namespace penstock::test
