#include "ring_fixture.h"

namespace penstock::net::test {

TEST_CASE("the probe names the kernel and says why or what") {
  CHECK_FALSE(probe().kernel.empty());
  CHECK_FALSE(probe().detail.empty());
  MESSAGE("kernel " << probe().kernel << ", io_uring " << (probe().io_uring_usable ? "usable: " : "not usable: ")
                    << probe().detail);
}

TEST_CASE("probing leaves no descriptor behind") {
  const size_t before = open_descriptors();
  const RingProbe again = probe_rings();
  CHECK(again.io_uring_usable == probe().io_uring_usable);
  CHECK(open_descriptors() == before);
}

TEST_CASE("the automatic engine follows the probe") {
  RingProbe denied;
  denied.detail = "io_uring_setup: denied for this test";
  Result<std::unique_ptr<Ring>> ring = make_ring({}, denied);
  REQUIRE(ring.ok());
  CHECK(std::string((*ring)->name()) == "epoll");
  ring = make_ring({}, probe());
  REQUIRE(ring.ok());
  CHECK(std::string((*ring)->name()) == (probe().io_uring_usable ? "io_uring" : "epoll"));
}

TEST_CASE("an engine asked for by name is that engine or an error with the probe's reason") {
  RingProbe denied;
  denied.detail = "io_uring_setup: denied for this test";
  const Result<std::unique_ptr<Ring>> uring = make_ring({RingKind::io_uring, Duration(0)}, denied);
  REQUIRE_FALSE(uring.ok());
  CHECK(uring.error().text.find(denied.detail) != std::string::npos);
  RingProbe allowed = probe();
  const Result<std::unique_ptr<Ring>> epoll = make_ring({RingKind::epoll, Duration(0)}, allowed);
  REQUIRE(epoll.ok());
  CHECK(std::string((*epoll)->name()) == "epoll");
}

}  // namespace penstock::net::test
