#include "penstock/admission/programs.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

namespace penstock::admission {
namespace {

uint32_t sixteenths(Instant at) {
  return static_cast<uint32_t>(std::chrono::duration_cast<milliseconds>(at.time_since_epoch()).count() * 16 / 1000);
}

uint64_t pack(float tokens, uint32_t at) {
  return uint64_t{std::bit_cast<uint32_t>(tokens)} << 32 | at;
}

}  // namespace

Programs::Key Programs::key_of(std::string_view fairness_id) {
  return std::max<Key>(std::hash<std::string_view>()(fairness_id), 1);
}

Programs::Programs(const ProgramOptions& options)
    : options_(options), slots_(std::make_unique<Slot[]>(size_t{sets} * ways)) {}

Programs::Ticket Programs::started(Key key, Instant now) {
  Slot* const slot = seat(key);
  if (slot == nullptr) return {};
  if (forgotten(*slot, now)) {
    slot->started.store(0, std::memory_order_relaxed);
    slot->service.store(0, std::memory_order_relaxed);
  }
  slot->started.fetch_add(1, std::memory_order_relaxed);
  slot->in_flight.fetch_add(1, std::memory_order_relaxed);
  if (slot->key.load(std::memory_order_relaxed) != key) {  // another program has just got the place
    slot->started.fetch_sub(1, std::memory_order_relaxed);
    slot->in_flight.fetch_sub(1, std::memory_order_relaxed);
    return {};
  }
  slot->last.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  return {.key = key, .slot = static_cast<uint32_t>(slot - slots_.get())};
}

void Programs::finished(Ticket ticket, double tokens, Instant now) {
  if (ticket.key == 0) return;
  Slot& slot = slots_[ticket.slot];
  if (slot.key.load(std::memory_order_relaxed) != ticket.key) return;  // forgotten meanwhile
  slot.in_flight.fetch_sub(1, std::memory_order_relaxed);
  slot.last.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  const uint32_t at = sixteenths(now);
  uint64_t before = slot.service.load(std::memory_order_relaxed);
  while (!slot.service.compare_exchange_weak(before, pack(static_cast<float>(faded(before, at) + tokens), at),
                                             std::memory_order_relaxed)) {
  }
}

double Programs::service(Key key, Instant now) const {
  const Slot* const slot = find(key, now);
  return slot == nullptr ? 0 : faded(slot->service.load(std::memory_order_relaxed), sixteenths(now));
}

uint32_t Programs::turn(Key key, Instant arrived, Instant now) const {
  const Slot* const slot = find(key, now);
  if (slot == nullptr) return 1;
  const Instant last{Duration(slot->last.load(std::memory_order_relaxed))};
  const bool paused = options_.inactivity > Duration::zero() && arrived - last > options_.inactivity &&
                      slot->in_flight.load(std::memory_order_relaxed) <= 0;
  return paused ? 1 : slot->started.load(std::memory_order_relaxed) + 1;
}

const Programs::Slot* Programs::find(Key key, Instant now) const {
  const Slot* const set = &slots_[key % sets * ways];
  for (const Slot* slot = set; slot != set + ways; ++slot) {
    if (slot->key.load(std::memory_order_relaxed) == key) return forgotten(*slot, now) ? nullptr : slot;
  }
  return nullptr;
}

// The program's own place, else a free one, else that of the quietest. Null: all are in flight.
Programs::Slot* Programs::seat(Key key) {
  Slot* const set = &slots_[key % sets * ways];
  Slot* quietest = nullptr;
  for (Slot* slot = set; slot != set + ways; ++slot) {
    const Key other = slot->key.load(std::memory_order_relaxed);
    if (other == key) return slot;
    if (slot->in_flight.load(std::memory_order_relaxed) > 0) continue;
    const auto last = [](const Slot& of) { return of.last.load(std::memory_order_relaxed); };
    if (quietest == nullptr || last(*slot) < last(*quietest)) quietest = slot;  // one that is free never was: last 0
  }
  if (quietest == nullptr) return nullptr;
  Key other = quietest->key.load(std::memory_order_relaxed);
  if (!quietest->key.compare_exchange_strong(other, key, std::memory_order_relaxed)) {
    return other == key ? quietest : nullptr;
  }
  quietest->started.store(0, std::memory_order_relaxed);
  quietest->in_flight.store(0, std::memory_order_relaxed);
  quietest->service.store(0, std::memory_order_relaxed);
  return quietest;
}

bool Programs::forgotten(const Slot& slot, Instant now) const {
  const Instant last{Duration(slot.last.load(std::memory_order_relaxed))};
  return options_.forget_after > Duration::zero() && now - last > options_.forget_after &&
         slot.in_flight.load(std::memory_order_relaxed) <= 0;
}

double Programs::faded(uint64_t packed, uint32_t at) const {
  const double tokens = std::bit_cast<float>(static_cast<uint32_t>(packed >> 32));
  const double age = static_cast<double>(static_cast<int32_t>(at - static_cast<uint32_t>(packed))) / 16;
  if (options_.half_life <= 0 || tokens <= 0) return tokens;
  return tokens * std::exp2(-std::max(age, 0.0) / options_.half_life);
}

}  // namespace penstock::admission
