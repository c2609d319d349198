#include "penstock/routing/decision_inputs.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <deque>
#include <random>

#include "decisions.h"
#include "penstock/base/text.h"
#include "penstock/routing/session_token.h"

namespace penstock::routing {
namespace {

using endpoints::EndpointState;
using endpoints::EndpointView;

constexpr auto relaxed = std::memory_order_relaxed;

// What refusals have said, for one kind of request.
void record_refusals(const EndpointState& state, uint64_t kind, EndpointInputs& out) {
  out.refusals_in_row = state.health.refusals_in_row.load(relaxed);
  out.busy_until_ns = state.health.busy_until_ns.load(relaxed);
  out.kind_until_ns = out.kind_ejections = 0;
  for (const endpoints::Refusals::Kind& entry : state.refusals.kinds) {
    if (kind == 0 || entry.kind.load(relaxed) != kind) continue;
    out.kind_until_ns = entry.until_ns.load(relaxed);
    out.kind_ejections = entry.ejections.load(relaxed);
    break;
  }
}

constexpr uint64_t kind_again = 1;  // stands for the request's kind when it is decided again

void restore_refusals(const EndpointInputs& in, EndpointState& out) {
  out.health.refusals_in_row = static_cast<uint32_t>(in.refusals_in_row);
  out.health.busy_until_ns = in.busy_until_ns;
  if (in.kind_ejections == 0) return;
  out.health.kinds = 1;
  endpoints::Refusals::Kind& entry = out.refusals.kinds.front();
  entry.kind = kind_again;
  entry.until_ns = in.kind_until_ns;
  entry.ejections = static_cast<uint32_t>(in.kind_ejections);
}

void record_state(const EndpointState& state, EndpointInputs& out) {
  out.name = state.name;
  out.slot = state.slot;
  out.incarnation = state.incarnation;
  const endpoints::LoadCounters& load = state.load;
  out.requests = load.requests.load(relaxed);
  out.prefill_tokens = load.prefill_tokens.load(relaxed);
  out.kv_tokens = load.kv_tokens.load(relaxed);
  out.decoding = load.decoding.load(relaxed);
  out.unseen = load.unseen.load(relaxed);
  out.unseen_tokens = load.unseen_tokens.load(relaxed);
  out.ejected_until_ns = state.health.ejected_until_ns.load(relaxed);
  out.recovered_at_ns = state.health.recovered_at_ns.load(relaxed);
  out.probe_failed = state.health.probe_failed.load(relaxed);
  const endpoints::Pace& pace = state.pace;
  out.prefill_seconds = pace.prefill_seconds.load(relaxed);
  out.prefill_done_tokens = pace.prefill_tokens.load(relaxed);
  out.prefills = pace.prefills.load(relaxed);
  out.prefill_xx = pace.prefill_xx.load(relaxed);
  out.prefill_xy = pace.prefill_xy.load(relaxed);
  out.decodes = pace.decodes.load(relaxed);
  out.decode_x = pace.decode_x.load(relaxed);
  out.decode_y = pace.decode_y.load(relaxed);
  out.decode_xx = pace.decode_xx.load(relaxed);
  out.decode_xy = pace.decode_xy.load(relaxed);
  out.believed_tokens = pace.believed_tokens.load(relaxed);
  out.cached_tokens = pace.cached_tokens.load(relaxed);
  out.answers = pace.answers.load(relaxed);
  out.output_tokens = pace.output_tokens.load(relaxed);
  out.unseen_until_ns = pace.unseen_until_ns.load(relaxed);
}

void restore_state(const EndpointInputs& in, EndpointState& out) {
  out.name = in.name;
  out.slot = in.slot;
  out.incarnation = in.incarnation;
  endpoints::LoadCounters& load = out.load;
  load.requests = in.requests;
  load.prefill_tokens = in.prefill_tokens;
  load.kv_tokens = in.kv_tokens;
  load.decoding = in.decoding;
  load.unseen = in.unseen;
  load.unseen_tokens = in.unseen_tokens;
  out.health.ejected_until_ns = in.ejected_until_ns;
  out.health.recovered_at_ns = in.recovered_at_ns;
  out.health.probe_failed = in.probe_failed;
  endpoints::Pace& pace = out.pace;
  pace.prefill_seconds = in.prefill_seconds;
  pace.prefill_tokens = in.prefill_done_tokens;
  pace.prefills = in.prefills;
  pace.prefill_xx = in.prefill_xx;
  pace.prefill_xy = in.prefill_xy;
  pace.decodes = in.decodes;
  pace.decode_x = in.decode_x;
  pace.decode_y = in.decode_y;
  pace.decode_xx = in.decode_xx;
  pace.decode_xy = in.decode_xy;
  pace.believed_tokens = in.believed_tokens;
  pace.cached_tokens = in.cached_tokens;
  pace.answers = in.answers;
  pace.output_tokens = in.output_tokens;
  pace.unseen_until_ns = in.unseen_until_ns;
}

// A number that reads back as the same one.
template <typename Number>
void append_exact(std::string& out, Number value) {
  char text[32];
  out.append(text, std::to_chars(text, text + sizeof text, value).ptr);
}

class JsonObject {
 public:
  explicit JsonObject(std::string& out) : out_(out) { out_ += '{'; }
  ~JsonObject() { out_ += '}'; }
  JsonObject(const JsonObject&) = delete;
  void key(std::string_view name) {
    if (out_.back() != '{') out_ += ',';
    out_ += '"';
    out_ += name;
    out_ += "\":";
  }
  template <typename Number>
  void number(std::string_view name, Number value) {
    key(name);
    append_exact(out_, value);
  }
  void flag(std::string_view name, bool value) {
    key(name);
    out_ += value ? "true" : "false";
  }
  void text(std::string_view name, std::string_view value) {
    key(name);
    append_json_string(out_, value);
  }
  void texts(std::string_view name, const std::vector<std::string>& values) {
    key(name);
    out_ += '[';
    for (const std::string& value : values) {
      if (out_.back() != '[') out_ += ',';
      append_json_string(out_, value);
    }
    out_ += ']';
  }

 private:
  std::string& out_;
};

const char* word(endpoints::Readiness readiness) {
  switch (readiness) {
    case endpoints::Readiness::not_ready:
      return "not_ready";
    case endpoints::Readiness::draining:
      return "draining";
    case endpoints::Readiness::ready:
      break;
  }
  return "ready";
}

void append_metrics(JsonObject& object, std::string& out, const endpoints::EngineMetrics& metrics) {
  object.key("metrics");
  if (!metrics.known) {
    out += "null";
    return;
  }
  JsonObject inner(out);
  inner.number("scraped_at_ns", metrics.scraped_at.time_since_epoch().count());
  inner.number("waiting", metrics.waiting);
  inner.number("running", metrics.running);
  inner.number("kv_usage", metrics.kv_usage);
  inner.number("block_size", metrics.block_size);
  inner.number("kv_blocks", metrics.kv_blocks);
  inner.number("requests_at_scrape", metrics.requests_at_scrape);
  inner.number("not_counted_at_scrape", metrics.not_counted_at_scrape);
  inner.number("max_loras", metrics.max_loras);
  inner.texts("running_loras", metrics.running_loras);
  inner.texts("waiting_loras", metrics.waiting_loras);
}

void append_endpoint(std::string& out, const EndpointInputs& endpoint) {
  JsonObject object(out);
  object.text("name", endpoint.name);
  object.number("slot", endpoint.slot);
  object.number("incarnation", endpoint.incarnation);
  object.text("readiness", word(endpoint.readiness));
  object.flag("last_resort", endpoint.last_resort);
  object.flag("serves", endpoint.serves);
  object.flag("tried", endpoint.tried);
  object.flag("probe_failed", endpoint.probe_failed);
  object.number("matched_blocks", endpoint.matched_blocks);
  append_metrics(object, out, endpoint.metrics);
  each_number([&](std::string_view name, auto member) { object.number(name, endpoint.*member); });
  each_rare_number([&](std::string_view name, auto member) {
    if (endpoint.*member != 0) object.number(name, endpoint.*member);
  });
}

// Stand-ins for the blocks of a prompt: any hashes do, as long as they are the same for all endpoints.
std::vector<uint64_t> blocks_of(size_t count) {
  Random random(count);
  std::vector<uint64_t> blocks(count);
  for (uint64_t& block : blocks) block = random.next();
  return blocks;
}

}  // namespace

void record_inputs(const Features& features, const endpoints::Pool& pool, Instant now,
                   std::span<EndpointState* const> tried, const RouterOptions& options, const Random& random,
                   DecisionInputs& out) {
  out.whole = pool.endpoints.size() <= DecisionInputs::endpoints_max;
  out.endpoints.resize(out.whole ? pool.endpoints.size() : 0);
  if (!out.whole) return;
  out.now = now;
  out.metrics_stale_after = options.metrics_stale_after;
  out.slow_start = options.slow_start;
  out.random = random.state();
  out.model = features.model;
  out.session = features.session;
  out.fairness_id = features.fairness_id;
  out.priority = features.priority;
  out.streaming = features.streaming;
  out.prompt_tokens = features.prompt_tokens;
  out.max_tokens = features.max_tokens;
  out.slo_ttft_ms = features.slo_ttft_ms;
  out.slo_tpot_ms = features.slo_tpot_ms;
  out.blocks = static_cast<uint32_t>(features.blocks.size());
  out.block_tokens = features.block_tokens;
  for (size_t i = 0; i < pool.endpoints.size(); ++i) {
    const EndpointView& view = pool.endpoints[i];
    EndpointInputs& endpoint = out.endpoints[i];
    endpoint.readiness = view.readiness;
    endpoint.last_resort = view.last_resort;
    endpoint.serves = serves(view, features.model);
    endpoint.tried = std::find(tried.begin(), tried.end(), view.state) != tried.end();
    endpoint.matched_blocks = 0;
    endpoint.metrics = view.metrics;
    record_state(*view.state, endpoint);
    record_refusals(*view.state, features.kind, endpoint);
  }
}

void record_matches(std::span<const Candidate> candidates, double prefix_uses, const endpoints::Pool& pool,
                    DecisionInputs& out) {
  if (!out.whole) return;
  out.prefix_uses = prefix_uses;
  for (const Candidate& candidate : candidates) {
    out.endpoints[static_cast<size_t>(candidate.endpoint - pool.endpoints.data())].matched_blocks =
        candidate.matched_blocks;
  }
}

// Who sent a request is nobody's business on a debug page, but which requests came from the same one may explain a
// decision. The key is this process's own, so that nobody can try names.
std::string hidden(const std::string& id) {
  static const uint64_t key = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  if (id.empty()) return id;
  char digits[17];
  const auto end = std::to_chars(digits, digits + 16, XXH3_64bits_withSeed(id.data(), id.size(), key), 16).ptr;
  return "#" + std::string(digits, end);
}

// A session token is what an endpoint's answer gave, and what a decision is made by: it tells nothing but that
// endpoint.
bool names_endpoint(const std::string& session, const std::vector<EndpointInputs>& endpoints) {
  return std::any_of(endpoints.begin(), endpoints.end(),
                     [&](const EndpointInputs& endpoint) { return is_session_token(session, endpoint.name); });
}

void DecisionInputs::append_json(std::string& out) const {
  if (!whole) {
    out += "null";
    return;
  }
  JsonObject object(out);
  object.number("now_ns", now.time_since_epoch().count());
  object.number("metrics_stale_after_ns", metrics_stale_after.count());
  object.number("slow_start_ns", slow_start.count());
  object.key("random");
  out += '[';
  for (const uint64_t number : random) {
    if (out.back() != '[') out += ',';
    append_exact(out, number);
  }
  out += ']';
  object.text("model", model);
  object.text("session", names_endpoint(session, endpoints) ? session : hidden(session));
  object.text("fairness_id", hidden(fairness_id));
  object.number("priority", priority);
  object.flag("streaming", streaming);
  object.number("prompt_tokens", prompt_tokens);
  object.number("max_tokens", max_tokens);
  object.number("slo_ttft_ms", slo_ttft_ms);
  object.number("slo_tpot_ms", slo_tpot_ms);
  object.number("blocks", blocks);
  object.number("block_tokens", block_tokens);
  object.number("prefix_uses", prefix_uses);
  object.key("endpoints");
  out += '[';
  for (const EndpointInputs& endpoint : endpoints) {
    if (out.back() != '[') out += ',';
    append_endpoint(out, endpoint);
  }
  out += ']';
}

DecidedAgain decide_again(const Profile& profile, const DecisionInputs& inputs) {
  std::deque<EndpointState> states;
  endpoints::Pool pool;
  std::vector<EndpointState*> tried;
  const std::vector<uint64_t> blocks = blocks_of(inputs.blocks);
  PrefixIndex index(size_t{1} << 20);
  size_t matched = 0;
  for (const EndpointInputs& in : inputs.endpoints) {
    EndpointState& state = states.emplace_back();
    restore_state(in, state);
    restore_refusals(in, state);
    EndpointView& view = pool.endpoints.emplace_back();
    view.state = &state;
    view.readiness = in.readiness;
    view.last_resort = in.last_resort;
    view.metrics = in.metrics;
    if (!in.serves) view.models = {"another than " + inputs.model};
    if (in.tried) tried.push_back(&state);
    index.bind(in.slot, in.incarnation);
    const auto held = std::span(blocks).first(std::min<size_t>(in.matched_blocks, blocks.size()));
    index.record(held, in.slot);
    matched = std::max(matched, held.size());
  }
  if (matched > 0) index.uses().add(blocks[matched - 1], inputs.now, inputs.prefix_uses);
  Features features;
  features.model = inputs.model;
  features.kind = kind_again;
  features.session = inputs.session;
  features.fairness_id = inputs.fairness_id;
  features.priority = inputs.priority;
  features.streaming = inputs.streaming;
  features.prompt_tokens = inputs.prompt_tokens;
  features.max_tokens = inputs.max_tokens;
  features.slo_ttft_ms = inputs.slo_ttft_ms;
  features.slo_tpot_ms = inputs.slo_tpot_ms;
  features.blocks = blocks;
  features.block_tokens = inputs.block_tokens;

  Router router(profile, index, 0, {inputs.metrics_stale_after, inputs.slow_start});
  router.set_random(inputs.random);
  DecidedAgain out;
  const Decision decision = router.decide(features, pool, inputs.now, tried, &out.again);
  if (decision.endpoint != nullptr) out.endpoint = decision.endpoint->name;
  return out;
}

}  // namespace penstock::routing
