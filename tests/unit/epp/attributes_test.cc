// The scorer and the filter by a gauge that the configuration names.
#include <doctest/doctest.h>

#include <cmath>

#include "penstock/epp/scheduling.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;

namespace {

using Parameters = std::vector<std::pair<std::string, ParameterValue>>;
using Scores = std::vector<double>;

const std::vector<CustomMetric> metrics = {{"other", "o", {}}, {"depth", "d", {}}};

struct Attributes {
  PoolBuilder builder;
  Random random{1};

  // Each endpoint's depth; NaN: not known.
  explicit Attributes(std::vector<double> depths) : builder(depths.size()) {
    for (size_t i = 0; i < depths.size(); ++i) builder.view(i).metrics.custom = {1000.0, depths[i]};
  }
  static PluginSpec plugin(std::string_view type, Parameters parameters) {
    return {.name = std::string(type), .info = find_plugin_type(type), .parameters = std::move(parameters)};
  }
  std::vector<Candidate> candidates() const {
    std::vector<Candidate> out;
    for (const auto& view : builder.pool.endpoints) out.push_back({&view});
    return out;
  }
  Scores score(Parameters parameters, Instant now = at_ms(0)) {
    parameters.emplace_back("attributeKey", std::string("depth"));
    const auto scorer =
        make_scorer(plugin("endpoint-attribute-scorer", std::move(parameters)), {.custom_metrics = metrics});
    const auto all = candidates();
    Scores scores(all.size(), -7);
    scorer->score({{}, now, random}, all, scores);
    return scores;
  }
  // The names of those that are left, in their order.
  std::string filter(Parameters parameters) {
    parameters.emplace_back("attribute", std::string("depth"));
    const auto filter =
        make_filter(plugin("endpoint-attribute-filter", std::move(parameters)), {.custom_metrics = metrics});
    auto left = candidates();
    filter->filter({{}, at_ms(0), random}, left);
    std::string names;
    for (const Candidate& candidate : left) names += candidate.endpoint->state->name;
    return names;
  }
};

Parameters algorithm(const char* type, Parameters more = {}) {
  more.emplace_back("algorithm.type", std::string(type));
  return more;
}

}  // namespace

TEST_CASE("endpoint-attribute-scorer: between the least and the most of the candidates, or of a range") {
  Attributes attributes({10, 20, NAN, 30});
  CHECK(attributes.score(algorithm("linear_lower_is_better")) == Scores{1, 0.5, 0, 0});
  CHECK(attributes.score(algorithm("linear_higher_is_better")) == Scores{0, 0.5, 0, 1});
  const Parameters range = {{"algorithm.normalization.fixedRange.min", 0.0},
                            {"algorithm.normalization.fixedRange.max", 20.0}};
  CHECK(attributes.score(algorithm("linear_higher_is_better", range)) == Scores{0.5, 1, 0, 1});
  CHECK(attributes.score(algorithm("linear_lower_is_better", range)) == Scores{0.5, 0, 0, 0});
  CHECK(Attributes({5, 5, NAN}).score(algorithm("linear_lower_is_better")) == Scores{1, 1, 0});
  CHECK(Attributes({NAN, NAN}).score(algorithm("linear_lower_is_better")) == Scores{0, 0});
  CHECK(attributes.score(algorithm("linear_lower_is_better"), at_ms(3000)) == Scores{0, 0, 0, 0});  // stale
  attributes.builder.view(0).metrics.custom.clear();  // never scraped for it
  CHECK(attributes.score(algorithm("linear_lower_is_better")) == Scores{0, 1, 0, 0});
}

TEST_CASE("endpoint-attribute-filter: a threshold, or a range") {
  Attributes attributes({10, 20, NAN, 30});
  const auto threshold = [&](const char* op, Parameters more = {}) {
    more.emplace_back("algorithm.threshold.operator", std::string(op));
    more.emplace_back("algorithm.threshold.value", 20.0);
    return attributes.filter(algorithm("threshold", std::move(more)));
  };
  CHECK(threshold("LessThan") == "ac");
  CHECK(threshold("LessThanOrEqual") == "abc");
  CHECK(threshold("GreaterThan") == "cd");
  CHECK(threshold("GreaterThanOrEqual") == "bcd");
  CHECK(threshold("Equal") == "bc");
  CHECK(threshold("NotEqual") == "acd");
  CHECK(threshold("NotEqual", {{"onMissing", std::string("Fail")}}) == "ad");
  const auto range = [&](double least, double most, bool all_if_none) {
    return attributes.filter(algorithm("range", {{"algorithm.range.min", least},
                                                 {"algorithm.range.max", most},
                                                 {"onMissing", std::string("Fail")},
                                                 {"fallbackOnEmpty", all_if_none}}));
  };
  CHECK(range(20, 30, false) == "bd");
  CHECK(range(31, 40, false).empty());
  CHECK(range(31, 40, true) == "abcd");
}

TEST_CASE("endpoint-attribute-filter: the best few, or those beyond a percentile") {
  Attributes attributes({10, 40, NAN, 30, 30});
  const auto top = [&](double count, bool higher, const char* missing) {
    return attributes.filter(algorithm(
        "topK",
        {{"algorithm.topK.k", count}, {"algorithm.topK.higherIsBetter", higher}, {"onMissing", std::string(missing)}}));
  };
  CHECK(top(1, true, "Fail") == "b");
  CHECK(top(2, true, "Fail") == "bd");
  CHECK(top(3, true, "Pass") == "bcde");
  CHECK(top(2, false, "Fail") == "ad");
  CHECK(top(9, false, "Fail") == "abde");
  const auto percentile = [&](double percent, bool higher) {
    return attributes.filter(algorithm("percentile", {{"algorithm.percentile.percentile", percent},
                                                      {"algorithm.percentile.higherIsBetter", higher},
                                                      {"onMissing", std::string("Fail")}}));
  };
  CHECK(percentile(25, false) == "a");
  CHECK(percentile(26, false) == "ade");
  CHECK(percentile(75, true) == "bde");
  CHECK(percentile(100, true) == "b");
  CHECK(percentile(0, true) == "abde");
  CHECK(Attributes({NAN, NAN}).filter(algorithm("percentile", {{"algorithm.percentile.percentile", 50.0}})) == "ab");
}
