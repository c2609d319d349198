#include "penstock/observability/tenants.h"

#include <algorithm>

#include "penstock/base/assert.h"
#include "penstock/observability/name_table.h"
#include "text.h"

namespace penstock::observability {
namespace {

// Of one kind always the same, and of kinds that differ in the last letters of a name mostly not.
size_t where_names_differ(std::string_view model, std::string_view fairness_id, std::string_view priority) {
  const auto letter = [](std::string_view name, size_t from_end) -> size_t {
    return name.size() < from_end ? 0 : static_cast<unsigned char>(name[name.size() - from_end]);
  };
  return 16 * letter(fairness_id, 2) + letter(fairness_id, 1) + 7 * letter(model, 1) + letter(priority, 1);
}

}  // namespace

// ---- TenantRoom ----

bool TenantRoom::admit(uint64_t hash, size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& kind) { return kind.hash == hash; });
  if (found != kinds_.end()) {
    ++found->shards;
    return true;
  }
  if (bytes > bytes_left_ || kinds_.size() == places) {
    full_.store(true, std::memory_order_release);
    return false;
  }
  bytes_left_ -= bytes;
  kinds_.push_back({hash, bytes, 1});
  publish();
  return true;
}

void TenantRoom::release(uint64_t hash) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& kind) { return kind.hash == hash; });
  PENSTOCK_ASSERT(found != kinds_.end());
  if (--found->shards > 0) return;
  bytes_left_ += found->bytes;
  kinds_.erase(found);
  publish();
  full_.store(false, std::memory_order_release);
}

// A reader that sees half of a change may take the lock in vain, or count one request as "other" although its kind is
// known to another shard.
void TenantRoom::publish() {
  for (size_t i = 0; i < places; ++i) {
    hashes_[i].store(i < kinds_.size() ? kinds_[i].hash : 0, std::memory_order_release);
  }
}

bool TenantRoom::refuses(uint64_t hash) const {
  if (!full_.load(std::memory_order_acquire)) return false;
  return std::none_of(hashes_.begin(), hashes_.end(), [&](const std::atomic<uint64_t>& known) {
    return known.load(std::memory_order_acquire) == hash;
  });
}

// ---- Tenants ----

Tenants::~Tenants() {
  for (uint32_t i = 0; i < places_used_; ++i) {
    if (places_[i] != nullptr) room_.release(hashes_[i]);
  }
}

uint32_t Tenants::place_of(std::string_view model, std::string_view target_model, std::string_view fairness_id,
                           std::string_view priority, bool may_be_new) {
  uint32_t& recent = recent_[where_names_differ(model, fairness_id, priority) % recent_.size()];
  const auto use = [&](uint32_t place) {
    at(place).used = true;
    return recent = place;
  };
  if (recent != 0 && places_[recent - 1] != nullptr && at(recent).is(model, target_model, fairness_id, priority)) {
    return use(recent);
  }
  const uint64_t hash = hash_of_names(model, target_model, fairness_id, priority);
  if (const uint32_t known = find(hash, model, target_model, fairness_id, priority); known != 0) return use(known);
  const uint32_t added = may_be_new ? add(hash, model, target_model, fairness_id, priority) : 0;
  return added == 0 ? 0 : use(added);
}

uint32_t Tenants::find(uint64_t hash, std::string_view model, std::string_view target_model,
                       std::string_view fairness_id, std::string_view priority) const {
  for (uint32_t i = 0; i < places_used_; ++i) {
    if (hashes_[i] != hash || places_[i] == nullptr) continue;
    if (places_[i]->is(model, target_model, fairness_id, priority)) return i + 1;
  }
  return 0;
}

uint32_t Tenants::add(uint64_t hash, std::string_view model, std::string_view target_model,
                      std::string_view fairness_id, std::string_view priority) {
  if (room_.refuses(hash)) return 0;
  size_t name_bytes = 0;
  for (const std::string_view part : {model, target_model, fairness_id, priority}) {
    if (part.size() > NameTable::part_bytes_max || !is_label_text(part)) return 0;
    name_bytes += part.size();
  }
  const auto free = std::find(places_.begin(), places_.end(), nullptr);
  if (free == places_.end() || !room_.admit(hash, lines * (line_bytes + name_bytes))) return 0;
  auto tenant = std::make_shared<Tenant>(model, target_model, fairness_id, priority, all_gaps_);
  tenant->hash = hash;
  const auto i = static_cast<uint32_t>(free - places_.begin());
  const std::lock_guard lock(mutex_);
  places_[i] = std::move(tenant);
  hashes_[i] = hash;
  places_used_ = std::max(places_used_, i + 1);
  return i + 1;
}

void Tenants::sweep(uint32_t idle_sweeps_max) {
  for (uint32_t i = 0; i < places_used_; ++i) {
    if (places_[i] == nullptr) continue;
    Tenant& tenant = *places_[i];
    tenant.idle_sweeps = tenant.used || tenant.running.get() > 0 ? 0 : tenant.idle_sweeps + 1;
    tenant.used = false;
    if (tenant.idle_sweeps < idle_sweeps_max) continue;
    room_.release(hashes_[i]);
    const std::lock_guard lock(mutex_);
    places_[i].reset();
  }
}

std::vector<std::shared_ptr<const Tenant>> Tenants::list() const {
  std::vector<std::shared_ptr<const Tenant>> out;
  const std::lock_guard lock(mutex_);
  for (const std::shared_ptr<Tenant>& tenant : places_) {
    if (tenant != nullptr) out.push_back(tenant);
  }
  return out;
}

}  // namespace penstock::observability
