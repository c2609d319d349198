#include "penstock/base/intrusive_list.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "penstock/base/random.h"

namespace penstock {
namespace {

struct FirstTag {};
struct SecondTag {};

struct Item : ListNode<FirstTag>, ListNode<SecondTag> {
  explicit Item(int v = 0) : value(v) {}
  int value;
};
using First = IntrusiveList<Item, FirstTag>;
using Second = IntrusiveList<Item, SecondTag>;

template <typename List>
std::vector<int> values(List& list) {
  std::vector<int> out;
  list.for_each([&](Item& item) { out.push_back(item.value); });
  return out;
}

TEST_CASE("elements keep their order, from both ends") {
  First list;
  CHECK(list.empty());
  CHECK(list.pop_front() == nullptr);
  Item one(1), two(2), three(3);
  list.push_back(two);
  list.push_back(three);
  list.push_front(one);
  CHECK(values(list) == std::vector<int>{1, 2, 3});
  CHECK(list.front().value == 1);
  CHECK(list.back().value == 3);
  CHECK(list.pop_front() == &one);
  CHECK_FALSE(static_cast<ListNode<FirstTag>&>(one).linked());
  CHECK(values(list) == std::vector<int>{2, 3});
}

TEST_CASE("an element can be in two lists at once and leave each alone") {
  First first;
  Second second;
  Item item(7);
  first.push_back(item);
  second.push_back(item);
  static_cast<ListNode<FirstTag>&>(item).unlink();
  static_cast<ListNode<FirstTag>&>(item).unlink();  // again does no harm
  CHECK(first.empty());
  CHECK(values(second) == std::vector<int>{7});
}

TEST_CASE("an element that is destroyed leaves its lists") {
  First list;
  Item one(1), three(3);
  list.push_back(one);
  {
    Item two(2);
    list.push_back(two);
    list.push_back(three);
  }
  CHECK(values(list) == std::vector<int>{1, 3});
}

TEST_CASE("a list that is destroyed lets go of its elements") {
  Item item(1);
  {
    First list;
    list.push_back(item);
  }
  CHECK_FALSE(static_cast<ListNode<FirstTag>&>(item).linked());
  First other;
  other.push_back(item);
  CHECK(other.front().value == 1);
}

TEST_CASE("for_each allows its visitor to unlink or destroy the element it is given") {
  First list;
  std::vector<std::unique_ptr<Item>> items;
  for (int i = 0; i < 6; ++i) list.push_back(*items.emplace_back(std::make_unique<Item>(i)));
  list.for_each([&](Item& item) {
    if (item.value % 3 == 0) static_cast<ListNode<FirstTag>&>(item).unlink();
    if (item.value % 3 == 1) items[static_cast<size_t>(item.value)].reset();
  });
  CHECK(values(list) == std::vector<int>{2, 5});
}

TEST_CASE("take_all moves everything behind what is there") {
  First a, b;
  std::deque<Item> items;
  for (int i = 0; i < 4; ++i) (i < 2 ? a : b).push_back(items.emplace_back(i));
  a.take_all(b);
  CHECK(values(a) == std::vector<int>{0, 1, 2, 3});
  CHECK(b.empty());
  a.take_all(b);
  CHECK(values(a).size() == 4);
}

TEST_CASE("random operations agree with a vector") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    std::deque<Item> items;
    for (int i = 0; i < 20; ++i) items.emplace_back(i);
    First list;
    std::vector<int> model;
    for (int step = 0; step < 300; ++step) {
      Item& item = items[random.below(items.size())];
      auto& node = static_cast<ListNode<FirstTag>&>(item);
      const auto found = std::find(model.begin(), model.end(), item.value);
      REQUIRE(node.linked() == (found != model.end()));
      if (node.linked()) {
        node.unlink();
        model.erase(found);
      } else if (random.chance(0.5)) {
        list.push_back(item);
        model.push_back(item.value);
      } else {
        list.push_front(item);
        model.insert(model.begin(), item.value);
      }
      REQUIRE(values(list) == model);
    }
  }
}

}  // namespace
}  // namespace penstock
