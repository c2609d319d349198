#include "foreign_arguments.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "replay_policies.h"
#include "values.h"

namespace penstock::config {
namespace {

using enum ForeignFlag::Kind;

constexpr std::string_view no_ext_proc = "leave it out: nobody calls Penstock by ext_proc";
constexpr std::string_view in_picker =
    "name the gauge in engineConfigs of core-metrics-extractor, in the EndpointPickerConfig";
constexpr ForeignFlag of_endpoint_picker[] = {
    {"--pool-name", flag, "--kubernetes --pool NAME"},
    {"--pool-namespace", flag, "--namespace NAME"},
    {"--pool-group", advice, "leave it out: the group is found out"},
    {"--grpc-", advice, no_ext_proc},
    {"--secure-serving", advice, no_ext_proc},
    {"--cert-path", advice, no_ext_proc},
    {"--enable-cert-reload", advice, no_ext_proc},
    {"--health-checking", advice, "leave it out: /healthz and /readyz are always at --admin"},
    {"--metrics-port", flag, "--admin ADDR:PORT"},
    {"--metrics-endpoint-auth", advice, "leave it out: a network policy says who may read metrics"},
    {"--v", flag, "--log-level LEVEL"},
    {"-v", flag, "--log-level LEVEL"},
    {"--zap-", flag, "--log-level LEVEL, --log-format json"},
    {"--tracing", advice, "leave it out: no traces are sent"},
    {"--ha-enable-leader-election", advice, "leave it out: all replicas serve"},
    {"--refresh-metrics-interval", key, "metrics.interval"},
    {"--model-server-metrics-path", key, "metrics.path"},
    {"--total-queued-requests-metric", advice, in_picker},
    {"--total-running-requests-metric", advice, in_picker},
    {"--kv-cache-usage-percentage-metric", advice, in_picker},
    {"--lora-info-metric", advice, in_picker},
    {"--cache-info-metric", advice, in_picker},
};

constexpr std::string_view listen = "--listen ADDR:PORT", admin = "--admin ADDR:PORT", config = "--config FILE",
                           endpoint = "--endpoint URL, once for each", shards = "--shards N",
                           log_level = "--log-level LEVEL", policy = "--policy NAME",
                           foreground = "leave it out: Penstock stays in the foreground",
                           checked = "penstock check --config FILE checks a configuration",
                           models = "leave it out: the endpoints are asked which models they serve",
                           no_tls = "leave it out: TLS is not supported yet, put a proxy that ends it in front";
constexpr ForeignFlag of_others[] = {
    {"--port", flag, listen},
    {"-p", flag, listen},
    {"--http-port", flag, listen},
    {"--host", flag, listen},
    {"--bind", flag, listen},
    {"--bind-address", flag, listen},
    {"--addr", flag, listen},
    {"--address", flag, listen},
    {"--listen-address", flag, listen},
    {"--listen-port", flag, listen},
    {"--admin-port", flag, admin},
    {"--admin-address", flag, admin},
    {"--prometheus-port", flag, admin},
    {"--prometheus-host", flag, admin},
    {"--health-port", flag, admin},
    {"--status-port", flag, admin},
    {"-c", flag, config},
    {"-f", flag, config},
    {"--file", flag, config},
    {"--conf", flag, config},
    {"--config-path", flag, config},
    {"--config-yaml", flag, config},
    {"--backend", flag, endpoint},
    {"--backends", flag, endpoint},
    {"--static-backends", flag, endpoint},
    {"--server", flag, endpoint},
    {"--servers", flag, endpoint},
    {"--upstream", flag, endpoint},
    {"--upstreams", flag, endpoint},
    {"--target", flag, endpoint},
    {"--url", flag, endpoint},
    {"--urls", flag, endpoint},
    {"--worker-url", flag, endpoint},
    {"--worker-urls", flag, endpoint},
    {"--concurrency", flag, shards},
    {"--cpus", flag, shards},
    {"--nbthread", flag, shards},
    {"--thread", flag, shards},
    {"--threads", flag, shards},
    {"--worker", flag, shards},
    {"--workers", flag, shards},
    {"--worker-threads", flag, shards},
    {"--component-log-level", flag, log_level},
    {"--uvicorn-log-level", flag, log_level},
    {"--verbose", flag, log_level},
    {"--debug", flag, log_level},
    {"--quiet", flag, log_level},
    {"-d", flag, log_level},
    {"-l", flag, log_level},
    {"-q", flag, log_level},
    {"--balance", flag, policy},
    {"--algorithm", flag, policy},
    {"--lb-policy", flag, policy},
    {"--routing-logic", flag, policy},
    {"--routing-policy", flag, policy},
    {"--service-discovery", flag, "--kubernetes with --pool NAME, --service NAME or --endpoint-selector KEY=VALUE"},
    {"--service-discovery-namespace", flag, "--namespace NS"},
    {"--k8s-namespace", flag, "--namespace NS"},
    {"--selector", flag, "--endpoint-selector KEY=VALUE,..."},
    {"--k8s-label-selector", flag, "--endpoint-selector KEY=VALUE,..."},
    {"--service-discovery-port", flag, "--endpoint-ports N,..."},
    {"--k8s-port", flag, "--endpoint-ports N,..."},
    {"--log-path", key, "access_log.path"},
    {"--log-file", key, "access_log.path"},
    {"--log-dir", key, "access_log.path"},
    {"--max-connections", key, "limits.connections"},
    {"--maxconn", key, "limits.connections"},
    {"-n", key, "limits.connections"},
    {"--max-concurrent-requests", key, "limits.requests_per_shard"},
    {"--max-payload-size", key, "limits.body_bytes"},
    {"--queue-size", key, "flow_control.requests"},
    {"--queue-timeout-secs", key, "flow_control.ttl"},
    {"--retries", key, "retry.attempts"},
    {"--max-retries", key, "retry.attempts"},
    {"--retry-max-retries", key, "retry.attempts"},
    {"--timeout", key, "timeouts.total"},
    {"--request-timeout", key, "timeouts.total"},
    {"--request-timeout-secs", key, "timeouts.total"},
    {"--drain-time-s", key, "lifecycle.drain_limit"},
    {"--api-key", key, "metrics.api_key_file"},
    {"--model", advice, models},
    {"--models", advice, models},
    {"--served-model-name", advice, models},
    {"--static-models", advice, models},
    {"--daemon", advice, foreground},
    {"-D", advice, foreground},
    {"-W", advice, foreground},
    {"-Ws", advice, foreground},
    {"-db", advice, foreground},
    {"--mode", advice, checked},
    {"--dry-run", advice, checked},
    {"--test", advice, checked},
    {"-t", advice, checked},
    {"--tls-", advice, no_tls},
    {"--ssl-", advice, no_tls},
};

constexpr std::pair<std::string_view, std::string_view> foreign_commands[] = {
    {"run", "serve"},      {"start", "serve"},    {"launch", "serve"}, {"gateway", "serve"},   {"proxy", "serve"},
    {"validate", "check"}, {"verify", "check"},   {"test", "check"},   {"lint", "check"},      {"configtest", "check"},
    {"bench", "replay"},   {"compare", "replay"}, {"trace", "replay"}, {"simulate", "replay"},
};

bool names_folder(const std::string& word) {
  std::error_code ignored;
  return std::filesystem::is_directory(word, ignored);
}

// A URL as it is, HOST:PORT with the scheme; else "".
std::string as_url(const std::string& word) {
  if (word.starts_with("http://") || word.starts_with("https://")) return word;
  std::string url = "http://" + word;
  return check_url(url).empty() ? url : "";
}

}  // namespace

std::span<const ForeignFlag> endpoint_picker_flags() {
  return of_endpoint_picker;
}

std::span<const ForeignFlag> other_foreign_flags() {
  return of_others;
}

const ForeignFlag* find_foreign_flag(std::span<const ForeignFlag> flags, std::string_view name) {
  const auto is = [name](const ForeignFlag& known) {
    return name == known.name || (known.name.ends_with('-') && name.starts_with(known.name));
  };
  const auto found = std::find_if(flags.begin(), flags.end(), is);
  return found == flags.end() ? nullptr : &*found;
}

std::string instruction(const ForeignFlag& known) {
  const std::string here(known.here);
  if (known.kind == flag) return "give " + here;
  return known.kind == key ? "say " + here + " in the file of --config" : here;
}

std::string flag_for_word(std::string_view command, const std::string& word) {
  if (command == "replay") return "--trace " + word;
  if (command != "serve" && command != "check") return "";
  if (names_folder(word)) return "--manifests " + word;
  if (const std::string url = as_url(word); !url.empty()) return command == "serve" ? "--endpoint " + url : "";
  return names_file(word) ? "--config " + word : "";
}

std::string_view command_instead_of(std::string_view word) {
  const auto is = [word](const auto& known) { return known.first == word; };
  const auto found = std::find_if(std::begin(foreign_commands), std::end(foreign_commands), is);
  return found == std::end(foreign_commands) ? "" : found->second;
}

}  // namespace penstock::config
