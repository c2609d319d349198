#include "watch.h"

#include "penstock/base/log.h"

namespace penstock::discovery {

static_assert(objects::Decoder::padding <= kube::json_padding);

namespace {

constexpr size_t unreadable_max = 20;  // remembered of one watch

kube::Resource resource_of(const PlannedWatch& plan) {
  const objects::ApiResource& api = objects::api_of(plan.kind);
  kube::Resource out;
  out.prefix = api.group.empty() ? "/api/" : "/apis/" + std::string(api.group) + "/";
  out.prefix += api.version;
  out.plural = api.resource;
  out.ns = plan.ns;
  out.label_selector = plan.selector;
  out.confidential = plan.kind == objects::Kind::secret;
  if (!plan.name.empty()) out.field_selector = "metadata.name=" + plan.name;
  return out;
}

// Who may not read what is not essential need not be told every minute.
kube::ReflectorLimits limits_for(const PlannedWatch& plan, kube::ReflectorLimits limits) {
  if (!plan.essential) limits.log_pause *= 20;
  return limits;
}

}  // namespace

Watch::Watch(net::EventLoop& loop, kube::Transport& transport, Random& random, const PlannedWatch& plan,
             objects::Store& store, objects::Store::Scope scope, WatchEvents& events,
             const kube::ReflectorLimits& limits)
    : loop_(loop),
      plan_(plan),
      name_(name_of(plan)),
      store_(store),
      scope_(scope),
      events_(events),
      limits_(limits_for(plan, limits)),
      since_(loop.now()),
      reflector_(loop, transport, random, name_, resource_of(plan), *this, limits_) {
  reflector_.start();
}

bool Watch::get_now(std::string_view ns, std::string_view name) {
  return (plan_.ns.empty() || plan_.ns == ns) && reflector_.get_now(ns, name);
}

void Watch::withdraw() {
  reflector_.stop();
  if (store_.replace(plan_.kind, {}, scope_) != objects::Store::Change::none) events_.on_change(plan_.kind);
}

WatchStatus Watch::status() const {
  WatchStatus out;
  out.name = name_;
  out.kind = plan_.kind;
  out.ns = plan_.ns;
  out.essential = plan_.essential;
  out.watch = reflector_.status();
  out.undecodable = undecodable_;
  return out;
}

void Watch::on_object(kube::ObjectRef object, std::string_view json) {
  auto decoded = decoder_.decode_padded(plan_.kind, json);
  if (decoded.ok()) {
    if (!unreadable_.empty()) unreadable_.erase({std::string(object.ns), std::string(object.name)});
    const auto change = store_.apply(plan_.kind, std::move(decoded).value(), scope_);
    if (change != objects::Store::Change::none) events_.on_change(plan_.kind);
    return;
  }
  // The last good version stays. It is the API server's, which has checked it: a newer schema than ours.
  ++undecodable_;
  note_unreadable(object, decoded.error().text());
  const Instant now = loop_.now();
  if (undecodable_logged_ != Instant{} && now - undecodable_logged_ < limits_.log_pause) return;
  undecodable_logged_ = now;
  log::warn("kubernetes: an object is not understood, its last good version counts",
            {{"resource", name_},
             {"object", std::string(object.ns) + '/' + std::string(object.name)},
             {"problem", decoded.error().text()}});
}

void Watch::note_unreadable(kube::ObjectRef object, const std::string& problem) {
  std::pair<std::string, std::string> name(object.ns, object.name);
  if (unreadable_.size() < unreadable_max || unreadable_.contains(name)) unreadable_[std::move(name)] = problem;
}

void Watch::add_problems(std::vector<objects::Notice>& out) const {
  for (const auto& [name, problem] : unreadable_) {
    out.push_back(
        {plan_.kind, name.first, name.second, "", true, "Unreadable", "its last good version counts: " + problem});
  }
}

void Watch::look_again() {
  if (reflector_.status().state != kube::ReflectorState::absent) return;
  again_ = true;
  since_ = loop_.now();
  reflector_.refresh();
}

void Watch::on_deleted(kube::ObjectRef object) {
  if (!unreadable_.empty()) unreadable_.erase({std::string(object.ns), std::string(object.name)});
  const auto change = store_.erase(plan_.kind, object.ns, object.name, object.uid, scope_);
  if (change != objects::Store::Change::none) events_.on_change(plan_.kind);
}

void Watch::on_synced() {
  listed_ = true;
  again_ = false;
  known_ |= served();
  events_.on_listed(plan_.kind);
}

}  // namespace penstock::discovery
