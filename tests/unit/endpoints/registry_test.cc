#include <doctest/doctest.h>

#include "penstock/endpoints/snapshot.h"

using namespace penstock::endpoints;

namespace {

EndpointState& add(EndpointRegistry& registry, const std::string& name) {
  return registry.find_or_add(name, "http://" + name, "127.0.0.1:" + name, name);
}

Snapshot listing(uint64_t version, std::initializer_list<EndpointState*> states) {
  Snapshot snapshot;
  snapshot.version = version;
  Pool& pool = snapshot.pools.emplace_back();
  for (EndpointState* state : states) pool.endpoints.emplace_back().state = state;
  return snapshot;
}

}  // namespace

TEST_CASE("the same name and address is the same state, another address another") {
  EndpointRegistry registry;
  EndpointState& a = registry.find_or_add("a", "http://h:1", "127.0.0.1:1", "h:1");
  CHECK(&registry.find_or_add("a", "http://h:1", "127.0.0.1:1", "h:1") == &a);
  EndpointState& moved = registry.find_or_add("a", "http://h:2", "127.0.0.1:2", "h:2");
  CHECK(&moved != &a);
  CHECK(moved.slot != a.slot);
  CHECK(a.name == "a");
  CHECK(a.url == "http://h:1");
  CHECK(a.address == "127.0.0.1:1");
  CHECK(a.host_header == "h:1");
  CHECK(registry.living() == 2);
}

TEST_CASE("the slot of a freed endpoint is used again under a new incarnation") {
  EndpointRegistry registry;
  EndpointState& a = add(registry, "1");
  EndpointState& b = add(registry, "2");
  const auto slot = a.slot;
  const auto incarnation = a.incarnation;
  registry.collect(listing(5, {&b}), 5);
  CHECK(registry.living() == 1);
  CHECK(registry.lingering() == 0);
  EndpointState& c = add(registry, "3");
  CHECK(c.slot == slot);
  CHECK(c.incarnation > incarnation);
  CHECK(add(registry, "4").slot == 2);
}

TEST_CASE("an endpoint that is gone stays while an older snapshot is in use") {
  EndpointRegistry registry;
  add(registry, "1");
  registry.collect(listing(7, {}), 6);
  CHECK(registry.living() == 0);
  CHECK(registry.lingering() == 1);
  registry.collect(listing(8, {}), 6);
  CHECK(registry.lingering() == 1);
  registry.collect(listing(8, {}), 7);
  CHECK(registry.lingering() == 0);
}

TEST_CASE("an endpoint that is gone stays while an exchange or a connection refers to it") {
  EndpointRegistry registry;
  EndpointState& a = add(registry, "1");
  a.load.requests = 1;
  a.connections = 1;
  registry.collect(listing(1, {}), 1);
  CHECK(registry.lingering() == 1);
  a.load.requests = 0;
  registry.collect(listing(2, {}), 2);
  CHECK(registry.lingering() == 1);
  a.connections = 0;
  registry.collect(listing(3, {}), 3);
  CHECK(registry.lingering() == 0);
}

TEST_CASE("an endpoint that comes back while its old state lingers is a new one") {
  EndpointRegistry registry;
  EndpointState& old = add(registry, "1");
  old.load.requests = 1;
  registry.collect(listing(1, {}), 1);
  EndpointState& back = add(registry, "1");
  CHECK(&back != &old);
  CHECK(back.slot != old.slot);
  CHECK(back.incarnation != old.incarnation);
  CHECK(registry.living() == 1);
  CHECK(registry.lingering() == 1);

  old.load.requests = 0;
  registry.collect(listing(2, {&back}), 2);
  CHECK(registry.lingering() == 0);
  CHECK(&add(registry, "1") == &back);
}
