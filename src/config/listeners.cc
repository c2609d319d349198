#include "listeners.h"

#include <algorithm>
#include <optional>
#include <set>

#include "penstock/base/text.h"
#include "values.h"

namespace penstock::config {

namespace {

using Words = std::vector<std::string_view>;

// One map of the file. What is wrong goes to `complain_`, with the whole name of the key.
class Reader {
 public:
  Reader(std::string name, const Complain& complain) : name_(std::move(name)), complain_(complain) {}

  const std::string& name() const { return name_; }
  void problem(const YAML::Node& at, const std::string& key, std::string message) const {
    complain_(at, key.empty() ? name_ : name_ + '.' + key, std::move(message));
  }
  Reader below(const std::string& key) const { return {name_ + '.' + key, complain_}; }

  // Calls `read` for each key of the map that is in `known`.
  template <typename Read>
  void keys(const YAML::Node& map, const Words& known, Read&& read) const {
    std::set<std::string> seen;
    for (const auto& member : map) {
      const std::string key = member.first.IsScalar() ? member.first.Scalar() : "";
      if (!seen.insert(key).second) {
        problem(member.first, key, "is given twice");
      } else if (std::ranges::find(known, key) == known.end()) {
        const std::string near = closest(key, known);
        problem(member.first, key,
                "is not a known key" + (near.empty() ? "" : "; did you mean " + near + "?") +
                    " (known here:" + all(known, " ") + ")");
      } else {
        read(key, member.second);
      }
    }
  }
  void text(const YAML::Node& value, const std::string& key, std::string& out) const {
    if (value.IsScalar() && !value.Scalar().empty()) out = value.Scalar();
    else problem(value, key, "has no value; expected text");
  }
  // The place of the word in `words`; nothing: it is none of them.
  std::optional<size_t> choice(const YAML::Node& value, const std::string& key, const Words& words) const {
    const std::string word = value.IsScalar() ? value.Scalar() : "";
    const auto found = std::ranges::find(words, word);
    if (found != words.end()) return static_cast<size_t>(found - words.begin());
    problem(value, key, in_quotes(word) + " is not one of:" + all(words, " "));
    return std::nullopt;
  }

 private:
  static std::string all(const Words& words, const std::string& before) {
    std::string out;
    for (const std::string_view word : words) out.append(out.empty() ? before : ", ").append(word);
    return out;
  }

  std::string name_;
  const Complain& complain_;
};

void read_certificate(const YAML::Node& item, const Reader& reader, ListenerTls& tls) {
  if (!item.IsMap()) return reader.problem(item, "", "is not a pair of files; expected a map of cert and key");
  CertificateFiles files;
  reader.keys(item, {"cert", "key"}, [&](const std::string& key, const YAML::Node& value) {
    reader.text(value, key, key == "cert" ? files.cert : files.key);
  });
  if (files.cert.empty() || files.key.empty()) {
    return reader.problem(item, "", "needs both cert and key, the names of two files in PEM form");
  }
  tls.certificates.push_back(std::move(files));
}

void read_certificates(const YAML::Node& list, const Reader& reader, ListenerTls& tls) {
  if (!list.IsSequence()) return reader.problem(list, "certificates", "is not a list; expected maps of cert and key");
  size_t index = 0;
  for (const YAML::Node& item : list) {
    read_certificate(item, reader.below("certificates[" + std::to_string(index++) + "]"), tls);
  }
}

void read_client_names(const YAML::Node& list, const Reader& reader, ListenerTls& tls) {
  if (!list.IsSequence()) return reader.problem(list, "client_names", "is not a list; expected DNS names and URIs");
  for (const YAML::Node& item : list) {
    if (item.IsScalar() && !item.Scalar().empty()) tls.client_names.push_back(item.Scalar());
    else reader.problem(item, "client_names", "holds something that is not text; expected DNS names and URIs");
  }
}

void read_tls_key(const std::string& key, const YAML::Node& value, const Reader& reader, ListenerTls& tls) {
  if (key == "certificates") return read_certificates(value, reader, tls);
  if (key == "client_names") return read_client_names(value, reader, tls);
  if (key == "client_ca") return reader.text(value, key, tls.client_ca);
  if (key == "strict_sni") {
    if (const auto word = reader.choice(value, key, {"false", "true"})) tls.strict_sni = *word == 1;
  } else if (key == "min_version") {
    if (const auto word = reader.choice(value, key, {"1.2", "1.3"}))
      tls.min_version = static_cast<net::TlsVersion>(*word);
  } else if (key == "client_certificates") {
    if (const auto word = reader.choice(value, key, {"none", "optional", "required"})) {
      tls.client_certificates = static_cast<net::ClientCertificates>(*word);
    }
  } else {
    const auto time = parse_duration(value.IsScalar() ? value.Scalar() : "");
    if (time.ok() && *time >= milliseconds(100) && *time <= seconds(600)) tls.handshake_timeout = *time;
    else reader.problem(value, key, "is not a time for a handshake; expected a duration: 100ms to 10m");
  }
}

void read_tls(const YAML::Node& map, const Reader& reader, std::optional<ListenerTls>& into) {
  if (!map.IsMap()) return reader.problem(map, "", "is a section: expected keys below it, such as certificates");
  ListenerTls& tls = into.emplace();
  const Words known = {"certificates", "strict_sni",   "min_version",      "client_certificates",
                       "client_ca",    "client_names", "handshake_timeout"};
  reader.keys(map, known,
              [&](const std::string& key, const YAML::Node& value) { read_tls_key(key, value, reader, tls); });
}

void read_gateway_port(const YAML::Node& value, const Reader& reader, ListenerEntry& entry) {
  if (value.IsScalar() && parse_port(value.Scalar(), &entry.gateway_port)) return;
  reader.problem(value, "gateway_port", "is not a port; expected a whole number from 1 to 65535");
}

void read_listener(const YAML::Node& item, const Reader& reader, Options& options, std::vector<EndpointPlace>& places) {
  if (!item.IsMap()) return reader.problem(item, "", "is not a listener; expected a map of address, protocol and tls");
  ListenerEntry entry;
  std::optional<size_t> protocol;
  reader.keys(
      item, {"name", "address", "protocol", "gateway_port", "tls"},
      [&](const std::string& key, const YAML::Node& value) {
        if (key == "tls") return read_tls(value, reader.below("tls"), entry.tls);
        if (key == "gateway_port") return read_gateway_port(value, reader, entry);
        if (key == "protocol") {
          protocol = reader.choice(value, key, {"http", "https"});
          return;
        }
        reader.text(value, key, key == "name" ? entry.name : entry.address);
        if (key == "name" && !is_endpoint_name(entry.name)) {
          reader.problem(value, key, in_quotes(entry.name) + " is no name; expected 1 to 253 visible ASCII characters");
        }
        if (key != "address") return;
        if (const std::string wrong = check_address(entry.address); !wrong.empty()) {
          reader.problem(value, key, wrong + "; expected ADDRESS:PORT, such as 0.0.0.0:8443, [::]:8443 or :8443");
        }
      });
  if (entry.address.empty()) return reader.problem(item, "address", "is missing; expected ADDRESS:PORT");
  if (!protocol) protocol = entry.tls.has_value() ? 1 : 0;
  if (*protocol == 1 && !entry.tls.has_value()) entry.tls.emplace();
  if (*protocol == 0 && entry.tls.has_value()) {
    return reader.problem(item, "tls", "has no effect with protocol: http; expected protocol: https");
  }
  if (entry.name.empty()) entry.name = entry.address;
  places.push_back({reader.name(), item.Mark().line + 1});
  options.listeners.push_back(std::move(entry));
}

// Of a text with commas between them.
std::vector<std::string> items_of(const std::string& text) {
  std::vector<std::string> items;
  for (size_t at = 0; at < text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    items.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return items;
}

}  // namespace

bool ListenerFlags::take(const Flag& flag) {
  std::string* const field = flag.name == "--listen-tls" ? &address_
                             : flag.name == "--tls-cert" ? &certs_
                             : flag.name == "--tls-key"  ? &keys_
                                                         : nullptr;
  if (field != nullptr) *field = flag.value;
  return field != nullptr;
}

std::string ListenerFlags::finish(Options& options, std::vector<EndpointPlace>& places) {
  if (address_.empty() && certs_.empty() && keys_.empty()) return "";
  if (address_.empty()) return "--tls-cert and --tls-key need --listen-tls ADDR:PORT";
  if (const std::string wrong = check_address(address_); !wrong.empty()) {
    return wrong + "; expected ADDRESS:PORT, such as 0.0.0.0:8443, [::]:8443 or :8443";
  }
  const std::vector<std::string> certs = items_of(certs_), keys = items_of(keys_);
  if (certs.size() != keys.size()) {
    return "needs --tls-cert FILE and --tls-key FILE, as many of the one as of the other";
  }
  ListenerEntry entry{.name = address_, .address = address_, .tls = ListenerTls{}};
  for (size_t i = 0; i < certs.size(); ++i) entry.tls->certificates.push_back({certs[i], keys[i]});
  options.listeners.push_back(std::move(entry));
  places.push_back({"--listen-tls", 0});
  return "";
}

void read_listeners(const YAML::Node& list, Options& options, std::vector<EndpointPlace>& places,
                    const Complain& complain) {
  if (list.IsNull()) return;
  if (!list.IsSequence()) {
    return complain(list, "listeners", "is not a list; each listener is a map of address, protocol and tls");
  }
  size_t index = 0;
  for (const YAML::Node& item : list) {
    read_listener(item, Reader("listeners[" + std::to_string(index++) + "]", complain), options, places);
  }
}

void read_admin_tls(const YAML::Node& map, Options& options, const Complain& complain) {
  read_tls(map, Reader("admin.tls", complain), options.admin_tls);
}

}  // namespace penstock::config
