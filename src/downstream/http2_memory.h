// The memory of one HTTP/2 session of nghttp2, out of the memory budget: its tables and buffers, and what it keeps of
// frames that wait to be sent, heads of answers among them. The first `least` bytes are taken as a whole, which is more
// than an idle session needs; beyond that the budget is charged for what the session really has. nghttp2 copes with a
// refusal: the session is broken then.
// Thread: its connection's. Lifetime: outlives the session.
#pragma once

#include <cstddef>

#include "penstock/base/memory_budget.h"

struct nghttp2_option;
struct nghttp2_session;
struct nghttp2_session_callbacks;

namespace penstock::downstream {

class Http2Memory {
 public:
  static constexpr size_t least = 32 * 1024;  // measured with nghttp2 1.52: 25.5 KB for a session
  explicit Http2Memory(MemoryBudget& budget) : budget_(budget) {}
  ~Http2Memory() { budget_.give_back(charged_); }
  Http2Memory(const Http2Memory&) = delete;

  // Takes `least` bytes, which the session may have used already. False: the budget has no room.
  [[nodiscard]] bool charge();
  // A server's session that allocates here.
  nghttp2_session* make_session(const nghttp2_session_callbacks* callbacks, void* user, const nghttp2_option* option);
  bool starved() const { return starved_; }  // it was refused something
  size_t used() const { return used_; }

  // As of the C library; null also where the budget has no room.
  void* allocate(size_t size);
  void* allocate_zeros(size_t count, size_t size);
  void* reallocate(void* block, size_t size);
  void release(void* block);

 private:
  void* counted(void* block);
  bool grow(size_t bytes);
  void shrink(size_t bytes);

  MemoryBudget& budget_;
  size_t used_ = 0, charged_ = 0;
  bool starved_ = false;
};

}  // namespace penstock::downstream
