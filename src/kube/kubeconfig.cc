#include "kubeconfig.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>

#include "encoding.h"
#include "penstock/base/base64.h"
#include "penstock/base/text.h"

namespace penstock::kube {
namespace {

// Thrown inside this file alone: yaml-cpp throws as well, and both end in load_kubeconfig().
struct Wrong {
  std::string text;
};

struct File {
  std::string path;
  YAML::Node document;
};

// One map of a file with its place, for messages and relative paths.
struct Section {
  const File* file = nullptr;
  std::string key;  // "users[kind].user"
  YAML::Node node;
};

[[noreturn]] void fail(const Section& section, const std::string& key, const std::string& why) {
  throw Wrong{section.file->path + ": " + section.key + (key.empty() ? "" : "." + key) + ": " + why};
}

std::string text_of(const Section& section, const char* key) {
  const YAML::Node value = section.node[key];
  if (!value || value.IsNull()) return {};
  if (!value.IsScalar()) fail(section, key, "is not a text");
  return value.Scalar();
}

bool flag_of(const Section& section, const char* key) {
  const std::string text = text_of(section, key);
  if (text.empty() || text == "false") return false;
  if (text != "true") fail(section, key, "is neither true nor false");
  return true;
}

// A path in a kubeconfig is relative to the folder of the file that has it.
std::string path_of(const Section& section, const std::string& text) {
  if (text.empty() || text.front() == '/') return text;
  return std::filesystem::path(section.file->path).parent_path() / text;
}

// KEY-data (base64) or KEY (a file), the data winning.
void read_pem(const Section& section, const std::string& key, std::string& file, std::string& pem) {
  const std::string data_key = key + "-data";
  if (const std::string data = text_of(section, data_key.c_str()); !data.empty()) {
    std::optional<std::string> decoded = base64_decode(data);
    if (!decoded || decoded->empty()) fail(section, data_key, "is not base64");
    pem = std::move(*decoded);
    return;
  }
  file = path_of(section, text_of(section, key.c_str()));
  if (!file.empty() && ::access(file.c_str(), R_OK) != 0) fail(section, key, "cannot read " + file);
}

class Kubeconfig {
 public:
  explicit Kubeconfig(std::vector<File> files) : files_(std::move(files)) {}

  ClientConfig resolve(std::string context_name) const {
    if (context_name.empty()) context_name = current_context();
    const Section context = find("contexts", context_name, "context");
    ClientConfig config;
    config.source = "kubeconfig " + context.file->path + " (context " + context_name + ")";
    config.ns = text_of(context, "namespace");
    if (config.ns.empty()) config.ns = "default";
    const std::string cluster = text_of(context, "cluster");
    if (cluster.empty()) fail(context, "cluster", "is missing");
    read_cluster(find("clusters", cluster, "cluster"), config);
    if (const std::string user = text_of(context, "user"); !user.empty())
      read_user(find("users", user, "user"), config);
    return config;
  }

 private:
  std::string current_context() const {
    for (const File& file : files_) {
      const std::string name = text_of({&file, "", file.document}, "current-context");
      if (!name.empty()) return name;
    }
    throw Wrong{files_.front().path + ": current-context: is missing"};
  }

  Section find(const std::string& list, const std::string& name, const std::string& inner) const {
    for (const File& file : files_) {
      const YAML::Node entries = file.document[list];
      if (!entries || entries.IsNull()) continue;
      if (!entries.IsSequence()) throw Wrong{file.path + ": " + list + ": is not a list"};
      for (const YAML::Node& entry : entries) {
        if (!entry.IsMap()) throw Wrong{file.path + ": " + list + ": has an entry that is not a map"};
        if (text_of({&file, list, entry}, "name") != name) continue;
        const std::string key = list + "[" + name + "]." + inner;
        const YAML::Node node = entry[inner];
        if (!node || !node.IsMap()) throw Wrong{file.path + ": " + key + ": is missing or not a map"};
        return {&file, key, node};
      }
    }
    throw Wrong{files_.front().path + ": " + list + ": has no entry named \"" + name + '"'};
  }

  static void read_cluster(const Section& cluster, ClientConfig& config) {
    const std::string server = text_of(cluster, "server");
    if (server.empty()) fail(cluster, "server", "is missing");
    const Result<ServerAddress> address = parse_server(server);
    if (!address.ok()) fail(cluster, "server", address.error().text);
    config.server = server.substr(0, server.find_last_not_of('/') + 1);
    read_pem(cluster, "certificate-authority", config.ca_file, config.ca_pem);
    config.tls_server_name = text_of(cluster, "tls-server-name");
    config.insecure_skip_tls_verify = flag_of(cluster, "insecure-skip-tls-verify");
    if (config.insecure_skip_tls_verify && !(config.ca_file.empty() && config.ca_pem.empty())) {
      fail(cluster, "insecure-skip-tls-verify", "cannot be true beside a certificate authority");
    }
    config.proxy_url = text_of(cluster, "proxy-url");
    config.use_environment_proxy = config.proxy_url.empty();
  }

  static void read_user(const Section& user, ClientConfig& config) {
    for (const char* key : {"auth-provider", "username", "password", "as", "as-uid", "as-groups", "as-user-extra"}) {
      if (user.node[key]) fail(user, key, "is not supported; use a token, a client certificate or exec");
    }
    read_pem(user, "client-certificate", config.client_certificate_file, config.client_certificate_pem);
    read_pem(user, "client-key", config.client_key_file, config.client_key_pem);
    const bool certificate = !config.client_certificate_file.empty() || !config.client_certificate_pem.empty();
    const bool key = !config.client_key_file.empty() || !config.client_key_pem.empty();
    if (certificate != key) fail(user, certificate ? "client-key" : "client-certificate", "is missing");
    config.token_file = path_of(user, text_of(user, "tokenFile"));
    if (config.token_file.empty()) config.token = text_of(user, "token");
    if (!config.token_file.empty() && ::access(config.token_file.c_str(), R_OK) != 0) {
      fail(user, "tokenFile", "cannot read " + config.token_file);
    }
    if (user.node["exec"]) read_exec(user, config);
  }

  static void read_exec(const Section& user, ClientConfig& config) {
    const Section exec{user.file, user.key + ".exec", user.node["exec"]};
    if (!exec.node.IsMap()) fail(exec, "", "is not a map");
    ExecPlugin plugin;
    plugin.api_version = text_of(exec, "apiVersion");
    if (plugin.api_version != "client.authentication.k8s.io/v1" &&
        plugin.api_version != "client.authentication.k8s.io/v1beta1") {
      fail(exec, "apiVersion", "expected client.authentication.k8s.io/v1 or client.authentication.k8s.io/v1beta1");
    }
    plugin.command = text_of(exec, "command");
    if (plugin.command.empty()) fail(exec, "command", "is missing");
    if (plugin.command.find('/') != std::string::npos) plugin.command = path_of(exec, plugin.command);
    plugin.install_hint = text_of(exec, "installHint");
    plugin.provide_cluster_info = flag_of(exec, "provideClusterInfo");
    if (text_of(exec, "interactiveMode") == "Always") {
      fail(exec, "interactiveMode", "is Always, but a gateway has nobody to ask");
    }
    read_exec_lists(exec, plugin);
    config.exec = std::move(plugin);
  }

  static void read_exec_lists(const Section& exec, ExecPlugin& plugin) {
    const YAML::Node arguments = exec.node["args"];
    if (arguments && !arguments.IsNull()) {
      if (!arguments.IsSequence()) fail(exec, "args", "is not a list");
      for (const YAML::Node& argument : arguments) {
        if (!argument.IsScalar()) fail(exec, "args", "has an entry that is not a text");
        plugin.arguments.push_back(argument.Scalar());
      }
    }
    const YAML::Node environment = exec.node["env"];
    if (!environment || environment.IsNull()) return;
    if (!environment.IsSequence()) fail(exec, "env", "is not a list");
    for (const YAML::Node& entry : environment) {
      if (!entry.IsMap()) fail(exec, "env", "has an entry that is not a map");
      const Section variable{exec.file, exec.key + ".env", entry};
      plugin.environment.emplace_back(text_of(variable, "name"), text_of(variable, "value"));
      if (plugin.environment.back().first.empty()) fail(variable, "name", "is missing");
    }
  }

  std::vector<File> files_;
};

}  // namespace

Result<ClientConfig> load_kubeconfig(const std::vector<std::string>& files, const std::string& context) {
  std::vector<File> loaded;
  std::string reading;
  try {
    for (const std::string& path : files) {
      if (::access(path.c_str(), F_OK) != 0) continue;
      reading = path;
      Result<std::string> text = read_file(path);
      if (!text.ok()) return text.error();
      loaded.push_back({path, YAML::Load(*text)});
      if (!loaded.back().document.IsMap()) return Message{path + ": is not a kubeconfig: not a map"};
    }
    if (loaded.empty()) return Message{"no kubeconfig: " + joined(files, ", ") + " does not exist"};
    reading = loaded.front().path;
    return Kubeconfig(std::move(loaded)).resolve(context);
  } catch (const Wrong& wrong) {
    return Message{wrong.text};
  } catch (const YAML::Exception& error) {
    return Message{reading + ":" + std::to_string(error.mark.line + 1) + ": " + error.msg};
  }
}

}  // namespace penstock::kube
