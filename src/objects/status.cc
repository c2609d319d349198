// Statuses as bodies for server-side apply. `status.parents` is an atomic list that several controllers share: entries
// of others are carried along as they were read, together with the version that they were read at, so that the API
// server refuses the write when one of them has changed in between.
#include <algorithm>
#include <tuple>

#include "penstock/base/text.h"
#include "policy.h"

namespace penstock::objects {
namespace {

void append_member(std::string& out, std::string_view key, std::string_view value) {
  append_json_string(out, key);
  out += ':';
  append_json_string(out, value);
}

void append_conditions(std::string& out, const std::vector<Condition>& conditions) {
  out += "\"conditions\":[";
  for (const Condition& condition : conditions) {
    if (out.back() != '[') out += ',';
    out += '{';
    append_member(out, "type", condition.type);
    out += ',';
    append_member(out, "status", condition.status);
    out += ',';
    append_member(out, "reason", condition.reason);
    out += ',';
    append_member(out, "message", condition.message);
    out += ",\"observedGeneration\":" + std::to_string(condition.observed_generation) + ',';
    append_member(out, "lastTransitionTime", condition.since);
    out += '}';
  }
  out += ']';
}

// Policies call them ancestors.
void append_parent(std::string& out, const ParentStatus& parent, bool ancestor) {
  const ParentRef& ref = parent.parent;
  out += ancestor ? "{\"ancestorRef\":{" : "{\"parentRef\":{";
  append_member(out, "group", ref.group);
  out += ',';
  append_member(out, "kind", ref.kind);
  if (!ref.ns.empty()) out += ',', append_member(out, "namespace", ref.ns);
  out += ',';
  append_member(out, "name", ref.name);
  if (!ref.section.empty()) out += ',', append_member(out, "sectionName", ref.section);
  if (ref.port != 0) out += ",\"port\":" + std::to_string(ref.port);
  out += "},";
  append_member(out, "controllerName", parent.controller);
  out += ',';
  append_conditions(out, parent.conditions);
  out += '}';
}

void append_listener(std::string& out, const ListenerStatus& listener) {
  out += '{';
  append_member(out, "name", listener.name);
  out += ",\"supportedKinds\":[";
  for (const std::string& kind : listener.supported_kinds) {
    if (out.back() != '[') out += ',';
    const size_t slash = kind.find('/');
    out += '{';
    append_member(out, "group", kind.substr(0, slash));
    out += ',';
    append_member(out, "kind", kind.substr(slash + 1));
    out += '}';
  }
  out += "],\"attachedRoutes\":" + std::to_string(listener.attached_routes) + ',';
  append_conditions(out, listener.conditions);
  out += '}';
}

bool has_parents(Kind kind) {
  return kind == Kind::inference_pool || kind == Kind::http_route || kind == Kind::backend_tls_policy;
}
// What the resource's own default says as long as no controller has spoken; not kept.
bool placeholder(const ParentStatus& parent) {
  return parent.parent.kind == "Status" && parent.parent.name == "default";
}

void append_parents(std::string& out, const Status& ours, const std::vector<const ParentStatus*>& others,
                    bool ancestors) {
  out += ancestors ? "\"ancestors\":[" : "\"parents\":[";
  for (const ParentStatus& parent : ours.parents) {
    if (out.back() != '[') out += ',';
    append_parent(out, parent, ancestors);
  }
  for (const ParentStatus* const parent : others) {
    if (out.back() != '[') out += ',';
    out += parent->raw;
  }
  out += ']';
}

void append_gateway(std::string& out, const Status& status) {
  out += "\"addresses\":[";
  for (const std::string& address : status.addresses) {
    if (out.back() != '[') out += ',';
    out += '{';
    append_member(out, "type", type_of_address(address));
    out += ',';
    append_member(out, "value", address);
    out += '}';
  }
  out += "],";
  append_conditions(out, status.conditions);
  out += ",\"listeners\":[";
  for (const ListenerStatus& listener : status.listeners) {
    if (out.back() != '[') out += ',';
    append_listener(out, listener);
  }
  out += ']';
}

// The `status` member alone; equal text means equal status.
std::string status_text(Kind kind, const Status& status, const std::vector<const ParentStatus*>& others) {
  std::string out = "{";
  if (has_parents(kind)) append_parents(out, status, others, kind == Kind::backend_tls_policy);
  else if (kind == Kind::gateway) append_gateway(out, status);
  else append_conditions(out, status.conditions);
  return out + '}';
}

auto order(const ParentStatus& parent) {
  const ParentRef& ref = parent.parent;
  return std::tie(ref.group, ref.kind, ref.ns, ref.name, ref.section, ref.port);
}
void sort_parents(std::vector<ParentStatus>& parents) {
  std::stable_sort(parents.begin(), parents.end(), [](const auto& a, const auto& b) { return order(a) < order(b); });
}

const Condition* find(const std::vector<Condition>& list, const std::string& type) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const Condition& c) { return c.type == type; });
  return found == list.end() ? nullptr : &*found;
}

// Stored conditions in the order of the wanted ones: the API server may keep them in another. The rest follows, or is
// left out where it belongs to others.
std::vector<Condition> in_order_of(const std::vector<Condition>& wanted, const std::vector<Condition>& stored,
                                   bool keep_rest) {
  std::vector<Condition> out;
  for (const Condition& condition : wanted) {
    if (const Condition* const found = find(stored, condition.type)) out.push_back(*found);
  }
  for (const Condition& condition : stored) {
    if (keep_rest && find(wanted, condition.type) == nullptr) out.push_back(condition);
  }
  return out;
}

const ParentStatus* find(const std::vector<ParentStatus>& list, const ParentRef& parent) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const ParentStatus& p) { return p.parent == parent; });
  return found == list.end() ? nullptr : &*found;
}
const ListenerStatus* find(const std::vector<ListenerStatus>& list, const std::string& name) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const ListenerStatus& l) { return l.name == name; });
  return found == list.end() ? nullptr : &*found;
}

// Others may write under the same controllerName: a second release with a Service of its own, or one that does not read
// Gateways. An entry is ours to change when it is wanted here, or names our own Service or a Gateway of which we would
// know that it is ours; every other one stays as it is.
bool is_ours(const View& view, const WantedStatus& wanted, const ParentStatus& parent) {
  const ParentRef &ref = parent.parent, &self = view.options().self;
  if (parent.controller != view.options().controller) return false;
  if (find(wanted.status.parents, ref) != nullptr) return true;
  const std::string& ns = ref.ns.empty() ? wanted.meta->ns : ref.ns;
  if (ref.kind == "Gateway") return wanted.served && view.knows_gateways() && view.in_scope(ns);
  return !self.name.empty() && ref.group == self.group && ref.kind == self.kind && ref.name == self.name &&
         ns == self.ns;
}

// The part of the stored status that is ours to write, in the shape in which we would write it.
struct Stored {
  Status ours;
  std::vector<const ParentStatus*> others;
  bool had_placeholder = false;
};
Stored split(const View& view, const WantedStatus& wanted) {
  Stored out;
  for (const ParentStatus& parent : wanted.stored->parents) {
    if (is_ours(view, wanted, parent)) {
      ParentStatus& ours = out.ours.parents.emplace_back(parent);
      const ParentStatus* const now = find(wanted.status.parents, parent.parent);
      if (now != nullptr) ours.conditions = in_order_of(now->conditions, parent.conditions, true);
    } else if (placeholder(parent)) {
      out.had_placeholder = true;
    } else {
      out.others.push_back(&parent);
    }
  }
  sort_parents(out.ours.parents);
  out.ours.conditions = in_order_of(wanted.status.conditions, wanted.stored->conditions, false);
  out.ours.addresses = wanted.stored->addresses;
  for (const ListenerStatus& listener : wanted.status.listeners) {
    const ListenerStatus* const stored = find(wanted.stored->listeners, listener.name);
    if (stored == nullptr) continue;
    ListenerStatus& ours = out.ours.listeners.emplace_back(*stored);
    ours.conditions = in_order_of(listener.conditions, stored->conditions, false);
  }
  return out;
}

std::string path_of(Kind kind, const Meta& meta) {
  const ApiResource& api = api_of(kind);
  std::string out = api.group.empty() ? "/api/" : "/apis/" + std::string(api.group) + '/';
  out.append(api.version);
  if (api.namespaced) out += "/namespaces/" + meta.ns;
  return out.append("/").append(api.resource).append("/") + meta.name + "/status";
}

std::string features_text(const std::vector<std::string>& features) {
  std::string out = "{\"supportedFeatures\":[";
  for (const std::string& feature : features) {
    if (out.back() != '[') out += ',';
    out += '{';
    append_member(out, "name", feature);
    out += '}';
  }
  return out + "]}";
}

std::string body_of(const WantedStatus& wanted, const std::string& status, bool shared) {
  std::string out = "{";
  append_member(out, "apiVersion", api_version(wanted.kind));
  out += ',';
  append_member(out, "kind", api_of(wanted.kind).name);
  out += ",\"metadata\":{";
  append_member(out, "name", wanted.meta->name);
  if (!wanted.meta->ns.empty()) out += ',', append_member(out, "namespace", wanted.meta->ns);
  const std::string& version = wanted.meta->resource_version.text;
  if (shared && !version.empty()) out += ',', append_member(out, "resourceVersion", version);
  return out + "},\"status\":" + status + '}';
}

// With a field manager of its own: resource definitions older than Gateway API 1.4 do not have the field, and a server
// refuses all that is applied together with it.
StatusWrite write_features(const WantedStatus& wanted) {
  const std::string text = features_text(wanted.status.features);
  return {wanted.kind,
          wanted.meta->ns,
          wanted.meta->name,
          path_of(wanted.kind, *wanted.meta) + "?fieldManager=penstock-features",
          body_of(wanted, text, false),
          text,
          wanted.meta->resource_version.text,
          text != features_text(wanted.stored->features)};
}

}  // namespace

std::string_view type_of_address(std::string_view address) {
  const bool host =
      address.find_first_not_of("0123456789.") != std::string::npos && address.find(':') == std::string::npos;
  return host ? "Hostname" : "IPAddress";
}

void StatusWriter::stamp(std::vector<Condition>& conditions, const std::vector<Condition>& before,
                         const std::string& part, Given& given) {
  for (Condition& condition : conditions) {
    const std::string key = part + '/' + condition.type;
    const Condition* const same = find(before, condition.type);
    const auto earlier = given_.find(key);
    if (same != nullptr && same->status == condition.status && !same->since.empty()) {
      condition.since = same->since;
    } else if (earlier != given_.end() && earlier->second.first == condition.status) {
      condition.since = earlier->second.second;
    } else {
      condition.since = now_;
    }
    given[key] = {condition.status, condition.since};
  }
}

void StatusWriter::stamp_all(const WantedStatus& wanted, Status& status, const Status& before, Given& given) {
  static const std::vector<Condition> none;
  const Meta& meta = *wanted.meta;
  const std::string object =
      std::to_string(static_cast<int>(wanted.kind)) + '/' + meta.ns + '/' + meta.name + '/' + meta.uid + '/';
  stamp(status.conditions, before.conditions, object, given);
  for (ParentStatus& parent : status.parents) {
    const ParentRef& ref = parent.parent;
    const ParentStatus* const stored = find(before.parents, ref);
    const std::string part =
        object + ref.kind + '/' + ref.ns + '/' + ref.name + '/' + ref.section + '/' + std::to_string(ref.port);
    stamp(parent.conditions, stored == nullptr ? none : stored->conditions, part, given);
  }
  for (ListenerStatus& listener : status.listeners) {
    const ListenerStatus* const stored = find(before.listeners, listener.name);
    stamp(listener.conditions, stored == nullptr ? none : stored->conditions, object + listener.name, given);
  }
}

std::vector<StatusWrite> StatusWriter::write(std::vector<WantedStatus> list, const View& view, int64_t now_seconds) {
  std::vector<StatusWrite> out;
  Given given;
  now_ = format_timestamp(now_seconds);
  for (WantedStatus& wanted : list) {
    const Stored stored = split(view, wanted);
    sort_parents(wanted.status.parents);
    stamp_all(wanted, wanted.status, stored.ours, given);
    // Nothing of ours is there and nothing should be.
    if (has_parents(wanted.kind) && wanted.status.parents.empty() && stored.ours.parents.empty()) continue;
    const std::string text = status_text(wanted.kind, wanted.status, stored.others);
    const bool needed = stored.had_placeholder || text != status_text(wanted.kind, stored.ours, stored.others);
    out.push_back({wanted.kind, wanted.meta->ns, wanted.meta->name, path_of(wanted.kind, *wanted.meta),
                   body_of(wanted, text, !stored.others.empty()), status_text(wanted.kind, wanted.status, {}),
                   wanted.meta->resource_version.text, needed});
    if (!wanted.status.features.empty()) out.push_back(write_features(wanted));
  }
  given_ = std::move(given);
  // Of one object, what has a manager of its own first: a GatewayClass is accepted when its features are told.
  std::sort(out.begin(), out.end(), [](const StatusWrite& a, const StatusWrite& b) {
    return std::tie(a.kind, a.ns, a.name, b.path) < std::tie(b.kind, b.ns, b.name, a.path);
  });
  return out;
}

}  // namespace penstock::objects
