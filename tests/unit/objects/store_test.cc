#include "penstock/objects/store.h"

#include "tests/unit/objects/build.h"

namespace penstock::objects {
namespace {

using Change = Store::Change;

TEST_CASE("applying says whether anything that matters changed") {
  Store store;
  CHECK(store.apply(Kind::pod, pod("a", "u", "10.0.0.1")) == Change::content);
  CHECK(store.apply(Kind::pod, pod("a", "u", "10.0.0.1", true, false, "vllm", "2")) == Change::none);
  CHECK(store.get<Pod>(Kind::pod, "default", "a")->meta.resource_version.text == "2");
  CHECK(store.apply(Kind::pod, pod("a", "u", "10.0.0.1", false)) == Change::content);
  CHECK(store.apply(Kind::pod, pod("a", "other", "10.0.0.1", false)) == Change::content);
  CHECK(store.revision() == 3);
}

TEST_CASE("a status of another version may have been something else in between") {
  Store store;
  const auto objective = [](int version) {
    return object_of(Kind::objective, R"({"metadata":{"name":"a","namespace":"default","resourceVersion":")" +
                                          std::to_string(version) + R"("},"spec":{"poolRef":{"name":"p"}}})");
  };
  store.apply(Kind::objective, objective(1));
  CHECK(store.apply(Kind::objective, objective(1)) == Change::none);
  CHECK(store.apply(Kind::objective, objective(2)) == Change::status);
}

TEST_CASE("a status of a resource is a change of its own") {
  Store store;
  const std::string head = R"({"metadata":{"name":"a","namespace":"default"},"spec":{"poolRef":{"name":"p"}})";
  store.apply(Kind::objective, object_of(Kind::objective, head + "}"));
  CHECK(store.apply(Kind::objective,
                    object_of(Kind::objective, head + R"(,"status":{"conditions":[{"type":"Accepted"}]}})")) ==
        Change::status);
  const auto changes = store.take_changes();
  REQUIRE(changes.list.size() == 2);
  CHECK(changes.list[1].change == Change::status);
  CHECK(store.take_changes().list.empty());
}

TEST_CASE("a late deletion of an earlier object with the name does nothing") {
  Store store;
  store.apply(Kind::pod, pod("a", "new", "10.0.0.1"));
  CHECK(store.erase(Kind::pod, "default", "a", "old") == Change::none);
  CHECK(store.size(Kind::pod) == 1);
  CHECK(store.erase(Kind::pod, "default", "a", "new") == Change::content);
  CHECK(store.erase(Kind::pod, "default", "a", "new") == Change::none);
  CHECK(store.size(Kind::pod) == 0);
}

TEST_CASE("a complete list removes what it does not have") {
  Store store;
  store.apply(Kind::pod, pod("a", "ua", "10.0.0.1"));
  store.apply(Kind::pod, pod("b", "ub", "10.0.0.2"));
  store.take_changes();
  CHECK(store.replace(Kind::pod, {pod("b", "ub", "10.0.0.2"), pod("c", "uc", "10.0.0.3")}) == Change::content);
  CHECK(store.get<Pod>(Kind::pod, "default", "a") == nullptr);
  CHECK(store.take_changes().list.size() == 2);  // b is as it was
  CHECK(store.replace(Kind::pod, {pod("b", "ub", "10.0.0.2"), pod("c", "uc", "10.0.0.3")}) == Change::none);
}

TEST_CASE("an object is there as long as one scope has it") {
  Store store;
  store.apply(Kind::pod, pod("a", "u", "10.0.0.1"), 0);
  store.apply(Kind::pod, pod("a", "u", "10.0.0.1"), 1);
  store.replace(Kind::pod, {}, 0);
  CHECK(store.size(Kind::pod) == 1);
  CHECK(store.erase(Kind::pod, "default", "a", "u", 2) == Change::none);
  store.erase(Kind::pod, "default", "a", "u", 1);
  CHECK(store.size(Kind::pod) == 0);
}

TEST_CASE("a scope that lags behind does not take an object back") {
  Store store;
  store.apply(Kind::pod, pod("a", "u", "10.0.0.1", false, true, "vllm", "100"), 0);
  CHECK(store.apply(Kind::pod, pod("a", "u", "10.0.0.1", true, false, "vllm", "99"), 1) == Change::none);
  CHECK(store.get<Pod>(Kind::pod, "default", "a")->meta.deleting);
  // Its own scope may go back: a restored database does.
  CHECK(store.apply(Kind::pod, pod("a", "u", "10.0.0.1", true, false, "vllm", "5"), 0) == Change::content);
}

TEST_CASE("too many changes are not listed") {
  Store store;
  for (int i = 0; i < 5000; ++i) store.apply(Kind::pod, pod(numbered("p", i), "u", "10.0.0.1"));
  const auto changes = store.take_changes();
  CHECK(changes.everything);
  CHECK(changes.list.empty());
}

TEST_CASE("legacy kinds yield to a newer group that is served or has objects") {
  Store store;
  CHECK(store.in_force(Kind::objective_legacy));
  CHECK(store.in_force(Kind::objective));
  store.set_served(Kind::objective, true);
  CHECK(!store.in_force(Kind::objective_legacy));
  store.set_served(Kind::objective, false);
  CHECK(store.in_force(Kind::objective_legacy));
  store.apply(Kind::objective,
              object_of(Kind::objective, R"({"metadata":{"name":"a"},"spec":{"poolRef":{"name":"p"}}})"));
  CHECK(!store.in_force(Kind::objective_legacy));
}

}  // namespace
}  // namespace penstock::objects
