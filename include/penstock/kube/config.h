// Where the API server is and how to prove who we are: --kube-api, a kubeconfig, or the pod's service account.
// Pure but for reading files; start-up and control thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/base/result.h"

namespace penstock::kube {

// A program that prints credentials (client-go's exec plugins).
struct ExecPlugin {
  std::string api_version;  // client.authentication.k8s.io/v1 or /v1beta1
  std::string command;      // a name to look up in PATH, or a path (already relative to the kubeconfig's folder)
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;  // added to ours
  std::string install_hint;                                      // said when the command is not there
  bool provide_cluster_info = false;
  bool operator==(const ExecPlugin&) const = default;
};

// Files are named, not read (but for the check that they are there): certificates and tokens rotate, so whoever uses
// them reads them again. `_pem` values win over files.
struct ClientConfig {
  std::string source;           // for the log: "in-cluster", "kubeconfig /path (context kind)", "--kube-api"
  std::string server;           // http(s)://host[:port][/prefix], without a slash at the end
  std::string ns;               // the default namespace
  std::string ca_file, ca_pem;  // neither: the system's roots (kubeconfig), never in-cluster
  std::string tls_server_name;  // the name to verify instead of the server's host
  bool insecure_skip_tls_verify = false;
  bool use_environment_proxy = false;  // HTTPS_PROXY and NO_PROXY count (kubeconfig without proxy-url)
  std::string proxy_url;
  std::string client_certificate_file, client_certificate_pem;
  std::string client_key_file, client_key_pem;
  std::string token, token_file;
  std::optional<ExecPlugin> exec;
  bool operator==(const ClientConfig&) const = default;
};

// Where to look. The order: api_url, kubeconfig, $KUBECONFIG, in-cluster, ~/.kube/config.
struct ConfigSources {
  std::string api_url;                                  // --kube-api: no credentials (kubectl proxy)
  std::string kubeconfig;                               // one file, named explicitly
  std::string context;                                  // instead of current-context
  std::function<const char*(const char*)> environment;  // empty: getenv
  std::string service_account_folder = "/var/run/secrets/kubernetes.io/serviceaccount";
};

// The error names the file and the key (or the environment variable) that is wrong.
Result<ClientConfig> load_config(const ConfigSources& sources);

// host, port ("443" or "80" when not given) and prefix of an http(s) URL. Brackets of IPv6 hosts are kept.
struct ServerAddress {
  bool tls = false;
  std::string host, port, prefix;
};
Result<ServerAddress> parse_server(std::string_view url);

}  // namespace penstock::kube
