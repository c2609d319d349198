// Who we are, for each call anew: tokens and certificates rotate. Files are read again every time (they are small and
// in memory), a plugin's answer is kept until it expires. Control thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "child_process.h"
#include "penstock/kube/transport.h"

namespace penstock::kube {

struct Credentials {
  std::string token;
  std::string certificate_pem, key_pem;
  std::string ca_pem;  // empty: the system's roots
};

// What an exec plugin prints.
struct ExecCredential {
  std::string token, certificate_pem, key_pem;
  std::optional<int64_t> expires_us;  // Unix time; nothing: with the process
};
Result<ExecCredential> parse_exec_credential(std::string_view json, std::string_view api_version);
// The value of KUBERNETES_EXEC_INFO.
std::string exec_info(const ExecPlugin& plugin, const ClientConfig& config, std::string_view ca_pem);

class CredentialSource {
 public:
  // `when_changed` is called after a plugin has ended, well or not.
  CredentialSource(net::EventLoop& loop, const ClientConfig& config, const CurlLimits& limits,
                   std::function<void()> when_changed);

  // Nothing: a plugin is running, ask again when told.
  std::optional<Result<Credentials>> current();
  // A plugin's answer is not good any more.
  void refresh();

 private:
  Result<Credentials> read_files();
  std::optional<Result<Credentials>> with_plugin(Credentials credentials);
  void run_plugin(std::string_view ca_pem);
  void on_plugin_done(ChildOutcome outcome);

  net::EventLoop& loop_;
  const ClientConfig& config_;
  const CurlLimits& limits_;
  std::function<void()> when_changed_;
  std::string last_token_;  // of the file
  std::unique_ptr<ChildProcess> child_;
  std::optional<ExecCredential> plugin_says_;
  std::string plugin_error_;
  Instant plugin_retry_{};
};

}  // namespace penstock::kube
