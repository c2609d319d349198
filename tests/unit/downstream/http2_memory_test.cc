#include "src/downstream/http2_memory.h"

#include <doctest/doctest.h>
#include <nghttp2/nghttp2.h>

#include <cstring>

namespace penstock::downstream {
namespace {

TEST_CASE("an idle session has no more memory than is charged for every one") {
  MemoryBudget budget(1024 * 1024);
  Http2Memory memory(budget);
  nghttp2_session_callbacks* callbacks = nullptr;
  REQUIRE(nghttp2_session_callbacks_new(&callbacks) == 0);
  nghttp2_session* const session = memory.make_session(callbacks, nullptr, nullptr);
  nghttp2_session_callbacks_del(callbacks);
  CHECK(memory.used() > 16 * 1024);
  CHECK(memory.used() < Http2Memory::least);
  CHECK(budget.used() == 0);  // until it is charged
  REQUIRE(memory.charge());
  CHECK(budget.used() == Http2Memory::least);
  nghttp2_session_del(session);
  CHECK(memory.used() == 0);
  CHECK(budget.used() == Http2Memory::least);
}

TEST_CASE("what goes beyond that is charged in steps, given back, and refused where there is no room") {
  MemoryBudget budget(200 * 1024);
  {
    Http2Memory memory(budget);
    REQUIRE(memory.charge());
    void* block = memory.allocate(20'000);
    CHECK(budget.used() == Http2Memory::least);
    block = memory.reallocate(block, 100'000);
    REQUIRE(block != nullptr);
    std::memset(block, 1, 100'000);
    CHECK(memory.used() >= 100'000);
    CHECK(budget.used() >= 100'000);
    CHECK(memory.allocate(150'000) == nullptr);
    CHECK(memory.starved());
    const size_t before = memory.used();
    CHECK(memory.reallocate(block, 250'000) == nullptr);  // it stays as it was
    CHECK(memory.used() == before);
    CHECK(static_cast<char*>(block)[99'999] == 1);
    block = memory.reallocate(block, 1'000);
    CHECK(memory.used() < 20'000);
    CHECK(budget.used() < 60'000);
    void* const zeros = memory.allocate_zeros(1000, 10);
    CHECK(static_cast<char*>(zeros)[9'999] == 0);
    memory.release(zeros);
    memory.release(block);
    memory.release(nullptr);
    CHECK(memory.used() == 0);
  }
  CHECK(budget.used() == 0);
}

TEST_CASE("without room for a session nothing is charged, and it can still say so") {
  MemoryBudget budget(10 * 1024);
  {
    Http2Memory memory(budget);
    CHECK_FALSE(memory.charge());
    void* const block = memory.allocate(1000);
    CHECK(block != nullptr);
    CHECK_FALSE(memory.starved());
    CHECK(memory.allocate(Http2Memory::least) == nullptr);
    memory.release(block);
  }
  CHECK(budget.used() == 0);
}

}  // namespace
}  // namespace penstock::downstream
