#include "penstock/proxy/path_policy.h"

#include <doctest/doctest.h>

using namespace penstock;
using namespace penstock::proxy;

namespace {

bool allowed(const PathOptions& options, std::string_view method, std::string_view target) {
  return allows(options, openai::path_info(method, target), target);
}

}  // namespace

TEST_CASE("the defaults and paths.allow add up") {
  CHECK(allowed({}, "POST", "/v1/completions"));
  CHECK_FALSE(allowed({}, "POST", "/shutdown"));
  CHECK_FALSE(allowed({}, "DELETE", "/v1/completions"));
  const PathOptions more{.allow = {"/lab/**", "/sleep"}};
  CHECK(allowed(more, "POST", "/v1/completions"));
  CHECK(allowed(more, "POST", "/sleep?level=1"));
  CHECK(allowed(more, "DELETE", "/lab/x/y/"));
  CHECK_FALSE(allowed(more, "POST", "/sleep/x"));
  const PathOptions only{.defaults = false, .allow = {"/v1/chat/*"}};
  CHECK(allowed(only, "POST", "/v1/chat/completions"));
  CHECK_FALSE(allowed(only, "POST", "/v1/completions"));
}

TEST_CASE("settings that open a path by which servers are controlled are noticed") {
  CHECK(opened_control_path({}) == "");
  CHECK(opened_control_path({.allow = {"/lab/**", "/v1/completions"}}) == "");
  CHECK(opened_control_path({.allow = {"/v1/**"}}) == "/v1/load_lora_adapter");
  for (const char* all : {"*", "**", "/**", "/*"}) CHECK(opened_control_path({.allow = {all}}) == "/shutdown");
}
