#include "penstock/kube/config.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "encoding.h"
#include "kubeconfig.h"
#include "penstock/base/text.h"

namespace penstock::kube {
namespace {

std::string variable(const ConfigSources& sources, const char* name) {
  const char* value = sources.environment ? sources.environment(name) : std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool valid_port(std::string_view port) {
  if (port.empty() || port.size() > 5) return false;
  if (!std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; })) return false;
  const int number = std::stoi(std::string(port));
  return number > 0 && number <= 65535;
}

// A pod's service account. Without ca.crt there would be nothing to verify the server with, so that is refused.
Result<ClientConfig> in_cluster(const ConfigSources& sources, const std::string& host) {
  const std::string port = variable(sources, "KUBERNETES_SERVICE_PORT");
  if (!valid_port(port)) {
    return Message{"KUBERNETES_SERVICE_HOST is set but KUBERNETES_SERVICE_PORT is " +
                   (port.empty() ? "not" : "\"" + port + "\", not a port")};
  }
  const std::string& folder = sources.service_account_folder;
  ClientConfig config;
  config.source = "in-cluster";
  config.server = "https://" + (host.find(':') != std::string::npos ? "[" + host + "]" : host) + ":" + port;
  config.ca_file = folder + "/ca.crt";
  config.token_file = folder + "/token";
  for (const std::string& file : {config.ca_file, config.token_file}) {
    const Result<std::string> content = read_file(file);
    if (!content.ok()) {
      return Message{content.error().text + " (in-cluster configuration; is automountServiceAccountToken on?)"};
    }
    if (trimmed(content.value()).empty()) return Message{file + ": is empty"};
  }
  if (Result<std::string> ns = read_file(folder + "/namespace"); ns.ok()) config.ns = trimmed(*ns);
  if (config.ns.empty()) config.ns = variable(sources, "POD_NAMESPACE");
  if (config.ns.empty()) config.ns = "default";
  return config;
}

Result<ClientConfig> from_url(const std::string& url) {
  const Result<ServerAddress> address = parse_server(url);
  if (!address.ok()) return Message{"--kube-api: " + address.error().text};
  ClientConfig config;
  config.source = "--kube-api";
  config.server = url.substr(0, url.find_last_not_of('/') + 1);
  config.ns = "default";
  return config;
}

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t from = 0; from <= list.size();) {
    const size_t to = std::min(list.find(':', from), list.size());
    if (to > from) parts.push_back(list.substr(from, to - from));
    from = to + 1;
  }
  return parts;
}

}  // namespace

Result<ServerAddress> parse_server(std::string_view url) {
  const auto wrong = [&](const char* why) { return Message{'"' + std::string(url) + "\" " + why}; };
  ServerAddress address;
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    address.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return wrong("is not a URL that begins with https:// or http://");
  }
  const size_t slash = std::min(rest.find('/'), rest.size());
  address.prefix = rest.substr(slash);
  while (address.prefix.ends_with('/')) address.prefix.pop_back();
  const std::string_view authority = rest.substr(0, slash);
  if (url.find_first_of("?#@ \t\r\n") != std::string_view::npos)
    return wrong("has more than a host, a port and a path");
  const size_t bracket = authority.starts_with('[') ? authority.find(']') : 0;
  if (bracket == std::string_view::npos) return wrong("lacks a closing bracket");
  const size_t colon = authority.find(':', bracket);
  address.host = authority.substr(0, colon);
  address.port = colon == std::string_view::npos ? (address.tls ? "443" : "80") : authority.substr(colon + 1);
  if (address.host.empty()) return wrong("has no host");
  if (!valid_port(address.port)) return wrong("has a port that is not a number from 1 to 65535");
  return address;
}

Result<ClientConfig> load_config(const ConfigSources& sources) {
  if (!sources.api_url.empty()) return from_url(sources.api_url);
  if (!sources.kubeconfig.empty()) return load_kubeconfig({sources.kubeconfig}, sources.context);
  if (const std::vector<std::string> files = split_list(variable(sources, "KUBECONFIG")); !files.empty()) {
    return load_kubeconfig(files, sources.context);
  }
  if (const std::string host = variable(sources, "KUBERNETES_SERVICE_HOST"); !host.empty()) {
    return in_cluster(sources, host);
  }
  const std::string home = variable(sources, "HOME");
  if (!home.empty() && ::access((home + "/.kube/config").c_str(), F_OK) == 0) {
    return load_kubeconfig({home + "/.kube/config"}, sources.context);
  }
  return Message{
      "no Kubernetes API server: neither in a pod (KUBERNETES_SERVICE_HOST is not set), nor is there a kubeconfig "
      "($KUBECONFIG, ~/.kube/config), nor --kube-api"};
}

}  // namespace penstock::kube
