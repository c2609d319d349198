#include "credentials.h"

#include <simdjson.h>

#include "encoding.h"
#include "penstock/base/base64.h"
#include "penstock/base/log.h"
#include "penstock/base/text.h"

namespace penstock::kube {
namespace {

// Leaves `pem` alone when there is no file. An error names the file.
std::optional<Message> read_pem(const std::string& file, const std::string& pem, std::string& out) {
  out = pem;
  if (file.empty()) return std::nullopt;
  Result<std::string> text = read_file(file);
  if (!text.ok()) return text.error();
  if (text->find("-----BEGIN") == std::string::npos) return Message{file + ": is not a PEM file"};
  out = std::move(*text);
  return std::nullopt;
}

std::string text_member(simdjson::dom::object object, const char* key) {
  std::string_view text;
  if (object[key].get_string().get(text)) return {};
  return std::string(text);
}

}  // namespace

Result<ExecCredential> parse_exec_credential(std::string_view json, std::string_view api_version) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  simdjson::dom::object object, status;
  if (parser.parse(json.data(), json.size()).get(root) || root.get_object().get(object)) {
    return Message{"prints something that is not JSON"};
  }
  if (text_member(object, "kind") != "ExecCredential") return Message{"prints no ExecCredential"};
  if (text_member(object, "apiVersion") != api_version) {
    return Message{"prints apiVersion \"" + text_member(object, "apiVersion") + "\", expected " +
                   std::string(api_version)};
  }
  if (object["status"].get_object().get(status)) return Message{"prints no status"};
  ExecCredential credential;
  credential.token = text_member(status, "token");
  credential.certificate_pem = text_member(status, "clientCertificateData");
  credential.key_pem = text_member(status, "clientKeyData");
  if (credential.token.empty() && credential.certificate_pem.empty()) {
    return Message{"prints neither a token nor a client certificate"};
  }
  if (credential.certificate_pem.empty() != credential.key_pem.empty()) {
    return Message{"prints a client certificate without its key, or a key without its certificate"};
  }
  if (const std::string expires = text_member(status, "expirationTimestamp"); !expires.empty()) {
    credential.expires_us = parse_rfc3339(expires);
    if (!credential.expires_us) return Message{"prints an expirationTimestamp that is no time: " + expires};
  }
  return credential;
}

std::string exec_info(const ExecPlugin& plugin, const ClientConfig& config, std::string_view ca_pem) {
  std::string out = R"({"apiVersion":)";
  append_json_string(out, plugin.api_version);
  out += R"(,"kind":"ExecCredential","spec":{"interactive":false)";
  if (plugin.provide_cluster_info) {
    append_json_string(out += R"(,"cluster":{"server":)", config.server);
    if (!config.tls_server_name.empty()) append_json_string(out += R"(,"tls-server-name":)", config.tls_server_name);
    if (config.insecure_skip_tls_verify) out += R"(,"insecure-skip-tls-verify":true)";
    if (!ca_pem.empty()) append_json_string(out += R"(,"certificate-authority-data":)", base64_encode(ca_pem));
    if (!config.proxy_url.empty()) append_json_string(out += R"(,"proxy-url":)", config.proxy_url);
    out += '}';
  }
  return out += "}}";
}

CredentialSource::CredentialSource(net::EventLoop& loop, const ClientConfig& config, const CurlLimits& limits,
                                   std::function<void()> when_changed)
    : loop_(loop), config_(config), limits_(limits), when_changed_(std::move(when_changed)) {}

std::optional<Result<Credentials>> CredentialSource::current() {
  Result<Credentials> credentials = read_files();
  if (!credentials.ok() || !config_.exec) return credentials;
  return with_plugin(std::move(*credentials));
}

Result<Credentials> CredentialSource::read_files() {
  Credentials credentials;
  if (auto wrong = read_pem(config_.ca_file, config_.ca_pem, credentials.ca_pem)) return *wrong;
  const ClientConfig& c = config_;
  if (auto wrong = read_pem(c.client_certificate_file, c.client_certificate_pem, credentials.certificate_pem)) {
    return *wrong;
  }
  if (auto wrong = read_pem(c.client_key_file, c.client_key_pem, credentials.key_pem)) return *wrong;
  credentials.token = config_.token;
  if (config_.token_file.empty()) return credentials;
  const Result<std::string> text = read_file(config_.token_file);
  // A file that cannot be read for once: the old token is probably still good.
  if (text.ok() && !trimmed(text.value()).empty()) last_token_ = trimmed(text.value());
  else if (last_token_.empty()) return text.ok() ? Message{config_.token_file + ": is empty"} : text.error();
  credentials.token = last_token_;
  return credentials;
}

std::optional<Result<Credentials>> CredentialSource::with_plugin(Credentials credentials) {
  const int64_t now_us = loop_.clock().wall_time_us();
  const int64_t leeway_us = duration_cast<microseconds>(limits_.exec_leeway).count();
  if (plugin_says_ && plugin_says_->expires_us && *plugin_says_->expires_us - leeway_us <= now_us) plugin_says_.reset();
  if (plugin_says_) {
    if (!plugin_says_->token.empty()) credentials.token = plugin_says_->token;
    if (!plugin_says_->certificate_pem.empty()) {
      credentials.certificate_pem = plugin_says_->certificate_pem;
      credentials.key_pem = plugin_says_->key_pem;
    }
    return credentials;
  }
  if (child_ != nullptr) return std::nullopt;
  if (!plugin_error_.empty() && loop_.now() < plugin_retry_) return Message{plugin_error_};
  run_plugin(credentials.ca_pem);
  return std::nullopt;
}

void CredentialSource::refresh() {
  plugin_says_.reset();
}

void CredentialSource::run_plugin(std::string_view ca_pem) {
  const ExecPlugin& plugin = *config_.exec;
  auto environment = plugin.environment;
  environment.emplace_back("KUBERNETES_EXEC_INFO", exec_info(plugin, config_, ca_pem));
  child_ = std::make_unique<ChildProcess>(loop_, [this](ChildOutcome outcome) { on_plugin_done(std::move(outcome)); });
  child_->run(plugin.command, plugin.arguments, environment, limits_.exec_time_limit, limits_.exec_output_max);
}

void CredentialSource::on_plugin_done(ChildOutcome outcome) {
  const std::unique_ptr<ChildProcess> ended = std::move(child_);
  const ExecPlugin& plugin = *config_.exec;
  plugin_error_.clear();
  std::string wrong = outcome.error;
  if (outcome.success) {
    Result<ExecCredential> says = parse_exec_credential(outcome.output, plugin.api_version);
    if (says.ok()) plugin_says_ = std::move(*says);
    else wrong = says.error().text;
  }
  const int64_t leeway_us = duration_cast<microseconds>(limits_.exec_leeway).count();
  if (plugin_says_ && plugin_says_->expires_us &&
      *plugin_says_->expires_us - leeway_us <= loop_.clock().wall_time_us()) {
    plugin_says_.reset();
    wrong = "prints credentials that have expired";
  }
  if (!plugin_says_) {
    plugin_error_ = "credential plugin " + plugin.command + ": " + wrong;
    if (!outcome.success && !plugin.install_hint.empty()) plugin_error_ += " (" + plugin.install_hint + ")";
    plugin_retry_ = loop_.now() + limits_.exec_retry;
  }
  when_changed_();
}

}  // namespace penstock::kube
