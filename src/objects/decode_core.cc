// Metadata, status, and the objects of Kubernetes itself. Their schemas are large and only partly read, so unknown keys
// are never mistakes.
#include <algorithm>
#include <array>

#include "json.h"
#include "penstock/base/base64.h"

namespace penstock::objects::json {
namespace {

void read_timestamp(Reader& reader, Value value, Timestamp& out) {
  std::string text;
  reader.text(value, text);
  if (text.empty()) return;
  if (const std::optional<Timestamp> found = parse_timestamp(text)) out = *found;
  else reader.problem("is not a time; expected one like 2025-01-31T12:00:00Z");
}

void read_annotations(Reader& reader, Value value, Labels& out) {
  constexpr std::array wanted = {annotation::active_ports, annotation::active_ports_legacy, annotation::slice_changed,
                                 annotation::pool_service};
  Labels found;
  reader.members(value, [&](std::string_view key, Value member) {
    if (std::find(wanted.begin(), wanted.end(), key) == wanted.end()) return;
    reader.text(member, found.emplace_back(key, "").second);
  });
  std::sort(found.begin(), found.end());
  out = std::move(found);
}

constexpr Field<Meta> meta_fields[] = {
    {"name", [](Reader& r, Value v, Meta& m) { r.text(v, m.name); }},
    {"namespace", [](Reader& r, Value v, Meta& m) { r.text(v, m.ns); }},
    {"uid", [](Reader& r, Value v, Meta& m) { r.text(v, m.uid); }},
    {"resourceVersion", [](Reader& r, Value v, Meta& m) { r.text(v, m.resource_version.text); }},
    {"generation", [](Reader& r, Value v, Meta& m) { r.integer(v, m.generation); }},
    {"creationTimestamp", [](Reader& r, Value v, Meta& m) { read_timestamp(r, v, m.created); }},
    {"deletionTimestamp", [](Reader&, Value, Meta& m) { m.deleting = true; }},
    {"labels", [](Reader& r, Value v, Meta& m) { r.labels(v, m.labels); }},
    {"annotations", [](Reader& r, Value v, Meta& m) { read_annotations(r, v, m.annotations); }},
};

// ---- status ----

constexpr Field<Condition> condition_fields[] = {
    {"type", [](Reader& r, Value v, Condition& c) { r.text(v, c.type); }},
    {"status", [](Reader& r, Value v, Condition& c) { r.text(v, c.status); }},
    {"reason", [](Reader& r, Value v, Condition& c) { r.text(v, c.reason); }},
    {"message", [](Reader& r, Value v, Condition& c) { r.text(v, c.message); }},
    {"observedGeneration", [](Reader& r, Value v, Condition& c) { r.integer(v, c.observed_generation); }},
    {"lastTransitionTime", [](Reader& r, Value v, Condition& c) { r.text(v, c.since); }},
};
void read_conditions(Reader& reader, Value value, std::vector<Condition>& out) {
  read_list(
      reader, value, out, condition_fields, [](Condition&) {}, Keys::open);
}

constexpr Field<ParentRef> parent_ref_fields[] = {
    {"group", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.group); }},
    {"kind", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.kind); }},
    {"namespace", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.ns); }},
    {"name", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.name); }},
    {"sectionName", [](Reader& r, Value v, ParentRef& p) { r.text(v, p.section); }},
    {"port", [](Reader& r, Value v, ParentRef& p) { r.port(v, p.port); }},
};
constexpr Field<ParentStatus> parent_fields[] = {
    {"parentRef",
     [](Reader& r, Value v, ParentStatus& p) { read_object(r, v, p.parent, parent_ref_fields, Keys::open); }},
    {"ancestorRef",
     [](Reader& r, Value v, ParentStatus& p) { read_object(r, v, p.parent, parent_ref_fields, Keys::open); }},
    {"controllerName", [](Reader& r, Value v, ParentStatus& p) { r.text(v, p.controller); }},
    {"conditions", [](Reader& r, Value v, ParentStatus& p) { read_conditions(r, v, p.conditions); }},
};
void read_parents(Reader& reader, Value value, std::vector<ParentStatus>& out) {
  out.clear();
  reader.elements(value, [&](Value element) {
    simdjson::ondemand::object object;
    std::string_view raw;
    if (!reader.is(element, Type::object, "an object")) return;
    if (element.get_object().get(object) || object.raw_json().get(raw)) return reader.malformed();
    ParentStatus parent;
    parent.raw = raw;
    if (object.reset().error()) return reader.malformed();
    reader.members_of(object, [&](std::string_view key, Value member) {
      read_member(reader, key, member, parent, parent_fields, Keys::open);
    });
    if (!reader.broken()) out.push_back(std::move(parent));
  });
}

constexpr Field<GroupKind> supported_kind_fields[] = {
    {"group", [](Reader& r, Value v, GroupKind& k) { r.text(v, k.group); }},
    {"kind", [](Reader& r, Value v, GroupKind& k) { r.text(v, k.kind); }},
};
constexpr Field<ListenerStatus> listener_fields[] = {
    {"name", [](Reader& r, Value v, ListenerStatus& l) { r.text(v, l.name); }},
    {"attachedRoutes", [](Reader& r, Value v, ListenerStatus& l) { r.integer(v, 0, INT32_MAX, l.attached_routes); }},
    {"supportedKinds",
     [](Reader& r, Value v, ListenerStatus& l) {
       std::vector<GroupKind> kinds;
       read_list(
           r, v, kinds, supported_kind_fields, [](GroupKind&) {}, Keys::open);
       for (const GroupKind& kind : kinds) l.supported_kinds.push_back(kind.group + "/" + kind.kind);
     }},
    {"conditions", [](Reader& r, Value v, ListenerStatus& l) { read_conditions(r, v, l.conditions); }},
};
struct Address {
  std::string value;
};
constexpr Field<Address> address_fields[] = {
    {"value", [](Reader& r, Value v, Address& a) { r.text(v, a.value); }},
};
// A list of names at first (Gateway API 1.0 and 1.1), of objects that have one since.
void read_features(Reader& reader, Value value, std::vector<std::string>& out) {
  reader.elements(value, [&](Value element) {
    Type type;
    if (element.type().get(type)) return reader.malformed();
    std::string& name = out.emplace_back();
    if (type == Type::string) return reader.text(element, name);
    reader.members(element, [&](std::string_view key, Value member) {
      if (key == "name") reader.text(member, name);
    });
  });
}
constexpr Field<Status> status_fields[] = {
    {"conditions", [](Reader& r, Value v, Status& s) { read_conditions(r, v, s.conditions); }},
    {"parents", [](Reader& r, Value v, Status& s) { read_parents(r, v, s.parents); }},
    {"ancestors", [](Reader& r, Value v, Status& s) { read_parents(r, v, s.parents); }},
    {"listeners",
     [](Reader& r, Value v, Status& s) {
       read_list(
           r, v, s.listeners, listener_fields, [](ListenerStatus&) {}, Keys::open);
     }},
    {"addresses",
     [](Reader& r, Value v, Status& s) {
       std::vector<Address> addresses;
       read_list(
           r, v, addresses, address_fields, [](Address&) {}, Keys::open);
       for (Address& address : addresses) s.addresses.push_back(std::move(address.value));
     }},
    {"supportedFeatures", [](Reader& r, Value v, Status& s) { read_features(r, v, s.features); }},
};

// ---- pods ----

constexpr Field<Condition> pod_condition_fields[] = {
    {"type", [](Reader& r, Value v, Condition& c) { r.text(v, c.type); }},
    {"status", [](Reader& r, Value v, Condition& c) { r.text(v, c.status); }},
};
constexpr Field<Pod> pod_status_fields[] = {
    {"podIP", [](Reader& r, Value v, Pod& p) { r.text(v, p.ip); }},
    {"phase", [](Reader& r, Value v, Pod& p) { r.text(v, p.phase); }},
    {"conditions",
     [](Reader& r, Value v, Pod& p) {
       std::vector<Condition> conditions;
       read_list(
           r, v, conditions, pod_condition_fields, [](Condition&) {}, Keys::open);
       p.ready = std::any_of(conditions.begin(), conditions.end(),
                             [](const Condition& c) { return c.type == "Ready" && c.status == "True"; });
     }},
};
constexpr Field<Pod> pod_spec_fields[] = {
    {"nodeName", [](Reader& r, Value v, Pod& p) { r.text(v, p.node); }},
};
constexpr Field<Pod> pod_fields[] = {
    {"spec", [](Reader& r, Value v, Pod& p) { read_object(r, v, p, pod_spec_fields, Keys::open); }},
    {"status", [](Reader& r, Value v, Pod& p) { read_object(r, v, p, pod_status_fields, Keys::open); }},
};

// ---- EndpointSlices ----

constexpr Field<SlicePort> slice_port_fields[] = {
    {"name", [](Reader& r, Value v, SlicePort& p) { r.text(v, p.name); }},
    {"port", [](Reader& r, Value v, SlicePort& p) { r.port(v, p.port); }},
    {"appProtocol", [](Reader& r, Value v, SlicePort& p) { r.text(v, p.app_protocol); }},
};
constexpr Field<SliceEndpoint> slice_condition_fields[] = {
    {"ready", [](Reader& r, Value v, SliceEndpoint& e) { r.flag(v, e.ready); }},
    {"serving", [](Reader& r, Value v, SliceEndpoint& e) { r.flag(v, e.serving); }},
    {"terminating", [](Reader& r, Value v, SliceEndpoint& e) { r.flag(v, e.terminating); }},
};
constexpr Field<SliceEndpoint> slice_target_fields[] = {
    {"kind", [](Reader& r, Value v, SliceEndpoint& e) { r.text(v, e.target_kind); }},
    {"namespace", [](Reader& r, Value v, SliceEndpoint& e) { r.text(v, e.target_ns); }},
    {"name", [](Reader& r, Value v, SliceEndpoint& e) { r.text(v, e.target_name); }},
    {"uid", [](Reader& r, Value v, SliceEndpoint& e) { r.text(v, e.target_uid); }},
};
constexpr Field<SliceEndpoint> slice_endpoint_fields[] = {
    {"addresses",
     [](Reader& r, Value v, SliceEndpoint& e) {
       std::vector<std::string> addresses;
       r.texts(v, addresses);
       if (!addresses.empty()) e.address = std::move(addresses.front());
     }},
    {"conditions",
     [](Reader& r, Value v, SliceEndpoint& e) { read_object(r, v, e, slice_condition_fields, Keys::open); }},
    {"targetRef", [](Reader& r, Value v, SliceEndpoint& e) { read_object(r, v, e, slice_target_fields, Keys::open); }},
    {"nodeName", [](Reader& r, Value v, SliceEndpoint& e) { r.text(v, e.node); }},
    {"zone", [](Reader& r, Value v, SliceEndpoint& e) { r.text(v, e.zone); }},
};
constexpr Field<EndpointSlice> slice_fields[] = {
    {"addressType",
     [](Reader& r, Value v, EndpointSlice& s) {
       size_t index = 0;
       r.word(v, {"IPv4", "IPv6", "FQDN"}, index);
       s.family = static_cast<EndpointSlice::Family>(index);
     }},
    {"endpoints",
     [](Reader& r, Value v, EndpointSlice& s) {
       read_list(
           r, v, s.endpoints, slice_endpoint_fields, [](SliceEndpoint&) {}, Keys::open);
     }},
    {"ports",
     [](Reader& r, Value v, EndpointSlice& s) {
       read_list(
           r, v, s.ports, slice_port_fields, [](SlicePort&) {}, Keys::open);
     }},
};

// ---- Services ----

constexpr Field<ServicePort> service_port_fields[] = {
    {"name", [](Reader& r, Value v, ServicePort& p) { r.text(v, p.name); }},
    {"port", [](Reader& r, Value v, ServicePort& p) { r.port(v, p.port); }},
    {"appProtocol", [](Reader& r, Value v, ServicePort& p) { r.text(v, p.app_protocol); }},
};
constexpr Field<Service> service_spec_fields[] = {
    {"type", [](Reader& r, Value v, Service& s) { r.text(v, s.type); }},
    {"ports",
     [](Reader& r, Value v, Service& s) {
       read_list(
           r, v, s.ports, service_port_fields, [](ServicePort&) {}, Keys::open);
     }},
};
constexpr Field<Service> service_fields[] = {
    {"spec", [](Reader& r, Value v, Service& s) { read_object(r, v, s, service_spec_fields, Keys::open); }},
};
// ---- Secrets ----

// What cannot be decoded is missing: whoever needs it says so. No message cites any of it.
void read_decoded(Reader& reader, Value value, std::string& out) {
  std::string text;
  reader.text(value, text);
  out = base64_decode(text).value_or("");
}
constexpr Field<Secret> secret_data_fields[] = {
    {"tls.crt", [](Reader& r, Value v, Secret& s) { read_decoded(r, v, s.certificate); }},
    {"tls.key", [](Reader& r, Value v, Secret& s) { read_decoded(r, v, s.key); }},
};
// Only in manifests: an API server has made `data` of it.
constexpr Field<Secret> secret_text_fields[] = {
    {"tls.crt", [](Reader& r, Value v, Secret& s) { r.text(v, s.certificate); }},
    {"tls.key", [](Reader& r, Value v, Secret& s) { r.text(v, s.key); }},
};
constexpr Field<Secret> secret_fields[] = {
    {"type", [](Reader& r, Value v, Secret& s) { r.text(v, s.type); }},
    {"data", [](Reader& r, Value v, Secret& s) { read_object(r, v, s, secret_data_fields, Keys::open); }},
    {"stringData", [](Reader& r, Value v, Secret& s) { read_object(r, v, s, secret_text_fields, Keys::open); }},
};

// ---- ConfigMaps ----

constexpr Field<ConfigMap> config_map_data_fields[] = {
    {"ca.crt", [](Reader& r, Value v, ConfigMap& c) { r.text(v, c.authorities); }},
};
constexpr Field<ConfigMap> config_map_fields[] = {
    {"data", [](Reader& r, Value v, ConfigMap& c) { read_object(r, v, c, config_map_data_fields, Keys::open); }},
};

// ---- Namespaces ----

constexpr Field<Namespace> namespace_fields[] = {{"spec", nullptr}, {"status", nullptr}};

}  // namespace

void read_meta(Reader& reader, Value value, Meta& meta) {
  read_object(reader, value, meta, meta_fields, Keys::open);
}

void read_status(Reader& reader, Value value, Status& status) {
  read_object(reader, value, status, status_fields, Keys::open);
}

std::unique_ptr<Body> core_body(Kind kind) {
  const auto table = []<typename T, size_t count>(const Field<T>(&fields)[count]) -> std::unique_ptr<Body> {
    return std::make_unique<TableBody<T, count>>(fields, Keys::open, [](Reader&, T&) {});
  };
  switch (kind) {
    case Kind::pod:
      return table(pod_fields);
    case Kind::endpoint_slice:
      return table(slice_fields);
    case Kind::service:
      return table(service_fields);
    case Kind::secret:
      return table(secret_fields);
    case Kind::config_map:
      return table(config_map_fields);
    default:
      return table(namespace_fields);
  }
}

}  // namespace penstock::objects::json
