#include "remembered_stream.h"

#include <utility>

namespace penstock::proxy {

using openai::ResumeObstacle;

namespace {
// No event of the known APIs is so long, but for one with the ids of a whole prompt: those of 600,000 tokens.
constexpr size_t event_bytes_max = 64 * 1024, event_with_ids_bytes_max = 4 * 1024 * 1024;
}  // namespace

RememberedStream::RememberedStream(MemoryBudget& budget, openai::Api api, size_t text_bytes_max, bool keeps_ids)
    : budget_(budget),
      event_bytes_max_(keeps_ids ? event_with_ids_bytes_max : event_bytes_max),
      delivered_(api, static_cast<uint32_t>(text_bytes_max), keeps_ids),
      beginning_(budget) {}

RememberedStream::~RememberedStream() {
  budget_.give_back(charged_);
}

bool RememberedStream::take(std::string_view data) {
  const bool text = delivered_.take(data) == openai::Delivered::Took::text;
  charge();
  return text;
}

// Remembering must not take the room that new requests need.
void RememberedStream::charge() {
  const size_t memory = delivered_.memory();
  if (memory <= charged_) return;
  if (budget_.try_take_first(memory - charged_)) {
    charged_ = memory;
    return;
  }
  delivered_.give_up(ResumeObstacle::memory);
  budget_.give_back(std::exchange(charged_, 0));
}

bool RememberedStream::keep(std::string_view beginning) {
  if (!whole_events_) return false;
  const bool fits = beginning_.size() + beginning.size() <= event_bytes_max_;
  if (fits && beginning_.append(beginning, 0)) return true;
  whole_events_ = false;
  delivered_.give_up(fits ? ResumeObstacle::memory : ResumeObstacle::too_long);
  return false;
}

}  // namespace penstock::proxy
