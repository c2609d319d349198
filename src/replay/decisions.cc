#include "penstock/replay/decisions.h"

#include <simdjson.h>

#include "penstock/replay/contestant.h"

namespace penstock::replay {
namespace {

using simdjson::ondemand::object;
using simdjson::ondemand::value;

constexpr uint32_t blocks_max = 1 << 24;  // of one prompt; recorded are at most a few thousand

// Reads members of objects; the first thing that is wrong is kept. Nothing is read after that.
class Reader {
 public:
  bool ok() const { return wrong_.empty(); }
  const std::string& wrong() const { return wrong_; }
  void fail(std::string_view key) {
    if (ok()) wrong_ = "\"" + std::string(key) + "\" is missing or is not what it should be";
  }

  template <typename T>
  void get(object& from, std::string_view key, T& out) {
    value found;
    if (!ok()) return;
    if (from.find_field_unordered(key).get(found) != simdjson::SUCCESS || !read(found, out)) fail(key);
  }
  // One that pages of earlier versions do not have.
  template <typename T>
  void get_if_there(object& from, std::string_view key, T& out) {
    value found;
    if (find(from, key, found) && !read(found, out)) fail(key);
  }
  // Broken JSON fails: of such an object simdjson must not be asked anything more.
  bool find(object& from, std::string_view key, value& out) {
    if (!ok()) return false;
    const auto error = from.find_field_unordered(key).get(out);
    if (error != simdjson::SUCCESS && error != simdjson::NO_SUCH_FIELD) fail(key);
    return error == simdjson::SUCCESS;
  }
  // A duration or a moment, in nanoseconds.
  template <typename T>
  void get_ns(object& from, std::string_view key, T& out) {
    int64_t count = 0;
    get(from, key, count);
    out = T(nanoseconds(count));
  }
  template <typename Each>
  void each(object& from, std::string_view key, const Each& each) {
    simdjson::ondemand::array array;
    if (!ok()) return;
    if (from.find_field_unordered(key).get_array().get(array) != simdjson::SUCCESS) return fail(key);
    for (auto item : array) {
      value found;
      if (!ok()) return;
      if (item.get(found) != simdjson::SUCCESS) return fail(key);
      each(found);
    }
  }

 private:
  static bool read(value& from, bool& out) { return from.get_bool().get(out) == simdjson::SUCCESS; }
  static bool read(value& from, double& out) { return from.get_double().get(out) == simdjson::SUCCESS; }
  static bool read(value& from, std::string& out) {
    std::string_view text;
    if (from.get_string().get(text) != simdjson::SUCCESS) return false;
    out = text;
    return true;
  }
  template <typename Integer>
  requires std::is_integral_v<Integer>
  static bool read(value& from, Integer& out) {
    if constexpr (std::is_signed_v<Integer>) {
      int64_t number = 0;
      if (from.get_int64().get(number) != simdjson::SUCCESS) return false;
      out = static_cast<Integer>(number);
      return out == number;
    } else {
      uint64_t number = 0;
      if (from.get_uint64().get(number) != simdjson::SUCCESS) return false;
      out = static_cast<Integer>(number);
      return out == number;
    }
  }

  std::string wrong_;
};

void read_texts(Reader& reader, object& from, std::string_view key, std::vector<std::string>& out) {
  reader.each(from, key, [&](value& item) {
    std::string_view text;
    if (item.get_string().get(text) != simdjson::SUCCESS) return reader.fail(key);
    out.emplace_back(text);
  });
}

void read_metrics(Reader& reader, object& from, endpoints::EngineMetrics& out) {
  value found;
  if (!reader.ok()) return;
  if (from.find_field_unordered("metrics").get(found) != simdjson::SUCCESS) return reader.fail("metrics");
  bool unknown = false;
  if (found.is_null().get(unknown) == simdjson::SUCCESS && unknown) return;
  object metrics;
  if (found.get_object().get(metrics) != simdjson::SUCCESS) return reader.fail("metrics");
  out.known = true;
  reader.get_ns(metrics, "scraped_at_ns", out.scraped_at);
  reader.get(metrics, "waiting", out.waiting);
  reader.get(metrics, "running", out.running);
  reader.get(metrics, "kv_usage", out.kv_usage);
  reader.get(metrics, "block_size", out.block_size);
  reader.get(metrics, "kv_blocks", out.kv_blocks);
  reader.get(metrics, "requests_at_scrape", out.requests_at_scrape);
  reader.get_if_there(metrics, "not_counted_at_scrape", out.not_counted_at_scrape);
  reader.get(metrics, "max_loras", out.max_loras);
  read_texts(reader, metrics, "running_loras", out.running_loras);
  read_texts(reader, metrics, "waiting_loras", out.waiting_loras);
}

void read_endpoint(Reader& reader, object& from, routing::EndpointInputs& out) {
  std::string readiness;
  reader.get(from, "name", out.name);
  reader.get(from, "slot", out.slot);
  reader.get(from, "incarnation", out.incarnation);
  reader.get(from, "readiness", readiness);
  out.readiness = readiness == "ready"      ? endpoints::Readiness::ready
                  : readiness == "draining" ? endpoints::Readiness::draining
                                            : endpoints::Readiness::not_ready;
  reader.get(from, "last_resort", out.last_resort);
  reader.get(from, "serves", out.serves);
  reader.get(from, "tried", out.tried);
  reader.get(from, "probe_failed", out.probe_failed);
  reader.get(from, "matched_blocks", out.matched_blocks);
  read_metrics(reader, from, out.metrics);
  routing::each_number([&](std::string_view name, auto member) { reader.get(from, name, out.*member); });
  routing::each_rare_number([&](std::string_view name, auto member) { reader.get_if_there(from, name, out.*member); });
}

void read_inputs(Reader& reader, object& from, routing::DecisionInputs& out) {
  out.whole = true;
  reader.get_ns(from, "now_ns", out.now);
  reader.get_ns(from, "metrics_stale_after_ns", out.metrics_stale_after);
  reader.get_ns(from, "slow_start_ns", out.slow_start);
  size_t words = 0;
  reader.each(from, "random", [&](value& word) {
    if (words == out.random.size() || word.get_uint64().get(out.random[words++]) != simdjson::SUCCESS) {
      reader.fail("random");
    }
  });
  if (words != out.random.size()) reader.fail("random");
  reader.get(from, "model", out.model);
  reader.get(from, "session", out.session);
  reader.get(from, "fairness_id", out.fairness_id);
  reader.get(from, "priority", out.priority);
  reader.get(from, "streaming", out.streaming);
  reader.get(from, "prompt_tokens", out.prompt_tokens);
  reader.get(from, "max_tokens", out.max_tokens);
  reader.get(from, "slo_ttft_ms", out.slo_ttft_ms);
  reader.get(from, "slo_tpot_ms", out.slo_tpot_ms);
  reader.get(from, "blocks", out.blocks);
  if (out.blocks > blocks_max) reader.fail("blocks");  // deciding again makes so many
  reader.get(from, "block_tokens", out.block_tokens);
  reader.get_if_there(from, "prefix_uses", out.prefix_uses);
  reader.each(from, "endpoints", [&](value& item) {
    object endpoint;
    if (item.get_object().get(endpoint) != simdjson::SUCCESS) return reader.fail("endpoints");
    read_endpoint(reader, endpoint, out.endpoints.emplace_back());
  });
}

// The member, when it is there and is no null.
bool present(Reader& reader, object& from, std::string_view key, value& out) {
  bool null = false;
  return reader.find(from, key, out) && out.is_null().get(null) == simdjson::SUCCESS && !null;
}

void read_decision(Reader& reader, object& from, RecordedDecision& out) {
  value found;
  object inner;
  if (present(reader, from, "endpoint", found)) reader.get(from, "endpoint", out.endpoint);
  if (present(reader, from, "why", found) && found.get_object().get(inner) == simdjson::SUCCESS) {
    reader.get(inner, "profile", out.profile);
    std::string_view text;
    if (inner.reset().error() != simdjson::SUCCESS || inner.raw_json().get(text) != simdjson::SUCCESS) {
      return reader.fail("why");
    }
    out.why = text;
  }
  if (!present(reader, from, "inputs", found)) return;
  if (found.get_object().get(inner) != simdjson::SUCCESS) return reader.fail("inputs");
  read_inputs(reader, inner, out.inputs);
}

}  // namespace

Result<std::vector<RecordedDecision>> read_decisions(std::string_view page, std::string_view name) {
  simdjson::ondemand::parser parser;
  const simdjson::padded_string text(page);
  simdjson::ondemand::document document;
  object whole;
  std::vector<RecordedDecision> out;
  if (parser.iterate(text).get(document) != simdjson::SUCCESS ||
      document.get_object().get(whole) != simdjson::SUCCESS) {
    return Message{std::string(name) + ": not a JSON object, such as the page /debug/decisions"};
  }
  Reader reader;
  reader.each(whole, "decisions", [&](value& item) {
    object decision;
    if (item.get_object().get(decision) != simdjson::SUCCESS) return reader.fail("decisions");
    read_decision(reader, decision, out.emplace_back());
  });
  if (!reader.ok()) {
    return Message{std::string(name) + ": decision " + std::to_string(out.size()) + ": " + reader.wrong()};
  }
  return out;
}

Verdict decide_again(const RecordedDecision& decision, std::string_view profile, std::string* now_chosen) {
  if (!decision.inputs.whole) return Verdict::not_recorded;
  const std::string_view policy = profile.empty() ? std::string_view(decision.profile) : profile;
  if (!known_contestant(policy)) return Verdict::unknown_policy;
  return decide_again(decision, *make_contestant(policy).profile, now_chosen);
}

Verdict decide_again(const RecordedDecision& decision, const routing::Profile& profile, std::string* now_chosen) {
  if (!decision.inputs.whole) return Verdict::not_recorded;
  routing::DecidedAgain now = routing::decide_again(profile, decision.inputs);
  *now_chosen = now.endpoint;
  now.again.keep_best();
  std::string why;
  now.again.append_json(why);
  return now.endpoint == decision.endpoint && why == decision.why ? Verdict::same : Verdict::differs;
}

}  // namespace penstock::replay
