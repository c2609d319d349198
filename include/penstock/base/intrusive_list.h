// A doubly linked list whose links live in the elements: no allocation, O(1) removal from the
// middle. An element derives from ListNode<Tag> once for each list it can be in. A node unlinks
// itself when destroyed, so a list never holds a dead element. One thread.
#pragma once

#include <cstddef>

#include "penstock/base/assert.h"

namespace penstock {

template <typename Tag>
class ListNode {
 public:
  ListNode() = default;
  ~ListNode() { unlink(); }
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;

  bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    next_ = previous_ = nullptr;
  }

 private:
  template <typename T, typename U>
  friend class IntrusiveList;
  ListNode* next_ = nullptr;
  ListNode* previous_ = nullptr;
};

template <typename T, typename Tag>
class IntrusiveList {
  using Node = ListNode<Tag>;

 public:
  IntrusiveList() { head_.next_ = head_.previous_ = &head_; }
  ~IntrusiveList() { clear(); }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  bool empty() const { return head_.next_ == &head_; }
  void push_back(T& element) { insert_before(head_, element); }
  void push_front(T& element) { insert_before(*head_.next_, element); }
  T& front() {
    PENSTOCK_ASSERT(!empty());
    return *static_cast<T*>(head_.next_);
  }
  T& back() {
    PENSTOCK_ASSERT(!empty());
    return *static_cast<T*>(head_.previous_);
  }
  T* pop_front() {
    if (empty()) return nullptr;
    T& element = front();
    static_cast<Node&>(element).unlink();
    return &element;
  }
  // Unlinks every element; destroys none.
  void clear() {
    while (!empty()) head_.next_->unlink();
  }
  // Calls visit(T&) for each element; visit may unlink or destroy the element it is given.
  template <typename F>
  void for_each(F&& visit) {
    for (Node* node = head_.next_; node != &head_;) {
      Node* next = node->next_;
      visit(*static_cast<T*>(node));
      node = next;
    }
  }
  // Moves all elements of `other` to the back of this list, in order.
  void take_all(IntrusiveList& other) {
    while (T* element = other.pop_front()) push_back(*element);
  }

 private:
  void insert_before(Node& position, T& element) {
    Node& node = element;
    PENSTOCK_ASSERT(!node.linked());
    node.previous_ = position.previous_;
    node.next_ = &position;
    position.previous_->next_ = &node;
    position.previous_ = &node;
  }
  Node head_;
};

}  // namespace penstock
