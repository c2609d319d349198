#include "penstock/objects/desired.h"

#include <algorithm>

#include "penstock/base/text.h"

namespace penstock::objects {
namespace {

const char* name_of(Source source) {
  return source == Source::inference_pool ? "InferencePool" : source == Source::selector ? "selector" : "service";
}
const char* name_of(Readiness readiness) {
  return readiness == Readiness::ready ? "ready" : readiness == Readiness::not_ready ? "not_ready" : "draining";
}

// One word behind a space. (gcc 12 warns wrongly of "..." + std::to_string(...).)
void word(std::string& out, std::string_view text) {
  out.append(" ").append(text);
}

std::string describe(const Rewrites::Rule& rule) {
  std::string out = "by " + rule.object;
  if (rule.targets.empty()) out += " unchanged";
  for (const Rewrites::Target& target : rule.targets) {
    word(out, std::to_string(target.weight));
    out.append("*").append(target.model);
  }
  return out;
}

void describe(std::string& out, const Endpoint& e) {
  out.append("  ").append(e.name).append(" ").append(authority_of(e.ip, e.port));
  out.append(" rank ").append(std::to_string(e.rank));
  word(out, name_of(e.readiness));
  if (e.last_resort) out += " last-resort";
  if (!e.pod_name.empty()) {
    out.append(" pod ").append(e.pod_ns).append("/").append(e.pod_name).append(" uid ").append(e.pod_uid);
  }
  if (e.app_protocol != "http") word(out, e.app_protocol);
  if (!e.zone.empty()) out.append(" zone ").append(e.zone);
  if (!e.node.empty()) out.append(" node ").append(e.node);
  for (const auto& [key, value] : *e.labels) {
    word(out, key);
    out.append("=").append(value);
  }
  out += "\n";
}

void describe(std::string& out, const Pool& pool) {
  out.append("pool ").append(name_of(pool.id.source)).append(" ").append(pool.id.ns).append("/");
  out.append(pool.id.label()).append(" ").append(pool.app_protocol);
  out.append(" ready ").append(std::to_string(pool.ready)).append("\n");
  for (const auto& endpoint : pool.endpoints) describe(out, *endpoint);
  for (const Rewrites::Alias& alias : pool.rewrites->aliases()) {
    out.append("  rewrite ")
        .append(alias.model)
        .append(" ")
        .append(describe(pool.rewrites->rule(alias.rule)))
        .append("\n");
  }
  if (const BackendTls* const tls = pool.tls.get()) {
    out.append("  tls ").append(tls->usable ? "" : "refused ").append(tls->hostname);
    for (const std::string& name : tls->names) out.append(" or ").append(name);
    out.append(tls->authorities.empty() ? " of the system's authorities" : "").append(" by ").append(tls->policy) +=
        '\n';
  }
  if (const Rewrites::Rule* const rule = pool.rewrites->generic()) {
    out.append("  rewrite * ").append(describe(*rule)).append("\n");
  }
  for (const auto& [name, priority] : pool.objectives->all()) {
    out.append("  objective ").append(name).append(" ").append(std::to_string(priority)).append("\n");
  }
}

}  // namespace

const Rewrites::Target* Rewrites::Rule::pick(uint64_t random) const {
  if (total_weight == 0) return nullptr;
  uint64_t at = random % total_weight;
  for (const Target& target : targets) {
    if (at < target.weight) return &target;
    at -= target.weight;
  }
  return nullptr;
}

const Rewrites::Rule* Rewrites::find(std::string_view model) const {
  const auto at = std::lower_bound(aliases_.begin(), aliases_.end(), model,
                                   [](const Alias& alias, std::string_view wanted) { return alias.model < wanted; });
  if (at != aliases_.end() && at->model == model) return &rules_[at->rule];
  return generic();
}

const int32_t* Objectives::find(std::string_view name) const {
  const auto at = std::lower_bound(list_.begin(), list_.end(), name,
                                   [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
  return at != list_.end() && at->first == name ? &at->second : nullptr;
}

bool GatewayCertificate::operator==(const GatewayCertificate& other) const {
  const auto same = [](const std::shared_ptr<const Secret>& a, const std::shared_ptr<const Secret>& b) {
    if (a == nullptr || b == nullptr) return a == b;
    return a->certificate == b->certificate && a->key == b->key;
  };
  return host == other.host && origin == other.origin && same(secret, other.secret);
}

const Pool* Desired::find(const PoolId& id) const {
  const auto at = std::lower_bound(pools.begin(), pools.end(), id,
                                   [](const auto& pool, const PoolId& wanted) { return pool->id < wanted; });
  return at != pools.end() && (*at)->id == id ? at->get() : nullptr;
}

std::string Desired::describe() const {
  std::string out;
  for (const auto& pool : pools) objects::describe(out, *pool);
  if (routes != nullptr) out += routes->describe();
  for (size_t listener = 0; listener < certificates.size(); ++listener) {
    for (const GatewayCertificate& certificate : certificates[listener]) {
      out.append("certificate of listener ").append(std::to_string(listener));
      out.append(" host ").append(certificate.host.empty() ? "*" : certificate.host).append(" ");
      out.append(certificate.origin).append(certificate.secret == nullptr ? " as before" : "").append("\n");
    }
  }
  for (const StatusWrite& status : statuses) {
    out.append("status ").append(status.needed ? "write " : "keep ").append(status.path);
    out.append("\n  ").append(status.body).append("\n");
  }
  for (const Notice& notice : notices) {
    out.append(notice.warning ? "warning " : "normal ").append(api_of(notice.kind).name).append(" ").append(notice.ns);
    out.append("/")
        .append(notice.name)
        .append(" ")
        .append(notice.reason)
        .append(": ")
        .append(notice.message)
        .append("\n");
  }
  return out;
}

}  // namespace penstock::objects
