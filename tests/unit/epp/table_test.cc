// The rows of all plugins, and the page that is made from them.
#include <doctest/doctest.h>

#include <algorithm>

#include "penstock/base/quantity.h"
#include "penstock/epp/scheduling.h"
#include "tests/support/files.h"

using namespace penstock;
using namespace penstock::epp;
using namespace penstock::test;

namespace {

bool is_number(const ParameterInfo& parameter) {
  return parameter.type == ParameterType::integer || parameter.type == ParameterType::number ||
         parameter.type == ParameterType::duration;
}

}  // namespace

TEST_CASE("docs/EPP_PLUGINS.md is what the rows say") {
  check_golden("docs/EPP_PLUGINS.md", plugins_markdown());
}

TEST_CASE("each row says what its plugin does, each parameter what it is or why it has no effect") {
  for (const PluginInfo& info : plugin_types()) {
    CAPTURE(info.type);
    CHECK(info.doc.empty() == (info.kind == PluginKind::unsupported));
    if (info.kind == PluginKind::unsupported || info.kind == PluginKind::built_in) CHECK_FALSE(info.note.empty());
    for (const ParameterInfo& parameter : info.parameters) {
      CAPTURE(parameter.name);
      CHECK(parameter.doc.empty() == !parameter.note.empty());
      if (parameter.required) CHECK(parameter.fallback.empty());
    }
  }
}

TEST_CASE("each default is a value that its own parameter accepts") {
  for (const PluginInfo& info : plugin_types()) {
    const PluginSpec said{.name = "nothing", .info = &info};
    for (const ParameterInfo& parameter : info.parameters) {
      if (parameter.fallback.empty()) continue;
      CAPTURE(info.type);
      CAPTURE(parameter.name);
      if (is_number(parameter)) {
        CHECK(said.number(parameter.name) >= parameter.least);
        CHECK(said.number(parameter.name) <= parameter.most);
      } else if (parameter.type == ParameterType::choice) {
        CHECK(std::ranges::find(parameter.words, said.text(parameter.name)) != parameter.words.end());
      } else if (parameter.type == ParameterType::boolean) {
        CHECK((parameter.fallback == "true" || parameter.fallback == "false") == true);
        CHECK(said.flag(parameter.name) == (parameter.fallback == "true"));
      } else {
        CHECK(parameter.type == ParameterType::text);
        CHECK(said.text(parameter.name) == parameter.fallback);
      }
    }
  }
}

TEST_CASE("a default that is a duration is read as one") {
  const PluginSpec said{.name = "nothing", .info = find_plugin_type("utilization-detector")};
  CHECK(said.number("metricsStalenessThreshold") == doctest::Approx(0.2));
}

TEST_CASE("defaults of flow control are those of the layer that carries them out") {
  const admission::DetectorOptions defaults;
  for (const PluginInfo& info : plugin_types()) {
    if (info.make.detector == nullptr) continue;
    CAPTURE(info.type);
    PluginSpec said{.name = "all", .info = &info};
    for (const ParameterInfo& parameter : info.parameters) {
      if (is_number(parameter)) said.parameters.emplace_back(parameter.name, said.number(parameter.name));
    }
    admission::DetectorOptions out;
    info.make.detector(said, &out);
    CHECK(out.hold == defaults.hold);
    CHECK(out.kv_limit == defaults.kv_limit);
    CHECK(out.queue_depth == defaults.queue_depth);
    CHECK(out.kv_usage_max == defaults.kv_usage_max);
    CHECK(out.concurrency == defaults.concurrency);
    CHECK(out.tokens == defaults.tokens);
  }
}
