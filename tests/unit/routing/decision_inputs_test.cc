#include "penstock/routing/decision_inputs.h"

#include <doctest/doctest.h>

#include <string>

#include "penstock/routing/session_token.h"

using namespace penstock::routing;

namespace {

// The members "session" and "fairness_id" as a debug page shows them.
std::string shown(const std::string& session, const std::string& fairness_id) {
  DecisionInputs inputs;
  inputs.whole = true;
  inputs.session = session;
  inputs.fairness_id = fairness_id;
  inputs.endpoints.emplace_back().name = "pod-a";
  std::string json;
  inputs.append_json(json);
  const size_t from = json.find("\"session\""), to = json.find(",\"priority\"");
  REQUIRE(from < to);
  return json.substr(from, to - from);
}

}  // namespace

TEST_CASE("who sent a request is shown as a hash: the same for the same one, and nothing for nobody") {
  const std::string alice = shown("alice@example.com", "team-a");
  CHECK(alice.find("alice") == std::string::npos);
  CHECK(alice.find("team") == std::string::npos);
  CHECK(alice == shown("alice@example.com", "team-a"));
  CHECK(alice != shown("bob@example.com", "team-a"));
  CHECK(alice.starts_with("\"session\":\"#"));
  CHECK(shown("", "") == "\"session\":\"\",\"fairness_id\":\"\"");
}

TEST_CASE("a session token of one of the endpoints stays, so that the decision can be made again") {
  std::string ours, other;
  append_session_token(ours, "pod-a");
  append_session_token(other, "pod-z");
  CHECK(shown(ours, "") == "\"session\":\"" + ours + "\",\"fairness_id\":\"\"");
  CHECK(shown(other, "").find(other) == std::string::npos);
}
