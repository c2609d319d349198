// InferencePool (v1 and its legacy shape), InferenceModelRewrite, InferenceObjective.
#include <algorithm>

#include "json.h"

namespace penstock::objects::json {
namespace {

// ---- pools ----

constexpr Field<InferencePool> pool_selector_fields[] = {
    {"matchLabels", [](Reader& r, Value v, InferencePool& p) { r.labels(v, p.spec.selector); }},
};

struct Port {
  int32_t number = 0;
};
constexpr Field<Port> port_fields[] = {
    {"number", [](Reader& r, Value v, Port& p) { r.port(v, p.number); }},
};
void read_ports(Reader& reader, Value value, std::vector<int32_t>& out) {
  std::vector<Port> ports;
  read_list(reader, value, ports, port_fields, [&](Port& port) {
    if (port.number == 0) reader.missing("number", "a whole number from 1 to 65535");
  });
  out.clear();
  for (const Port& port : ports) {
    if (port.number == 0) continue;
    if (std::find(out.begin(), out.end(), port.number) != out.end()) {
      reader.problem("lists the port " + std::to_string(port.number) + " twice");
    }
    out.push_back(port.number);
  }
  if (out.size() > 8) reader.problem("has " + std::to_string(out.size()) + " ports; expected 1 to 8");
}

constexpr Field<InferencePool> pool_spec_fields[] = {
    {"selector", [](Reader& r, Value v, InferencePool& p) { read_object(r, v, p, pool_selector_fields); }},
    {"targetPorts", [](Reader& r, Value v, InferencePool& p) { read_ports(r, v, p.spec.ports); }},
    {"appProtocol",
     [](Reader& r, Value v, InferencePool& p) {
       size_t index = 0;
       r.word(v, {"http", "kubernetes.io/h2c"}, index);
       p.spec.app_protocol = index == 0 ? "http" : "kubernetes.io/h2c";
     }},
    {"endpointPickerRef", nullptr},  // the gateway picks by itself
};
constexpr Field<InferencePool> pool_fields[] = {
    {"spec", [](Reader& r, Value v, InferencePool& p) { read_object(r, v, p, pool_spec_fields); }},
    {"status", [](Reader& r, Value v, InferencePool& p) { read_status(r, v, p.status); }},
};

constexpr Field<InferencePool> legacy_pool_spec_fields[] = {
    {"selector", [](Reader& r, Value v, InferencePool& p) { r.labels(v, p.spec.selector); }},
    {"targetPortNumber", [](Reader& r, Value v, InferencePool& p) { r.port(v, p.spec.ports.emplace_back()); }},
    {"extensionRef", nullptr},
    {"endpointPickerConfig", nullptr},
};
constexpr Field<InferencePool> legacy_pool_fields[] = {
    {"spec", [](Reader& r, Value v, InferencePool& p) { read_object(r, v, p, legacy_pool_spec_fields); }},
    {"status", nullptr},  // of another shape, and not written
};

void check_pool(Reader& reader, InferencePool& pool) {
  if (pool.spec.selector.empty() && find_label(pool.meta.annotations, annotation::pool_service) == nullptr) {
    reader.missing("spec.selector", "labels that a pod must have");
  }
  if (pool.spec.ports.empty()) reader.missing("spec.targetPorts", "1 to 8 ports");
}

// ---- pool references ----

constexpr Field<PoolRef> pool_ref_fields[] = {
    {"group", [](Reader& r, Value v, PoolRef& p) { r.text(v, p.group); }},
    {"kind", [](Reader& r, Value v, PoolRef& p) { r.text(v, p.kind); }},
    {"name", [](Reader& r, Value v, PoolRef& p) { r.text(v, p.name); }},
};
void check_pool_ref(Reader& reader, const PoolRef& pool) {
  if (pool.name.empty()) reader.missing("spec.poolRef.name", "the name of an InferencePool");
}

// ---- rewrites ----

struct Match {
  bool has_model = false;
  std::string value;
};
constexpr Field<Match> model_fields[] = {
    {"type",
     [](Reader& r, Value v, Match&) {
       size_t index = 0;
       r.word(v, {"Exact"}, index);
     }},
    {"value", [](Reader& r, Value v, Match& m) { r.text(v, m.value); }},
};
constexpr Field<Match> match_fields[] = {
    {"model",
     [](Reader& r, Value v, Match& m) {
       m.has_model = true;
       read_object(r, v, m, model_fields);
       if (m.value.empty()) r.missing("value", "a model name");
     }},
};
constexpr Field<RewriteTarget> target_fields[] = {
    {"modelRewrite", [](Reader& r, Value v, RewriteTarget& t) { r.text(v, t.model); }},
    {"weight", [](Reader& r, Value v, RewriteTarget& t) { r.integer(v, 0, 1'000'000, t.weight); }},
};

struct RuleParts {
  std::vector<Match> matches;
  std::vector<RewriteTarget> targets;
};
constexpr Field<RuleParts> rule_fields[] = {
    {"matches", [](Reader& r, Value v, RuleParts& p) { read_list(r, v, p.matches, match_fields, [](Match&) {}); }},
    {"targets",
     [](Reader& r, Value v, RuleParts& p) {
       read_list(r, v, p.targets, target_fields, [&](RewriteTarget& target) {
         if (target.model.empty()) r.missing("modelRewrite", "a model name");
       });
     }},
};
void read_rules(Reader& reader, Value value, std::vector<RewriteRule>& out) {
  std::vector<RuleParts> rules;
  read_list(reader, value, rules, rule_fields, [&](RuleParts& rule) {
    const auto weighted = [](const RewriteTarget& target) { return target.weight >= 0; };
    const auto count = std::count_if(rule.targets.begin(), rule.targets.end(), weighted);
    if (reader.strict() && count != 0 && count != static_cast<ptrdiff_t>(rule.targets.size())) {
      reader.problem("have weights in part; expected one for every target, or none", "targets");
    }
  });
  out.clear();
  for (RuleParts& parts : rules) {
    RewriteRule& rule = out.emplace_back();
    rule.generic = parts.matches.empty();
    for (Match& match : parts.matches) {
      if (match.has_model) rule.models.push_back(std::move(match.value));
    }
    rule.targets = std::move(parts.targets);
  }
}

constexpr Field<ModelRewrite> rewrite_spec_fields[] = {
    {"poolRef", [](Reader& r, Value v, ModelRewrite& m) { read_object(r, v, m.spec.pool, pool_ref_fields); }},
    {"rules", [](Reader& r, Value v, ModelRewrite& m) { read_rules(r, v, m.spec.rules); }},
};
constexpr Field<ModelRewrite> rewrite_fields[] = {
    {"spec", [](Reader& r, Value v, ModelRewrite& m) { read_object(r, v, m, rewrite_spec_fields); }},
    {"status", [](Reader& r, Value v, ModelRewrite& m) { read_status(r, v, m.status); }},
};
void check_rewrite(Reader& reader, ModelRewrite& rewrite) {
  check_pool_ref(reader, rewrite.spec.pool);
  if (rewrite.spec.rules.empty()) reader.missing("spec.rules", "a list of rules");
}

// ---- objectives ----

constexpr Field<Objective> objective_spec_fields[] = {
    {"poolRef", [](Reader& r, Value v, Objective& o) { read_object(r, v, o.spec.pool, pool_ref_fields); }},
    {"priority", [](Reader& r, Value v, Objective& o) { r.integer(v, INT32_MIN, INT32_MAX, o.spec.priority); }},
};
constexpr Field<Objective> objective_fields[] = {
    {"spec", [](Reader& r, Value v, Objective& o) { read_object(r, v, o, objective_spec_fields); }},
    {"status", [](Reader& r, Value v, Objective& o) { read_status(r, v, o.status); }},
};
void check_objective(Reader& reader, Objective& objective) {
  check_pool_ref(reader, objective.spec.pool);
}

template <typename T, size_t count>
std::unique_ptr<Body> table(const Field<T> (&fields)[count], void (*check)(Reader&, T&)) {
  return std::make_unique<TableBody<T, count>>(fields, Keys::closed, check);
}

}  // namespace

std::unique_ptr<Body> inference_body(Kind kind) {
  switch (kind) {
    case Kind::inference_pool:
      return table(pool_fields, check_pool);
    case Kind::inference_pool_legacy:
      return table(legacy_pool_fields, check_pool);
    case Kind::model_rewrite:
    case Kind::model_rewrite_legacy:
      return table(rewrite_fields, check_rewrite);
    default:
      return table(objective_fields, check_objective);
  }
}

}  // namespace penstock::objects::json
