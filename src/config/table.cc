#include "table.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "values.h"

namespace penstock::config {
namespace {

using Words = std::string_view;
constexpr Words ring_words[] = {"auto", "io_uring", "epoll"};
constexpr Words level_words[] = {"debug", "info", "warn", "error"};
constexpr Words format_words[] = {"text", "json"};
constexpr Words engine_words[] = {"vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm"};
constexpr Words policy_words[] = {"epp-default", "random", "round-robin", "least-load"};

constexpr double minute = 60, hour = 3600, day = 86400;
constexpr double KiB = 1024, MiB = 1024 * KiB, GiB = 1024 * MiB;

#define PENSTOCK_FIELD(member) +[](Options& o) -> decltype((o.member)) { return o.member; }
#define PENSTOCK_ENUM(member)                                                     \
  EnumField {                                                                     \
    +[](const Options& o) { return static_cast<int>(o.member); },                 \
        +[](Options& o, int i) { o.member = static_cast<decltype(o.member)>(i); } \
  }

// clang-format off
const Key keys_in_order[] = {
    {.name = "listen", .type = Type::address, .field = PENSTOCK_FIELD(listen), .needs_restart = true,
     .doc = "Where clients connect."},
    {.name = "admin", .type = Type::address, .field = PENSTOCK_FIELD(admin), .needs_restart = true,
     .doc = "Where metrics, health, status and debug pages are served."},
    {.name = "pool", .type = Type::text, .field = PENSTOCK_FIELD(pool_name), .least = 1, .most = 253, .needs_restart = true,
     .doc = "Name of the pool of endpoints: the label `name` of the `inference_pool_*` metrics."},
    {.name = "shards", .type = Type::integer, .field = PENSTOCK_FIELD(shards), .most = 1024, .zero = "one per CPU it may use",
     .needs_restart = true, .doc = "Worker threads. CPU affinity, cpuset and the control group's quota are respected."},
    {.name = "pin", .type = Type::boolean, .field = PENSTOCK_FIELD(pin), .needs_restart = true,
     .doc = "Pin each shard to a CPU of its own. Without effect when there are more shards than CPUs."},
    {.name = "ring.engine", .type = Type::choice, .field = PENSTOCK_ENUM(ring.kind), .words = ring_words,
     .needs_restart = true, .doc = "How shards wait for the kernel. `auto` takes io_uring where a live probe succeeds, else epoll."},
    {.name = "ring.spin_us", .type = Type::microseconds, .field = PENSTOCK_FIELD(ring.spin), .most = 1e6, .zero = "off",
     .needs_restart = true, .doc = "Microseconds for which a shard polls after its last event before it sleeps: trades CPU for wake-up latency."},
    {.name = "log.level", .type = Type::choice, .field = PENSTOCK_ENUM(log_level), .words = level_words,
     .doc = "Least level that the operator's log (stderr) shows."},
    {.name = "log.format", .type = Type::choice, .field = PENSTOCK_ENUM(log_format), .words = format_words,
     .doc = "Form of the operator's log."},
    {.name = "access_log.enabled", .type = Type::boolean, .field = PENSTOCK_FIELD(access_log.enabled),
     .doc = "One line per exchange."},
    {.name = "access_log.format", .type = Type::choice, .field = PENSTOCK_ENUM(access_log.format), .words = format_words,
     .doc = "Form of the access log."},
    {.name = "access_log.path", .type = Type::path, .field = PENSTOCK_FIELD(access_log.path),
     .doc = "File to append to; `-` is standard output. Opened again on SIGHUP, so that it can be rotated."},

    {.name = "timeouts.client_header", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.client_header), .least = 1e-3, .most = day,
     .zero = "none", .doc = "From the first byte of a request head to its end (408)."},
    {.name = "timeouts.client_body", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.client_body), .least = 1e-3, .most = day,
     .zero = "none", .doc = "Between two reads of a request body (408)."},
    {.name = "timeouts.client_idle", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.client_idle), .least = 1e-3, .most = day,
     .zero = "none", .doc = "How long a client's connection may wait for its next request."},
    {.name = "timeouts.client_write", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.client_write), .least = 1e-3, .most = day,
     .zero = "none", .doc = "How long a client may take no byte of an answer that waits for it."},
    {.name = "timeouts.connect", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.connect), .least = 1e-3, .most = hour,
     .zero = "none", .doc = "Connecting to an endpoint; then the next one is tried."},
    {.name = "timeouts.first_byte", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.first_byte), .least = 1e-3, .most = day,
     .zero = "none", .doc = "From the request sent to the head of the answer: queueing and prefill of the model server."},
    {.name = "timeouts.chunk_idle", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.chunk_idle), .least = 1e-3, .most = day,
     .zero = "none", .doc = "Between two reads of an answer."},
    {.name = "timeouts.total", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.total), .least = 1e-3, .most = day,
     .zero = "none", .doc = "The whole exchange."},
    {.name = "timeouts.upstream_idle", .type = Type::duration, .field = PENSTOCK_FIELD(timeouts.upstream_idle), .least = 1e-3, .most = day,
     .zero = "none", .doc = "How long an idle connection to an endpoint is kept. Keep it below the server's own limit (uvicorn: 5 s)."},

    {.name = "limits.header_bytes", .type = Type::size, .field = PENSTOCK_FIELD(limits.header_bytes), .least = KiB, .most = 16 * MiB,
     .doc = "Largest request head (431)."},
    {.name = "limits.body_bytes", .type = Type::size, .field = PENSTOCK_FIELD(limits.body_bytes), .least = KiB, .most = 16 * GiB,
     .doc = "Largest request body (413)."},
    {.name = "limits.connections", .type = Type::integer, .field = PENSTOCK_FIELD(limits.connections), .most = 1e8,
     .zero = "from the limit on open files", .doc = "Client connections of the whole process."},
    {.name = "limits.requests_per_shard", .type = Type::integer, .field = PENSTOCK_FIELD(limits.requests_per_shard), .least = 1, .most = 1e7,
     .doc = "Exchanges in flight in one shard (503)."},
    {.name = "limits.memory", .type = Type::size, .field = PENSTOCK_FIELD(limits.memory_bytes), .least = MiB, .most = 1024 * GiB,
     .zero = "60 % of the control group's limit, else of the machine's memory",
     .doc = "Bytes of bodies and queued output that the process may hold (503)."},

    {.name = "retry.attempts", .type = Type::integer, .field = PENSTOCK_FIELD(retry.attempts), .least = 1, .most = 8,
     .doc = "Endpoints tried for one request, the first included. Only failures before the first byte of the answer's body are retried."},
    {.name = "retry.budget_percent", .type = Type::number, .field = PENSTOCK_FIELD(retry.budget_percent), .most = 100,
     .doc = "Retries allowed, in percent of recent requests."},
    {.name = "retry.budget_min", .type = Type::integer, .field = PENSTOCK_FIELD(retry.budget_min), .most = 1e6,
     .doc = "Retries that are always allowed in 10 s, whatever the percentage says."},

    {.name = "ejection.consecutive_failures", .type = Type::integer, .field = PENSTOCK_FIELD(ejection.consecutive_failures), .least = 1, .most = 1000,
     .doc = "Failures in a row after which an endpoint gets no requests for a while."},
    {.name = "ejection.base_penalty", .type = Type::duration, .field = PENSTOCK_FIELD(ejection.base_penalty), .least = 1e-3, .most = hour,
     .doc = "Length of the first ejection; it doubles each time."},
    {.name = "ejection.max_penalty", .type = Type::duration, .field = PENSTOCK_FIELD(ejection.max_penalty), .least = 1e-3, .most = day,
     .doc = "Longest ejection."},
    {.name = "ejection.slow_start", .type = Type::duration, .field = PENSTOCK_FIELD(ejection.slow_start), .least = 1e-3, .most = hour,
     .zero = "none", .doc = "Time over which an endpoint that returns gets back to its full share."},

    {.name = "metrics.interval", .type = Type::duration, .field = PENSTOCK_FIELD(metrics.interval), .least = 5e-3, .most = minute,
     .doc = "Between two scrapes of an endpoint while traffic flows."},
    {.name = "metrics.idle_interval", .type = Type::duration, .field = PENSTOCK_FIELD(metrics.idle_interval), .least = 5e-3, .most = 10 * minute,
     .doc = "Between two scrapes of an endpoint without traffic."},
    {.name = "metrics.timeout", .type = Type::duration, .field = PENSTOCK_FIELD(metrics.timeout), .least = 1e-3, .most = minute,
     .doc = "Longest scrape or health probe."},
    {.name = "metrics.path", .type = Type::url_path, .field = PENSTOCK_FIELD(metrics.path), .doc = "Path of an endpoint's metrics."},
    {.name = "metrics.health_path", .type = Type::url_path, .field = PENSTOCK_FIELD(metrics.health_path), .doc = "Path of an endpoint's health probe."},
    {.name = "metrics.health_interval", .type = Type::duration, .field = PENSTOCK_FIELD(metrics.health_interval), .least = 1e-2, .most = 10 * minute,
     .doc = "Between two health probes."},
    {.name = "metrics.engine", .type = Type::choice, .field = PENSTOCK_FIELD(metrics.engine), .words = engine_words,
     .doc = "What the endpoints run: decides the names of the metrics that are read. Each endpoint may say otherwise."},

    {.name = "routing.policy", .type = Type::choice, .field = PENSTOCK_FIELD(policy), .words = policy_words, .needs_restart = true,
     .doc = "How an endpoint is chosen. `epp-default` weighs queue, KV-cache use and cached prefix."},
    {.name = "routing.prefix_index_entries", .type = Type::integer, .field = PENSTOCK_FIELD(prefix_index_entries), .least = 1024, .most = 4294967296.0,
     .needs_restart = true, .doc = "Size of the table of prompt blocks believed to be cached, 8 bytes each; rounded up to a power of two."},

    {.name = "lifecycle.drain_delay", .type = Type::duration, .field = PENSTOCK_FIELD(drain_delay), .least = 1e-3, .most = hour,
     .zero = "none", .doc = "After SIGTERM, how long `/readyz` says no before connections are no longer accepted."},
    {.name = "lifecycle.drain_limit", .type = Type::duration, .field = PENSTOCK_FIELD(drain_limit), .least = 1e-3, .most = day,
     .zero = "at once", .doc = "After that, how long exchanges may run on before they are cut."},
};
// clang-format on

#undef PENSTOCK_FIELD
#undef PENSTOCK_ENUM

std::string format_number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed).ptr;
  return {text, end};
}

std::string show_bound(const Key& key, double bound) {
  if (key.type == Type::duration) return format_duration(from_seconds(bound));
  if (key.type == Type::size) return format_size(static_cast<uint64_t>(bound));
  return format_number(bound);
}

std::string join(std::span<const std::string_view> words) {
  std::string out;
  for (const std::string_view word : words) out.append(out.empty() ? "" : ", ").append(word);
  return out;
}

std::string expects(const Key& key) {
  return "; expected " + std::string(type_name(key.type)) + ": " + accepted_values(key);
}

// "" when `value` (seconds, bytes or plain) is within the key's range, or zero where zero means something.
std::string check_range(const Key& key, double value, std::string_view text) {
  if (value == 0 && !key.zero.empty()) return "";
  if (value >= key.least && value <= key.most) return "";
  return '"' + std::string(text) + "\" is out of range" + expects(key);
}

std::string set_text(const Key& key, std::string& field, std::string_view text) {
  const std::string shown = '"' + std::string(text) + '"';
  switch (key.type) {
    case Type::address:
      if (const std::string problem = check_address(text); !problem.empty()) return problem + expects(key);
      break;
    case Type::url_path:
      if (!text.starts_with('/') || text.find_first_of(" \t\r\n#") != std::string_view::npos) {
        return shown + " is not a path of a URL" + expects(key);
      }
      break;
    case Type::choice:
      if (std::find(key.words.begin(), key.words.end(), text) == key.words.end()) {
        return shown + " is not one of: " + join(key.words);
      }
      break;
    case Type::text:
      if (const std::string problem = check_range(key, static_cast<double>(text.size()), text); !problem.empty()) {
        return problem;
      }
      break;
    default:
      if (text.empty()) return "is empty" + expects(key);
  }
  field = text;
  return "";
}

template <typename Integer>
std::string set_integer(const Key& key, Integer& field, std::string_view text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || parsed.ptr != text.data() + text.size() || parsed.ec == std::errc::invalid_argument) {
    return '"' + std::string(text) + "\" is not a whole number" + expects(key);
  }
  if (parsed.ec != std::errc{}) value = UINT64_MAX;  // too long for 64 bits: out of every range below
  if (std::string problem = check_range(key, static_cast<double>(value), text); !problem.empty()) return problem;
  field = static_cast<Integer>(value);
  return "";
}

std::string set_size(const Key& key, size_t& field, std::string_view text) {
  const auto parsed = parse_size(text);
  if (!parsed) return parsed.error().text + expects(key);
  if (std::string problem = check_range(key, static_cast<double>(*parsed), text); !problem.empty()) return problem;
  field = *parsed;
  return "";
}

std::string set_duration(const Key& key, Duration& field, std::string_view text) {
  if (key.type == Type::microseconds) {
    uint64_t count = 0;
    std::string problem = set_integer(key, count, text);
    if (problem.empty()) field = microseconds(count);
    return problem;
  }
  const auto parsed = parse_duration(text);
  if (!parsed) return parsed.error().text + expects(key);
  if (std::string problem = check_range(key, to_seconds(*parsed), text); !problem.empty()) return problem;
  field = *parsed;
  return "";
}

std::string set_number(const Key& key, double& field, std::string_view text) {
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || !std::isfinite(value)) {
    return '"' + std::string(text) + "\" is not a number" + expects(key);
  }
  if (std::string problem = check_range(key, value, text); !problem.empty()) return problem;
  field = value;
  return "";
}

std::string set_boolean(const Key& key, bool& field, std::string_view text) {
  if (text != "true" && text != "false") return '"' + std::string(text) + "\" is not a boolean" + expects(key);
  field = text == "true";
  return "";
}

std::string set_word(const Key& key, const EnumField& field, Options& options, std::string_view text) {
  const auto found = std::find(key.words.begin(), key.words.end(), text);
  if (found == key.words.end()) return '"' + std::string(text) + "\" is not one of: " + join(key.words);
  field.set(options, static_cast<int>(found - key.words.begin()));
  return "";
}

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

std::span<const Key> table() {
  return keys_in_order;
}

const Key* find_key(std::string_view name) {
  const auto found = std::find_if(std::begin(keys_in_order), std::end(keys_in_order),
                                  [&](const Key& key) { return key.name == name; });
  return found == std::end(keys_in_order) ? nullptr : found;
}

bool is_section(std::string_view name) {
  return std::any_of(std::begin(keys_in_order), std::end(keys_in_order), [&](const Key& key) {
    return key.name.size() > name.size() && key.name.starts_with(name) && key.name[name.size()] == '.';
  });
}

std::string set_from_text(const Key& key, Options& options, std::string_view text) {
  return std::visit(Overloaded{
                        [&](Reference<std::string> field) { return set_text(key, field(options), text); },
                        [&](Reference<bool> field) { return set_boolean(key, field(options), text); },
                        [&](Reference<uint32_t> field) { return set_integer(key, field(options), text); },
                        [&](Reference<size_t> field) {
                          return key.type == Type::size ? set_size(key, field(options), text)
                                                        : set_integer(key, field(options), text);
                        },
                        [&](Reference<double> field) { return set_number(key, field(options), text); },
                        [&](Reference<Duration> field) { return set_duration(key, field(options), text); },
                        [&](const EnumField& field) { return set_word(key, field, options, text); },
                    },
                    key.field);
}

std::string to_text(const Key& key, const Options& options) {
  Options& from = const_cast<Options&>(options);  // the accessors serve reading and writing; nothing is written here
  return std::visit(
      Overloaded{
          [&](Reference<std::string> field) { return field(from); },
          [&](Reference<bool> field) { return std::string(field(from) ? "true" : "false"); },
          [&](Reference<uint32_t> field) { return std::to_string(field(from)); },
          [&](Reference<size_t> field) {
            return key.type == Type::size ? format_size(field(from)) : std::to_string(field(from));
          },
          [&](Reference<double> field) { return format_number(field(from)); },
          [&](Reference<Duration> field) {
            if (key.type == Type::microseconds) {
              return std::to_string(duration_cast<microseconds>(field(from)).count());
            }
            return field(from) == Duration{0} && key.zero == "none" ? "none" : format_duration(field(from));
          },
          [&](const EnumField& field) { return std::string(key.words[static_cast<size_t>(field.get(from))]); },
      },
      key.field);
}

std::string_view type_name(Type type) {
  switch (type) {
    case Type::text:
      return "text";
    case Type::path:
      return "file";
    case Type::url_path:
      return "URL path";
    case Type::address:
      return "address";
    case Type::boolean:
      return "boolean";
    case Type::integer:
      return "whole number";
    case Type::number:
      return "number";
    case Type::microseconds:
      return "microseconds";
    case Type::duration:
      return "duration";
    case Type::size:
      return "size";
    case Type::choice:
      return "choice";
  }
  return "";
}

std::string accepted_values(const Key& key) {
  switch (key.type) {
    case Type::text:
      return format_number(key.least) + " to " + format_number(key.most) + " characters";
    case Type::path:
      return "a path, or - for standard output";
    case Type::url_path:
      return "starts with /";
    case Type::address:
      return "ADDRESS:PORT, such as 0.0.0.0:8080, [::]:8080 or :8080";
    case Type::boolean:
      return "true or false";
    case Type::choice:
      return join(key.words);
    default:
      break;
  }
  std::string out = show_bound(key, key.least) + " to " + show_bound(key, key.most);
  if (key.zero == "none") {
    out += ", or none";
  } else if (!key.zero.empty()) {
    out.append(key.least > 0 ? ", or 0 (" : " (0: ").append(key.zero).append(")");
  }
  return out;
}

std::span<const std::string_view> engine_names() {
  return engine_words;
}

}  // namespace penstock::config
