#include "cluster_impl.h"

#include <algorithm>
#include <bit>
#include <random>

#include "penstock/base/assert.h"
#include "penstock/base/log.h"

namespace penstock::discovery {

using objects::Kind;

namespace {

constexpr Duration kLookWaiting = milliseconds(100);  // a refusal comes without an event
constexpr Duration kHurryAgain = seconds(10);
constexpr Duration kLook = seconds(5);  // so does a CRD that is removed while it has no objects
constexpr size_t kNamespacesMax = 32;   // a watch each, of every kind

// Objects that say which others are to be watched.
bool shapes_plan(Kind kind) {
  return kind == Kind::inference_pool || kind == Kind::inference_pool_legacy || kind == Kind::http_route ||
         kind == Kind::gateway || kind == Kind::gateway_class || kind == Kind::reference_grant ||
         kind == Kind::backend_tls_policy;
}

// What comes with the resource definitions of the Gateway API, and Namespaces, which its objects select.
bool of_gateway_api(Kind kind) {
  return kind == Kind::gateway_class || kind == Kind::gateway || kind == Kind::http_route ||
         kind == Kind::reference_grant || kind == Kind::name_space || kind == Kind::backend_tls_policy;
}

// What its objects refer to.
bool named_by_gateway_api(Kind kind) {
  return kind == Kind::secret || kind == Kind::config_map;
}

bool contains(const std::vector<PlannedWatch>& plan, const PlannedWatch& watch) {
  return std::find(plan.begin(), plan.end(), watch) != plan.end();
}

}  // namespace

ClusterImpl::ClusterImpl(net::EventLoop& loop, ClusterOptions options, ClusterEvents& events,
                         std::unique_ptr<kube::Transport> transport)
    : loop_(loop),
      options_(std::move(options)),
      events_(events),
      random_(std::random_device{}()),
      transport_(std::move(transport)),
      resolver_(store_, options_.resolve),
      look_(net::Timer::of<&ClusterImpl::look>(this)) {}

ClusterImpl::~ClusterImpl() {
  stop();
}

std::optional<Message> ClusterImpl::start() {
  PENSTOCK_ASSERT(!running_ && watches_.empty());
  if (options_.resolve.namespaces.size() > kNamespacesMax) {
    return Message{"more than " + std::to_string(kNamespacesMax) + " namespaces: watch all of them instead"};
  }
  if (transport_ == nullptr) {
    auto made = kube::make_curl_transport(loop_, options_.client, options_.calls);
    if (!made.ok()) return made.error();
    transport_ = std::move(made).value();
  }
  std::unique_ptr<kube::Writer> writer;
  if (options_.write) {
    kube::WriterOptions writes;
    writes.reporting_controller = options_.resolve.controller;
    writes.reporting_instance = options_.pod_name;
    writer = std::make_unique<kube::Writer>(loop_, *transport_, random_, writes);
  }
  write_back_ = std::make_unique<WriteBack>(std::move(writer));
  running_ = true;
  log::info("kubernetes: starts", {{"server", options_.client.server}, {"access", options_.client.source}});
  follow_plan();
  loop_.arm(look_, kLookWaiting);
  return std::nullopt;
}

void ClusterImpl::stop() {
  running_ = false;
  look_.cancel();
  watches_.clear();
  write_back_.reset();
}

void ClusterImpl::stop_writing() {
  if (write_back_ != nullptr) write_back_->stop_statuses();
}

// ---- events of the watches ----

void ClusterImpl::on_change(Kind kind) {
  plan_due_ |= shapes_plan(kind);
  schedule();
}

void ClusterImpl::on_listed(Kind kind) {
  on_change(kind);
}

// The server was away for all of them.
void ClusterImpl::on_reached(const Watch& reached) {
  // A server that answers and then breaks off would have them hurry each other for ever.
  if (hurried_at_ != Instant{} && loop_.now() - hurried_at_ < kHurryAgain) return;
  hurried_at_ = loop_.now();
  for (const auto& watch : watches_) {
    if (watch.get() != &reached) watch->hurry();
  }
}

void ClusterImpl::schedule() {
  if (scheduled_ || !running_) return;
  scheduled_ = true;
  loop_.defer([this, life = std::weak_ptr<char>(life_)] {
    if (!life.expired() && running_) work();
  });
}

void ClusterImpl::look() {
  work();
}

// ---- what follows from them ----

void ClusterImpl::work() {
  scheduled_ = false;
  note_served();
  if (plan_due_) follow_plan();
  const bool waits = awaited() != nullptr;
  loop_.arm(look_, waits ? kLookWaiting : kLook);
  if (!waits) resolve();
}

void ClusterImpl::follow_plan() {
  plan_due_ = false;
  services_ = services_ || services_wanted(options_, store_);
  const std::vector<PlannedWatch> plan = plan_watches(options_, store_, services_);
  for (const PlannedWatch& wanted : plan) {
    const bool there =
        std::any_of(watches_.begin(), watches_.end(), [&](const auto& w) { return w->plan() == wanted; });
    if (!there) add_watch(wanted);
  }
  retire(plan);
}

void ClusterImpl::add_watch(const PlannedWatch& plan) {
  uint64_t taken = 0;
  for (const auto& watch : watches_) {
    if (watch->plan().kind == plan.kind) taken |= uint64_t{1} << watch->scope();
  }
  const auto scope = static_cast<objects::Store::Scope>(std::countr_one(taken));
  PENSTOCK_ASSERT(scope < objects::Store::scopes_max);
  watches_.push_back(
      std::make_unique<Watch>(loop_, *transport_, random_, plan, store_, scope, *this, options_.watches));
}

// A watch that is not wanted any more goes when those of its kind that are wanted have been listed: its objects may be
// theirs too. What is left is looked at again when that has happened.
void ClusterImpl::retire(const std::vector<PlannedWatch>& plan) {
  for (size_t i = watches_.size(); i-- > 0;) {
    const Watch& old = *watches_[i];
    if (contains(plan, old.plan())) continue;
    const bool replaced = std::all_of(watches_.begin(), watches_.end(), [&](const auto& other) {
      return other->plan().kind != old.plan().kind || !contains(plan, other->plan()) || other->settled();
    });
    if (!replaced) {
      plan_due_ = true;
      continue;
    }
    watches_[i]->withdraw();
    watches_.erase(watches_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void ClusterImpl::note_served() {
  bool routes_watched = false, routes_known = false;
  const uint64_t before = known_;
  for (const auto& watch : watches_) {
    const Kind kind = watch->plan().kind;
    if (watch->listed()) store_.set_served(kind, watch->served());
    if (kind == Kind::http_route) {
      routes_watched = true;
      routes_known |= watch->known();
    }
    const bool defined = of_gateway_api(kind) && kind != Kind::name_space;
    if (defined && watch->known()) known_ |= uint64_t{1} << static_cast<size_t>(kind);
  }
  store_.set_awaited(Kind::http_route, routes_watched && !routes_known);
  for (const Kind kind : {Kind::gateway_class, Kind::gateway}) store_.set_awaited(kind, !all_known(kind));
  if (known_ == before || !synced_) return;  // at first all have just been asked
  // Resource definitions of one group are installed together: the others are not asked for only half a minute later.
  for (const auto& watch : watches_) {
    if (of_gateway_api(watch->plan().kind)) watch->look_again();
  }
}

// All that there is of the kind was listed. Never so when it is not watched.
bool ClusterImpl::all_known(Kind kind) const {
  bool any = false;
  for (const auto& watch : watches_) {
    if (watch->plan().kind != kind) continue;
    if (!watch->known()) return false;
    any = true;
  }
  return any;
}

// A list without which nothing is told for the first time, however long it takes.
bool ClusterImpl::first_list_missing(const Watch& watch, bool routed) const {
  if (synced_) return false;
  if (watch.plan().essential) return !watch.listed();
  return routed && (of_gateway_api(watch.plan().kind) || named_by_gateway_api(watch.plan().kind)) && !watch.settled();
}

// The watch whose list is waited for; null: none.
const Watch* ClusterImpl::awaited() {
  const bool routed = !synced_ && has_gateway(options_, store_);
  for (const auto& watch : watches_) {
    if (first_list_missing(*watch, routed)) return watch.get();
  }
  const Instant now = loop_.now();
  if (essential_at_ == Instant{}) essential_at_ = now;
  for (const auto& watch : watches_) {
    const Instant since = std::max(watch->since(), essential_at_);
    if (!watch->settled() && now - since < options_.patience) return watch.get();
  }
  return nullptr;
}

void ClusterImpl::resolve() {
  const objects::Desired& desired = resolver_.update(loop_.clock().wall_time_us() / 1'000'000);
  if (!synced_) log::info("kubernetes: synced", {{"pools", desired.pools.size()}});
  synced_ = true;
  const Told now{desired.pools_revision, desired.routes_revision, desired.certificates_revision};
  if (now != told_) {
    told_ = now;
    events_.on_desired(desired);
  }
  if (running_) write_back_->take(desired);
}

// ---- for others ----

ClusterStatus ClusterImpl::status() const {
  ClusterStatus out;
  out.server = options_.client.server;
  out.synced = synced_;
  if (resolver_.desired().notices_revision != 0) out.problems = resolver_.desired().notices;
  bool essential = false;
  for (const auto& watch : watches_) {
    watch->add_problems(out.problems);
    const WatchStatus& one = out.watches.emplace_back(watch->status());
    if (synced_ || essential || watch->listed()) continue;
    essential = one.essential;
    if (essential || (out.waiting_for.empty() && !watch->settled())) out.waiting_for = one.name;
  }
  if (write_back_ != nullptr) {
    out.writes = write_back_->writes();
    out.writer = write_back_->status();
    write_back_->add_problems(out.problems);
  }
  return out;
}

bool ClusterImpl::endpoint_unreachable(std::string_view ns, std::string_view name) {
  bool asked = false;
  for (const auto& watch : watches_) {
    if (watch->plan().kind == Kind::pod) asked |= watch->get_now(ns, name);
  }
  return asked;
}

}  // namespace penstock::discovery
