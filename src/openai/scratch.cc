#include "scratch.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace penstock::openai {
namespace {

constexpr size_t scratch_min = 4 * 1024;
constexpr size_t scratch_kept_max = 64 * 1024;

}  // namespace

bool Scratch::open(std::string_view lead, std::string_view text, simdjson::ondemand::document& document) {
  const size_t size = lead.size() + text.size();
  if (size + simdjson::SIMDJSON_PADDING > capacity_) {
    capacity_ = std::bit_ceil(std::max(size + simdjson::SIMDJSON_PADDING, scratch_min));
    bytes_ = std::make_unique<char[]>(capacity_);
    if (parser_.allocate(capacity_)) return false;
  }
  std::copy(lead.begin(), lead.end(), bytes_.get());
  std::copy(text.begin(), text.end(), bytes_.get() + lead.size());
  std::memset(bytes_.get() + size, ' ', simdjson::SIMDJSON_PADDING);
  return parser_.iterate(simdjson::padded_string_view(bytes_.get(), size, capacity_)).get(document) ==
         simdjson::SUCCESS;
}

void Scratch::shrink() {
  if (capacity_ <= scratch_kept_max) return;
  capacity_ = 0;
  bytes_.reset();
  parser_ = simdjson::ondemand::parser();
}

Scratch& scratch() {
  thread_local Scratch instance;
  return instance;
}

}  // namespace penstock::openai
