// A regular expression that runs in time proportional to text times pattern and allocates nothing: what clients send is
// matched against it. Knows: literals, '.', classes, groups, '|', '*', '+', '?', '{m,n}', \d \w \s and their opposites,
// escaped punctuation; '^' at the start and '$' at the end, which change nothing since the whole text must match.
#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <vector>

#include "penstock/base/result.h"

namespace penstock::objects {

class Pattern {
 public:
  static Result<Pattern> compile(std::string_view text);
  // The whole text.
  bool matches(std::string_view text) const;

  static constexpr size_t steps_max = 256;
  using Class = std::bitset<256>;
  struct Step {
    enum class Op : uint8_t { one_of, split, jump, end };
    Op op = Op::end;
    uint16_t set = 0;      // one_of: which class
    int16_t a = 0, b = 0;  // relative: where split goes on, a also for jump
  };

 private:
  std::vector<Step> steps_;
  std::vector<Class> classes_;
};

}  // namespace penstock::objects
