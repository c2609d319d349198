// Result<T, E>: a value or the reason why there is none. A small stand-in for std::expected, which
// clang before 19 rejects together with the standard library of Debian 12.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "penstock/base/assert.h"

namespace penstock {

// The default error: one sentence for a human. Hot paths use an enum instead.
struct Message {
  std::string text;
};

template <typename T, typename E = Message>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(E error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    PENSTOCK_ASSERT(ok());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    PENSTOCK_ASSERT(ok());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    PENSTOCK_ASSERT(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  const E& error() const {
    PENSTOCK_ASSERT(!ok());
    return *std::get_if<1>(&state_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, E> state_;
};

}  // namespace penstock
