// get_now(): one object, read past the watch. It is asked for as a list of one, so that the selectors hold and nothing
// but the right to list is needed. The answer tells the state at a moment between question and answer. It is not used
// when the watch brought an event of that object meanwhile, which may be newer, nor when a full list began, which would
// not know how to order the two. An older event that the watch still brings afterwards does no harm: newer ones follow.
#include <algorithm>

#include "query.h"
#include "reflector_impl.h"

namespace penstock::kube {

namespace {
constexpr size_t last_gets_max = 4096;
}  // namespace

bool ReflectorImpl::get_now(std::string_view ns, std::string_view name) {
  const Instant now = loop_.now();
  const std::string key = HeldObjects::key(ns, name);
  const auto last = last_gets_.find(key);
  const bool just_done = last != last_gets_.end() && now - last->second < limits_.get_pause;
  const bool foreign = !resource_.ns.empty() && ns != resource_.ns;
  if (!synced_ || full_wanted_ || foreign || just_done || gets_.size() >= limits_.gets_in_flight) {
    ++counts_.gets_refused;
    return false;
  }
  if (last_gets_.size() >= last_gets_max) {
    std::erase_if(last_gets_, [&](const auto& entry) { return now - entry.second >= limits_.get_pause; });
  }
  last_gets_[key] = now;
  ++counts_.gets;
  Query query(path_of(ns));
  query.add("labelSelector", resource_.label_selector);
  std::string field = "metadata.name=" + std::string(name);
  if (!resource_.field_selector.empty()) field += "," + resource_.field_selector;
  query.add("fieldSelector", field);
  auto get = std::make_unique<Get>(*this, ns, name);
  get->round = round_;
  Call call;
  call.path = query.take();
  call.timeout = limits_.get_timeout;
  get->call = transport_.start(std::move(call), *get);
  gets_.push_back(std::move(get));
  return true;
}

void ReflectorImpl::on_get_done(Get& ended, Failure failure) {
  const auto place = std::find_if(gets_.begin(), gets_.end(), [&](const auto& get) { return get.get() == &ended; });
  const std::unique_ptr<Get> get = std::move(*place);
  gets_.erase(place);
  if (failure != Failure::none || get->status != 200 || get->superseded) return;
  if (full_wanted_ || get->round != round_) return;
  ListHead head;
  std::string found;
  get->body.reserve(get->body.size() + json_padding);
  if (!decoder_.list(get->body, head, [&](std::string_view item) { found = item; })) return;
  if (found.empty()) return remove(get->ns, get->name, {});
  found.reserve(found.size() + json_padding);
  Metadata metadata;
  if (!decoder_.metadata(found, metadata) || metadata.name != get->name || metadata.ns != get->ns) {
    return undecodable(found);
  }
  deliver(metadata, found);
}

void ReflectorImpl::supersede_gets(std::string_view ns, std::string_view name) {
  for (const auto& get : gets_) {
    if (get->ns == ns && get->name == name) get->superseded = true;
  }
}

}  // namespace penstock::kube
