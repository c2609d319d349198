#include "penstock/base/containers.h"

#include <doctest/doctest.h>

#include <string>
#include <unordered_map>
#include <vector>

using namespace penstock;

TEST_CASE("free_memory() leaves nothing allocated") {
  std::string text(10'000, 'x');
  free_memory(text);
  CHECK(text.capacity() == std::string().capacity());
  std::vector<int> numbers(10'000);
  free_memory(numbers);
  CHECK(numbers.capacity() == 0);
  std::unordered_map<int, int> map;
  map.reserve(10'000);
  free_memory(map);
  CHECK(map.bucket_count() < 100);
}
