#include "penstock/kvevents/event_stream.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace penstock::kvevents {

namespace {

size_t hash_of(std::string_view payload) {
  return std::hash<std::string_view>{}(payload);
}

}  // namespace

void EventStream::connected() {
  connected_ = unsure_ = true;
  replaying_ = replay_spent_ = false;
  wants_replay_ = can_replay_;
  replays_in_a_row_ = 0;
  seen_to_ = 0;
  tell();
}

void EventStream::disconnected() {
  connected_ = wants_replay_ = replaying_ = false;
  tell();
}

void EventStream::on_batch(uint64_t number, std::string_view payload) {
  if (wants_replay_ || replaying_) {
    seen_to_ = std::max(seen_to_, number + 1);  // the replay, or the next one, brings it
    return;
  }
  const bool first = std::exchange(unsure_, false);
  if (!expected_) {
    complete_ = number == 0;
  } else if (number < *expected_) {
    if (!first) {
      ++counts_.duplicates;
      return;
    }
    restarted();
    complete_ = number == 0;
  } else if (number > *expected_) {
    ++counts_.gaps;
    if (can_replay_ && !replay_spent_) {
      wants_replay_ = true;
      unsure_ = first;
      seen_to_ = number + 1;
      return tell();
    }
    give_up();
  }
  apply(number, payload);
}

std::optional<uint64_t> EventStream::replay_from() const {
  if (!wants_replay_ || replaying_ || !connected_) return std::nullopt;
  if (!expected_) return 0;
  return unsure_ && *expected_ > 0 ? *expected_ - 1 : *expected_;
}

void EventStream::replay_began() {
  replay_start_ = replay_from().value_or(0);
  wants_replay_ = foreign_ = false;
  replaying_ = true;
  anchored_ = unsure_ && expected_.value_or(0) > 0;
  tell();
}

void EventStream::on_replayed(uint64_t number, std::string_view payload) {
  if (!replaying_ || foreign_) return;
  // It has what we had last, but for its number: at the end all is asked for again, from its first batch on.
  foreign_ = anchored_ && number + 1 == *expected_ && hash_of(payload) != last_payload_;
  if (foreign_) return;
  // What we had last is not there any more: we were away for too long, or the engine is another one. All that it has
  // comes now.
  if (std::exchange(anchored_, false) && number + 1 != *expected_) {
    give_up();
    expected_.reset();
  }
  if (expected_ && number < *expected_) return;
  if (!expected_) {
    blocks_.forget();
    complete_ = number == 0;
  } else if (number > *expected_) {
    give_up();
  }
  ++counts_.replayed;
  apply(number, payload);
}

void EventStream::replay_ended(bool whole) {
  if (!replaying_) return;
  replaying_ = false;
  if (!whole) {
    replay_spent_ = true;
    give_up();
    expected_.reset();
    return tell();
  }
  if (std::exchange(anchored_, false)) {  // it does not even have what we had last
    restarted();
    expected_.reset();
    wants_replay_ = true;
    return tell();
  }
  if (!expected_) {  // nothing was ever published
    expected_ = 0;
    complete_ = true;
  }
  unsure_ = false;
  if (seen_to_ <= *expected_) {
    replays_in_a_row_ = 0;
  } else if (++replays_in_a_row_ < replays_in_a_row_max) {
    wants_replay_ = true;
  } else {  // it does not have what it published a moment ago
    replay_spent_ = true;
    give_up();
    expected_.reset();
  }
  tell();
}

void EventStream::apply(uint64_t number, std::string_view payload) {
  ++counts_.batches;
  expected_ = number + 1;
  last_payload_ = hash_of(payload);
  if (!read_batch(payload, scratch_, *this)) {
    ++counts_.malformed;
    give_up();
  }
  tell();
}

void EventStream::on_cleared() {
  ++blocks_.counts().cleared;
  blocks_.forget();
  complete_ = true;
  events_.on_cache_emptied();
}

void EventStream::restarted() {
  ++counts_.restarts;
  blocks_.forget();
  complete_ = false;
  events_.on_cache_emptied();
}

// A removal may be among what is missing: nothing that is known can be relied on.
void EventStream::give_up() {
  ++counts_.given_up;
  blocks_.forget();
  complete_ = false;
}

// While batches are missing, blocks that were told are still likely there: they are believed, and nothing more.
void EventStream::tell() {
  blocks_.tell(/*told=*/expected_.has_value(), complete());
}

}  // namespace penstock::kvevents
