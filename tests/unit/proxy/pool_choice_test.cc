#include "src/proxy/pool_choice.h"

#include <doctest/doctest.h>

#include <array>
#include <set>
#include <string>

#include "src/proxy/model_list.h"

using namespace penstock;
using namespace penstock::proxy;

namespace {

endpoints::Pool pool_of(std::vector<std::vector<std::string>> models) {
  endpoints::Pool pool;
  for (std::vector<std::string>& list : models) pool.endpoints.push_back({.models = std::move(list)});
  return pool;
}

}  // namespace

TEST_CASE("a model is unknown only when every endpoint has told what it serves") {
  CHECK(surely_unknown(pool_of({{"a"}, {"b", "c"}}), "d"));
  CHECK_FALSE(surely_unknown(pool_of({{"a"}, {"b", "c"}}), "c"));
  CHECK_FALSE(surely_unknown(pool_of({{"a"}, {}}), "d"));
  CHECK_FALSE(surely_unknown(pool_of({}), "d"));
  CHECK(may_serve(pool_of({{"a"}, {}}), "d"));
  CHECK_FALSE(may_serve(pool_of({}), "d"));
}

TEST_CASE("without routes the first pool is all that can be reached") {
  endpoints::Snapshot snapshot;
  CHECK(reachable_pools(snapshot, nullptr).empty());
  CHECK(pool_at(snapshot, 0) == nullptr);
  snapshot.pools = {pool_of({{"a", "b"}, {"b"}}), pool_of({{"c"}})};
  const auto pools = reachable_pools(snapshot, nullptr);
  REQUIRE(pools.size() == 1);
  CHECK(model_names(pools) == std::vector<std::string_view>{"a", "b"});
  snapshot.route_pools = {1, 7};
  CHECK(pool_at(snapshot, 0) == &snapshot.pools[1]);
  CHECK(pool_at(snapshot, 1) == nullptr);
  CHECK(pool_at(snapshot, 2) == nullptr);
  CHECK(pool_at(snapshot, -1) == nullptr);
}

TEST_CASE("a model is listed as its endpoints say, an alias as itself") {
  endpoints::Pool pool = pool_of({{"a", "b"}, {"b"}, {"a"}});
  pool.endpoints[0].served = std::make_shared<const std::vector<endpoints::ServedModel>>(
      std::vector<endpoints::ServedModel>{{70, 4096, "vllm", "/weights/a", ""}, {70, 0, "", "b", "a"}});
  pool.endpoints[1].served = std::make_shared<const std::vector<endpoints::ServedModel>>(
      std::vector<endpoints::ServedModel>{{60, 2048, "other", "", ""}});
  const std::vector<const endpoints::Pool*> pools = {&pool};
  CHECK(model_info(pools, "a") == openai::ModelInfo{"a", 70, "vllm", "/weights/a", "", 4096});
  CHECK(model_info(pools, "b") == openai::ModelInfo{"b", 60, "other", "b", "a", 2048});
  CHECK(model_info(pools, "c") == openai::ModelInfo{.id = "c", .owned_by = "penstock"});
}

TEST_CASE("requests for models are recognised") {
  CHECK(models_asked_for("GET", "/v1/models") == "");
  CHECK(models_asked_for("GET", "/v1/models/") == "");
  CHECK(models_asked_for("HEAD", "/v1/models/one") == "one");
  CHECK(models_asked_for("GET", "/v1/models/org/name") == "org/name");
  CHECK(models_asked_for("GET", "/v1/models/org%2Fname%2") == "org/name%2");
  CHECK_FALSE(models_asked_for("GET", "/v1/modelsx"));
  CHECK_FALSE(models_asked_for("POST", "/v1/models"));
  CHECK_FALSE(models_asked_for("GET", "/v1/completions"));
}

TEST_CASE("a session's numbers are its own, and spread evenly") {
  CHECK(session_number("s", 1) == session_number("s", 1));
  CHECK(session_number("s", 1) != session_number("s", 2));
  std::array<int, 10> counts{};
  std::set<uint64_t> seen;
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t number = session_number("session-" + std::to_string(i), 1);
    seen.insert(number);
    ++counts[number % 10];
  }
  CHECK(seen.size() == 10'000);
  for (const int count : counts) CHECK(std::abs(count - 1000) < 150);
}
