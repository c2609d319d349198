// Numbers as text, of any length. Pure.
#pragma once

#include <string_view>

namespace penstock {

// Whether `a` is less than `b`, both decimal numbers without leading zeros; false when one is not. Tells versions of
// Kubernetes objects apart where a wrong guess does no harm: by its rules they are opaque.
inline bool smaller_number(std::string_view a, std::string_view b) {
  constexpr auto number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  };
  if (!number(a) || !number(b)) return false;
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

}  // namespace penstock
