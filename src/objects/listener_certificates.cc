#include "listener_certificates.h"

#include <algorithm>

namespace penstock::objects {
namespace {

constexpr std::string_view tls_type = "kubernetes.io/tls";

const std::string& namespace_of(const Meta& gateway, const ObjectRef& ref) {
  return ref.ns.empty() ? gateway.ns : ref.ns;
}

bool is_secret(const ObjectRef& ref) {
  return ref.kind == "Secret" && (ref.group.empty() || ref.group == "core");
}

bool may_refer(const Store& store, const Meta& gateway, const ObjectRef& ref) {
  return granted(store, "Gateway", gateway.ns, {"", "Secret", namespace_of(gateway, ref), ref.name});
}

// Why what the Secret holds cannot be used; "": it can.
std::string problem_of(const View& view, const Secret& secret) {
  if (secret.type != tls_type) {
    return "is of the type " + (secret.type.empty() ? "Opaque" : secret.type) + "; expected " + std::string(tls_type);
  }
  if (secret.certificate.empty() || secret.key.empty()) {
    return std::string("has no ") + (secret.certificate.empty() ? "tls.crt" : "tls.key") + " in base64";
  }
  const CheckCertificate check = view.options().check_certificate;
  return check == nullptr ? "" : check(secret);
}

void add_certificate(const View& view, const ObjectRef& ref, ListenerState& listener) {
  const Meta& gateway = listener.gateway->meta;
  const std::string& ns = namespace_of(gateway, ref);
  const std::string what = ref.kind + ' ' + ns + '/' + ref.name;
  if (!is_secret(ref)) {
    return listener.unresolved.note("InvalidCertificateRef",
                                    what + " of group \"" + ref.group + "\" is of no supported kind; expected Secret");
  }
  if (!may_refer(view.store(), gateway, ref)) {
    return listener.unresolved.note("RefNotPermitted",
                                    "no ReferenceGrant in " + ns + " allows the reference to " + what);
  }
  const auto secret = view.store().get<Secret>(Kind::secret, ns, ref.name);
  if (secret == nullptr) {
    return listener.unresolved.note("InvalidCertificateRef", what + " does not exist, or this gateway may not read it");
  }
  const std::string problem = problem_of(view, *secret);
  if (!problem.empty()) listener.unresolved.note("InvalidCertificateRef", what + ' ' + problem);
  listener.certificates.push_back({listener.host, what, problem.empty() ? secret : nullptr});
}

// What is shown without any certificateRefs.
bool has_own(const View& view, const ListenerMap& map, const ListenerState& listener) {
  const auto& ours = view.options().listeners;
  for (size_t i = 0; i < ours.size(); ++i) {
    if (map.table_of(i) == listener.table && ours[i].tls && ours[i].has_certificate) return true;
  }
  return false;
}

}  // namespace

void find_certificates(const View& view, const ListenerMap& map, ListenerState& listener) {
  for (const ObjectRef& ref : listener.spec->certificates) add_certificate(view, ref, listener);
  if (!listener.spec->certificates.empty() || has_own(view, map, listener)) return;
  listener.unresolved.note("InvalidCertificateRef",
                           "there are no certificateRefs, and the listener of this gateway has no certificate either");
}

bool shows_certificate(const ListenerState& listener) {
  return listener.spec->certificates.empty()
             ? !listener.unresolved.found()
             : std::ranges::any_of(listener.certificates, [](const auto& one) { return one.secret != nullptr; });
}

void add_certificates(const View& view, const ListenerMap& map, const ListenerState& listener, Certificates& out) {
  const auto& ours = view.options().listeners;
  out.resize(ours.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    if (map.table_of(i) != listener.table) continue;
    out[i].insert(out[i].end(), listener.certificates.begin(), listener.certificates.end());
  }
}

std::vector<ObjectName> referenced_secrets(const Store& store, const ResolveOptions& options) {
  std::vector<ObjectName> out;
  const View view(store, options);
  view.each<Gateway>(Kind::gateway, std::nullopt, [&](Kind, const Gateway& gateway) {
    const auto its_class = store.get<GatewayClass>(Kind::gateway_class, "", gateway.spec.class_name);
    if (its_class == nullptr || its_class->spec.controller != options.controller) return;
    for (const Listener& listener : gateway.spec.listeners) {
      for (const ObjectRef& ref : listener.certificates) {
        if (listener.protocol != "HTTPS" || !is_secret(ref) || !may_refer(store, gateway.meta, ref)) continue;
        out.push_back({namespace_of(gateway.meta, ref), ref.name});
      }
    }
  });
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace penstock::objects
