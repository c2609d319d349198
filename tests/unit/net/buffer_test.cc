#include "penstock/net/buffer.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "penstock/base/random.h"

namespace penstock::net {
namespace {

std::string front_of(const OutQueue& queue, size_t max_pieces) {
  std::vector<iovec> pieces(max_pieces);
  std::string bytes;
  const size_t count = queue.pieces(pieces.data(), max_pieces);
  for (size_t i = 0; i < count; ++i) bytes.append(static_cast<char*>(pieces[i].iov_base), pieces[i].iov_len);
  return bytes;
}

std::string pattern(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random.next());
  return bytes;
}

TEST_CASE("blocks are charged to the budget while in use, and kept up to a limit") {
  MemoryBudget budget(1024 * 1024);
  BlockPool pool(budget, /*keep_bytes=*/BlockPool::large_size);
  BlockPool::Block* small = pool.take(1);
  CHECK(budget.used() == BlockPool::small_size);
  BlockPool::Block* large = pool.take(BlockPool::small_size);
  CHECK(budget.used() == BlockPool::small_size + BlockPool::large_size);
  CHECK(small->capacity < BlockPool::small_size);
  CHECK(large->capacity > BlockPool::small_size);
  CHECK(large->capacity < BlockPool::large_size);
  BlockPool::Block* huge = pool.take(10 * BlockPool::large_size);
  CHECK(huge->capacity == large->capacity);
  large->begin = large->end = 77;
  pool.release(large);
  CHECK(budget.used() == BlockPool::small_size + BlockPool::large_size);
  BlockPool::Block* again = pool.take(BlockPool::large_size);
  CHECK(again == large);  // from the free list,
  CHECK(again->begin == 0);
  CHECK(again->end == 0);  // as new
  CHECK(again->next == nullptr);
  for (BlockPool::Block* block : {small, again, huge}) pool.release(block);
  CHECK(budget.used() == 0);
}

TEST_CASE("a pool whose budget is used up gives no block and takes nothing") {
  MemoryBudget budget(BlockPool::small_size * 2);
  BlockPool pool(budget);
  CHECK(pool.take(BlockPool::small_size) == nullptr);  // would have to be a large one
  BlockPool::Block* first = pool.take(10);
  BlockPool::Block* second = pool.take(10);
  CHECK(second != nullptr);
  CHECK(pool.take(10) == nullptr);
  CHECK(budget.used() == 2 * BlockPool::small_size);
  CHECK(budget.refusals() == 2);
  pool.release(first);
  pool.release(second);
  CHECK(budget.used() == 0);
}

TEST_CASE("an out queue fills its last block before it takes another") {
  MemoryBudget budget(1024 * 1024);
  BlockPool pool(budget);
  OutQueue queue(pool);
  CHECK(budget.used() == 0);
  for (int i = 0; i < 1000; ++i) REQUIRE(queue.append("abc"));
  CHECK(queue.size() == 3000);
  CHECK(budget.used() == BlockPool::small_size);
  REQUIRE(queue.append(std::string(2000, 'd')));  // the tail's rest, and one more
  CHECK(budget.used() == 2 * BlockPool::small_size);
  iovec pieces[4];
  CHECK(queue.pieces(pieces, 4) == 2);
  queue.consume(queue.size());
  CHECK(budget.used() == 0);
  CHECK(queue.pieces(pieces, 4) == 0);
}

TEST_CASE("an out queue gives its bytes back in order, however they are added and taken") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    MemoryBudget budget(8 * 1024 * 1024);
    BlockPool pool(budget, random.below(200'000));
    OutQueue queue(pool);
    std::string model;
    for (int step = 0; step < 200; ++step) {
      if (random.chance(0.55)) {
        const std::string bytes = pattern(random, random.below(uint64_t{1} << random.below(18)));
        if (queue.append(bytes)) {
          model += bytes;
        } else {
          REQUIRE(budget.used() + bytes.size() > budget.limit() / 2);
        }
      } else {
        const size_t n = random.below(model.size() + 1);
        queue.consume(n);
        model.erase(0, n);
      }
      REQUIRE(queue.size() == model.size());
      REQUIRE(queue.empty() == model.empty());
      REQUIRE((budget.used() == 0) == model.empty());
      REQUIRE(front_of(queue, 1000) == model);
      const std::string front = front_of(queue, 2);
      REQUIRE(model.compare(0, front.size(), front) == 0);
    }
    queue.clear();
    REQUIRE(budget.used() == 0);
  }
}

TEST_CASE("an append that the budget refuses leaves the queue as it was") {
  MemoryBudget budget(BlockPool::large_size + BlockPool::small_size);
  BlockPool pool(budget);
  OutQueue queue(pool);
  REQUIRE(queue.append("head"));
  // Fits the first block in part and needs two large ones: the second is refused.
  CHECK_FALSE(queue.append(std::string(2 * BlockPool::large_size, 'x')));
  CHECK(queue.size() == 4);
  CHECK(front_of(queue, 10) == "head");
  CHECK(budget.used() == BlockPool::small_size);
  CHECK(queue.append("tail"));  // within the block it has
  CHECK(front_of(queue, 10) == "headtail");
}

TEST_CASE("a body grows with what has arrived, not with what was announced") {
  MemoryBudget budget(512 * 1024 * 1024);
  BodyBuffer body(budget);
  constexpr size_t announced = 64 * 1024 * 1024;
  REQUIRE(body.append("x", announced));
  CHECK(body.capacity() == 64 * 1024);
  const std::string chunk(16 * 1024, 'y');
  while (body.size() < 4 * 1024 * 1024) {
    REQUIRE(body.append(chunk, announced));
    REQUIRE(body.capacity() <= std::max<size_t>(64 * 1024, 8 * body.size()));
  }
  CHECK(budget.used() == body.capacity() + BodyBuffer::padding);
  body.reset();
  CHECK(budget.used() == 0);
  CHECK(body.capacity() == 0);
  CHECK(body.view().empty());
}

TEST_CASE("of a body the end can be kept alone") {
  MemoryBudget budget(1024 * 1024);
  BodyBuffer body(budget);
  REQUIRE(body.append("what was before, and the end", 0));
  body.keep_last(100);
  CHECK(body.view() == "what was before, and the end");
  body.keep_last(7);
  CHECK(body.view() == "the end");
  for (size_t k = 0; k < BodyBuffer::padding; ++k) REQUIRE(body.data()[body.size() + k] == '\0');
  REQUIRE(body.append(" goes on", 0));
  CHECK(body.view() == "the end goes on");
  CHECK(budget.used() == body.capacity() + BodyBuffer::padding);
}

TEST_CASE("a body of a known length ends in a buffer of just that length") {
  MemoryBudget budget(512 * 1024 * 1024);
  for (const size_t length : {size_t{1500}, size_t{64} * 1024, size_t{100'000}, size_t{1'000'003}}) {
    CAPTURE(length);
    BodyBuffer body(budget);
    const std::string chunk(1000, 'y');
    while (body.size() < length)
      REQUIRE(body.append(chunk.substr(0, std::min(chunk.size(), length - body.size())), length));
    CHECK(body.capacity() == length);
  }
  CHECK(budget.used() == 0);
}

TEST_CASE("a body holds what was appended, with readable zeros behind it, whatever was announced") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    MemoryBudget budget(512 * 1024 * 1024);
    BodyBuffer body(budget);
    std::string model;
    const size_t expected = random.chance(0.3) ? 0 : random.below(300'000);
    for (int i = 0; i < 30; ++i) {
      const std::string bytes = pattern(random, random.below(20'000));
      REQUIRE(body.append(bytes, expected));  // possibly more than was announced
      model += bytes;
      REQUIRE(body.view() == model);
      REQUIRE(body.size() <= body.capacity());
      if (model.empty()) continue;
      for (size_t k = 0; k < BodyBuffer::padding; ++k) REQUIRE(body.data()[body.size() + k] == '\0');
    }
  }
}

TEST_CASE("bodies that come in leave the last eighth of the budget to what goes on") {
  MemoryBudget budget(800 * 1024);
  BodyBuffer in(budget, BodyBuffer::Use::begins), out(budget);
  CHECK_FALSE(in.append(std::string(701 * 1024, 'a'), 0));
  REQUIRE(in.append(std::string(690 * 1024, 'a'), 0));
  CHECK(budget.used() <= budget.first_limit());
  CHECK_FALSE(in.append(std::string(20 * 1024, 'a'), 0));
  CHECK(out.append(std::string(80 * 1024, 'b'), 0));
}

TEST_CASE("a body that the budget refuses keeps what it has") {
  MemoryBudget budget(100 * 1024);
  BodyBuffer body(budget);
  REQUIRE(body.append(std::string(60 * 1024, 'a'), 0));
  const size_t used = budget.used();
  CHECK_FALSE(body.append(std::string(60 * 1024, 'b'), 0));
  CHECK(body.view() == std::string(60 * 1024, 'a'));
  CHECK(budget.used() == used);
  CHECK(body.append("", 0));
  body.reset();
  body.reset();
  CHECK(budget.used() == 0);
}

}  // namespace
}  // namespace penstock::net
