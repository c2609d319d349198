#include "penstock/config/reference.h"

#include <algorithm>
#include <cstdio>

#include "penstock/epp/config.h"
#include "table.h"
#include "values.h"

namespace penstock::config {
namespace {

constexpr std::string_view page_head = R"(# Configuration

This page is generated from the table that the parser uses (`src/config/table.cc`); a test keeps the two equal.

The configuration is one YAML file, given with `penstock serve --config FILE`. Every key has a default: a file that says
only `kind: GatewayConfig` is valid. Flags override the file.

`penstock check --config FILE [--manifests DIR] [--epp-config FILE]` reports every problem of the file, of the manifests
and of an EndpointPickerConfig, with its line, and exits with 1. Without problems it exits with 0 and shows what differs
from the defaults. Then it looks up the host names of endpoints, for 3 seconds at most, and warns of those that do not
resolve: that is no error, as they may exist only where the gateway will run.

```yaml
apiVersion: penstock.dev/v1alpha1   # optional
kind: GatewayConfig
endpoints:
  - http://10.0.0.1:8000
  - url: http://10.0.0.2:8000
    name: gpu-2                     # default: HOST:PORT
    engine: sglang                  # default: metrics.engine
timeouts:
  connect: 500ms
limits:
  body_bytes: 32MiB
```

On a cluster, the endpoints come from there ([KUBERNETES.md](KUBERNETES.md)):

```yaml
kind: GatewayConfig
kubernetes:
  enabled: true
  namespaces: [inference]
  pools: [llama, qwen]
```

**How values are written:**

- *Durations* need a unit (ns, us, ms, s, m, h): `50ms`, `1.5s`, `1m30s`, `2h`. They may be `none` or `0` where the table
  says so.
- *Sizes* are bytes, or have a unit (KB, MB, GB, TB; KiB, MiB, GiB, TiB): `4096`, `64KiB`, `1GB`.
- *Lists* are YAML lists, or one text with commas.

**What is an error:** an unknown key, a key given twice, a value out of range, and a key that has no effect beside others.

**Reload.** SIGHUP reads the file again and applies it whole or not at all. A key marked *restart* cannot change while the
process runs: a reload that changes one is refused as a whole.

)";

constexpr std::string_view picker_section = R"(## routing.endpoint_picker

An EndpointPickerConfig as a part of this file, instead of `routing.policy` or of a file of its own (`routing.epp_config`): as
YAML below the key, or as one text (`endpoint_picker: |`). What it may say is in [EPP_CONFIG.md](EPP_CONFIG.md). *restart*

```yaml
kind: GatewayConfig
routing:
  endpoint_picker:
    plugins:
      - type: queue-scorer
      - type: prefix-cache-scorer
    schedulingProfiles:
      - name: default
        plugins:
          - {pluginRef: queue-scorer, weight: 2}
          - {pluginRef: prefix-cache-scorer, weight: 3}
```

## routing.shadow_endpoint_picker

The same for the shadow, instead of `routing.shadow_policy` or `routing.shadow_epp_config`. *restart*

)";

constexpr std::string_view listeners_section = R"(## listeners

Where clients connect beside `listen`. A list; each entry is a map. On a reload, addresses and protocols must stay what they
are; what `tls` says may change. `--listen-tls ADDR:PORT --tls-cert FILE --tls-key FILE` adds one.

```yaml
listeners:
  - address: 0.0.0.0:8443
    protocol: https
    tls:
      certificates:
        - {cert: /etc/penstock/tls/tls.crt, key: /etc/penstock/tls/tls.key}
```

| key | type | default | accepted | meaning |
|---|---|---|---|---|
| `address` | address | required | ADDRESS:PORT | Where it listens. |
| `protocol` | choice | https with `tls`, else http | http, https | What is spoken there. |
| `name` | text | the address | unique | Name in metrics and logs. |
| `gateway_port` | integer | that of `address` | 1 to 65535 | The port of those listeners of Gateways whose requests arrive here, if a Service gives it another number: see [GATEWAY_API.md](GATEWAY_API.md). |
| `tls.certificates` | list | required for https, unless a Gateway brings them | maps of `cert` and `key` | Files in PEM form: a certificate with its intermediates, and its private key without a password. The certificate whose names (subjectAltName) hold the one that the client asks for is used, else one with a wildcard for its first label, else the first of the list. Two with the same names and keys of different kinds go together. |
| `tls.strict_sni` | boolean | `false` | true or false | Refuse clients that ask for no name or for one that no certificate has. |
| `tls.min_version` | choice | `1.2` | 1.2, 1.3 | The oldest version of TLS. (With quotes or without.) |
| `tls.client_certificates` | choice | `none` | none, optional, required | Whether clients are asked for a certificate. `optional`: one that is presented must verify. |
| `tls.client_ca` | file | none | a path | Authorities (PEM) to which client certificates must lead. |
| `tls.client_names` | list | any | DNS names and URIs, such as `spiffe://cluster.local/ns/a/sa/b` | A client certificate must have one of these as subjectAltName. |
| `tls.handshake_timeout` | duration | `10s` | 100ms to 10m | Longest time from a connection to the end of its handshake. |

The files are read again when something changes in their folders, and once a minute. What cannot be used (a key of another
certificate, an expired one) is refused, and what was served before stays: see [TLS.md](TLS.md#renewal).

## admin.tls

TLS for everything on the admin port: what `tls` of a listener says, with at least one pair of `certificates`. Plain HTTP is
refused there then. A reload may change what it says, but not whether there is TLS. In metrics and logs the port is the listener
`admin`.

```yaml
admin:
  listen: 0.0.0.0:9090
  tls:
    certificates:
      - {cert: /etc/penstock/admin-tls/tls.crt, key: /etc/penstock/admin-tls/tls.key}
```

Probes of Kubernetes need `scheme: HTTPS`. A kubelet verifies no certificate, asks for no name and presents no certificate:
`strict_sni` and `client_certificates: required` turn it away.

)";

constexpr std::string_view endpoints_section = R"(## endpoints

The model servers. A list; each entry is a URL or a map:

| key | type | default | accepted | meaning |
|---|---|---|---|---|
| `url` | URL | required | `http://HOST:PORT` or `https://HOST:PORT` | Where the model server listens. No path: requests keep their own. How its certificate is verified: `endpoint_tls`. |
| `tls_server_name` | text | the host of `url` | a host name or an IP address | Of an `https` endpoint: the name that its certificate must have, if `endpoint_tls.server_name` names none. |
| `name` | text | HOST:PORT | unique | Name in metrics, logs and answers. |
| `engine` | choice | `metrics.engine` | %ENGINES% | What it runs. |
| `dns` | choice | `dns.addresses` | first, all | What its host name stands for, if that has several addresses. |
| `api_key_file` | file | `metrics.api_key_file` | a path | Holds the key that our own requests to it carry. |
| `labels` | map | none | names, each with a text | As those of a pod: `llm-d.ai/role`, what filters go by. |
| `kv_events_port` | whole number | `kv_events.port` | 1 to 65535 | Where it publishes its KV events. |
| `kv_replay_port` | whole number | `kv_events.replay_port` | 1 to 65535 | Where it replays them. |

`--endpoint URL` (repeatable) replaces the whole list. Endpoints come from here, from a cluster (`kubernetes`), from
`manifests`, or from the file that an EndpointPickerConfig names (`file-discovery`): naming two of these is an error.
)";

std::string section_of(std::string_view name) {
  const size_t dot = name.find('.');
  return dot == std::string_view::npos ? "" : std::string(name.substr(0, dot));
}

std::string describe_endpoint(const EndpointEntry& entry) {
  std::string out = entry.name + " (" + entry.url;
  if (!entry.engine.empty()) out += ", " + entry.engine;
  if (entry.kv_events_port != 0) out += ", KV events at port " + std::to_string(entry.kv_events_port);
  if (entry.kv_replay_port != 0) out += ", replays at port " + std::to_string(entry.kv_replay_port);
  if (entry.all_addresses) out += *entry.all_addresses ? ", all addresses" : ", first address";
  if (!entry.tls_server_name.empty()) out += ", TLS name " + entry.tls_server_name;
  if (!entry.api_key_file.empty()) out += ", key in " + entry.api_key_file;
  for (const auto& [label, value] : entry.labels) out.append(", ").append(label).append("=").append(value);
  return out + ")";
}

void diff_endpoints(const Options& from, const Options& to, std::vector<std::string>& lines) {
  const auto find = [](const Options& in, const std::string& name) {
    return std::find_if(in.endpoints.begin(), in.endpoints.end(), [&](const auto& e) { return e.name == name; });
  };
  for (const EndpointEntry& old : from.endpoints) {
    const auto now = find(to, old.name);
    if (now == to.endpoints.end()) {
      lines.push_back("endpoints: removed " + describe_endpoint(old));
    } else if (describe_endpoint(*now) != describe_endpoint(old)) {
      lines.push_back("endpoints: " + describe_endpoint(old) + " -> " + describe_endpoint(*now));
    }
  }
  for (const EndpointEntry& entry : to.endpoints) {
    if (find(from, entry.name) == from.endpoints.end()) lines.push_back("endpoints: added " + describe_endpoint(entry));
  }
}

std::string describe_protocol(const std::optional<ListenerTls>& maybe) {
  if (!maybe.has_value()) return "http";
  const ListenerTls& tls = *maybe;
  std::string out = "https";
  for (const CertificateFiles& files : tls.certificates)
    out.append(", ").append(files.cert).append(" ").append(files.key);
  if (tls.strict_sni) out += ", strict_sni";
  if (tls.min_version == net::TlsVersion::tls1_3) out += ", TLS 1.3";
  if (tls.client_certificates != net::ClientCertificates::none) {
    const bool required = tls.client_certificates == net::ClientCertificates::required;
    out += std::string(", client certificates ") + (required ? "required" : "optional") + " of " + tls.client_ca;
  }
  for (const std::string& name : tls.client_names) out += ", " + name;
  if (tls.handshake_timeout != ListenerTls().handshake_timeout) {
    out += ", handshakes within " + format_duration(tls.handshake_timeout);
  }
  return out;
}

std::string describe_listener(const ListenerEntry& entry) {
  std::string out = entry.name + " (" + entry.address;
  if (entry.gateway_port != 0) out += ", port " + std::to_string(entry.gateway_port) + " of Gateways";
  return out + ", " + describe_protocol(entry.tls) + ")";
}

void diff_admin_tls(const Options& from, const Options& to, std::vector<std::string>& lines) {
  const std::string before = describe_protocol(from.admin_tls), after = describe_protocol(to.admin_tls);
  if (before != after) lines.push_back("admin.tls: " + before + " -> " + after);
}

void diff_listeners(const Options& from, const Options& to, std::vector<std::string>& lines) {
  const size_t count = std::max(from.listeners.size(), to.listeners.size());
  for (size_t i = 0; i < count; ++i) {
    const std::string before = i < from.listeners.size() ? describe_listener(from.listeners[i]) : "none";
    const std::string after = i < to.listeners.size() ? describe_listener(to.listeners[i]) : "none";
    if (before != after) lines.push_back("listeners[" + std::to_string(i) + "]: " + before + " -> " + after);
  }
}

// Where a listener is and what it speaks cannot change while the process runs.
bool listeners_moved(const Options& from, const Options& to) {
  return !std::ranges::equal(from.listeners, to.listeners, [](const ListenerEntry& a, const ListenerEntry& b) {
    return a.name == b.name && a.address == b.address && a.gateway_port == b.gateway_port &&
           a.tls.has_value() == b.tls.has_value();
  });
}

}  // namespace

std::vector<KeyInfo> keys() {
  const Options defaults;
  std::vector<KeyInfo> out;
  for (const Key& key : table()) {
    std::string default_value = to_text(key, defaults);
    out.push_back({std::string(key.name), std::string(type_name(key.type)), std::move(default_value),
                   accepted_values(key), std::string(key.doc), key.needs_restart});
  }
  return out;
}

std::string reference_markdown() {
  std::string out(page_head);
  std::string section = "-";  // none of the sections
  for (const KeyInfo& key : keys()) {
    if (section_of(key.name) != section) {
      section = section_of(key.name);
      out += section.empty() ? "## Top level\n\n" : "\n## " + section + "\n\n";
      out += "| key | type | default | accepted | meaning |\n|---|---|---|---|---|\n";
    }
    const std::string default_value = key.default_value.empty() ? "" : '`' + key.default_value + '`';
    out += "| `" + key.name + "` | " + key.type + " | " + default_value + " | " + key.accepted + " | " + key.doc;
    out += key.needs_restart ? " *restart* |\n" : " |\n";
  }
  std::string endpoints(endpoints_section);
  std::string engines;
  for (const std::string_view name : engine_names()) engines.append(engines.empty() ? "" : ", ").append(name);
  endpoints.replace(endpoints.find("%ENGINES%"), 9, engines);
  return out + "\n" + std::string(picker_section) + std::string(listeners_section) + endpoints;
}

bool reload_needs_restart(std::string_view key) {
  const Key* const found = find_key(key);
  return found != nullptr && found->needs_restart;
}

namespace {

std::string shown(const std::string& value) {
  return value.empty() ? "none" : value;
}

using Picker = std::shared_ptr<const epp::Config>;

// What is written in the EndpointPickerConfig, beside where it is.
bool picker_changed(const Picker& from, const Picker& to) {
  const auto canon = [](const Picker& picker) { return picker == nullptr ? std::string() : picker->canon; };
  return canon(from) != canon(to);
}

void diff_picker(std::string_view whose, const Picker& from, const Picker& to, std::vector<std::string>& lines) {
  if (!picker_changed(from, to)) return;
  lines.push_back(std::string(whose) + " EndpointPickerConfig of " + (to ? to : from)->source + " has changed");
}

std::string describe_profile(const epp::ProfileSpec& profile) {
  std::string out = "profile " + profile.name + ":";
  for (const epp::ProfileSpec::Use& use : profile.plugins) {
    out += ' ' + use.plugin.name;
    const bool scores =
        use.plugin.info->kind == epp::PluginKind::scorer || use.plugin.info->kind == epp::PluginKind::scorer_and_filter;
    char weight[32];
    std::snprintf(weight, sizeof weight, "*%g", use.weight);
    if (scores) out += weight;
  }
  return out;
}

}  // namespace

std::vector<std::string> diff(const Options& from, const Options& to) {
  std::vector<std::string> lines;
  for (const Key& key : table()) {
    const std::string before = to_text(key, from), after = to_text(key, to);
    if (before != after) lines.push_back(std::string(key.name) + ": " + shown(before) + " -> " + shown(after));
  }
  if (from.epp_config == to.epp_config) diff_picker("the", from.endpoint_picker, to.endpoint_picker, lines);
  if (from.shadow_epp_config == to.shadow_epp_config)
    diff_picker("the shadow's", from.shadow_picker, to.shadow_picker, lines);
  diff_admin_tls(from, to, lines);
  diff_listeners(from, to, lines);
  diff_endpoints(from, to, lines);
  return lines;
}

std::vector<std::string> changes_needing_restart(const Options& from, const Options& to) {
  std::vector<std::string> names;
  for (const Key& key : table()) {
    if (key.needs_restart && to_text(key, from) != to_text(key, to)) names.emplace_back(key.name);
  }
  if (listeners_moved(from, to))
    names.emplace_back("listeners (their addresses, names, ports of Gateways and protocols)");
  if (from.admin_tls.has_value() != to.admin_tls.has_value()) names.emplace_back("admin.tls (whether there is TLS)");
  if (picker_changed(from.endpoint_picker, to.endpoint_picker)) {
    names.emplace_back("routing.endpoint_picker (the EndpointPickerConfig)");
  }
  if (from.shadow_epp_config == to.shadow_epp_config && picker_changed(from.shadow_picker, to.shadow_picker)) {
    const bool file = !to.shadow_epp_config.empty();
    names.emplace_back(std::string(file ? "routing.shadow_epp_config" : "routing.shadow_endpoint_picker") +
                       " (the EndpointPickerConfig)");
  }
  return names;
}

std::vector<std::string> describe_picker(const Options& options) {
  std::vector<std::string> lines;
  if (options.endpoint_picker != nullptr) {
    const epp::SchedulingSpec& spec = options.endpoint_picker->scheduling;
    if (spec.screener) lines.push_back("before all profiles: " + spec.screener->name);
    lines.push_back(describe_profile(spec.primary));
    for (const epp::ProfileSpec& other : spec.by_header) lines.push_back(describe_profile(other));
    if (spec.prefill) lines.push_back(describe_profile(*spec.prefill));
    if (spec.encode) lines.push_back(describe_profile(*spec.encode));
  }
  if (options.shadow_picker) lines.push_back("shadow " + describe_profile(options.shadow_picker->scheduling.primary));
  return lines;
}

}  // namespace penstock::config
