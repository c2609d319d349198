#include "http2_memory.h"

#include <malloc.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdlib>

#include "penstock/base/assert.h"

namespace penstock::downstream {

namespace {

constexpr size_t step = 8 * 1024;  // the budget is not asked for each allocation

Http2Memory& memory_of(void* user) {
  return *static_cast<Http2Memory*>(user);
}

}  // namespace

bool Http2Memory::charge() {
  PENSTOCK_ASSERT(charged_ == 0);
  if (!budget_.try_take_first(least)) return false;
  charged_ = least;
  return true;
}

nghttp2_session* Http2Memory::make_session(const nghttp2_session_callbacks* callbacks, void* user,
                                           const nghttp2_option* option) {
  nghttp2_mem allocator = {
      this,
      [](size_t size, void* memory) { return memory_of(memory).allocate(size); },
      [](void* block, void* memory) { memory_of(memory).release(block); },
      [](size_t count, size_t size, void* memory) { return memory_of(memory).allocate_zeros(count, size); },
      [](void* block, size_t size, void* memory) { return memory_of(memory).reallocate(block, size); },
  };
  nghttp2_session* session = nullptr;
  PENSTOCK_ASSERT(nghttp2_session_server_new3(&session, callbacks, user, option, &allocator) == 0);
  return session;
}

// ---- the heap: what it really gives is counted, so that no size need be remembered ----

void* Http2Memory::counted(void* block) {
  if (block == nullptr || grow(malloc_usable_size(block))) return block;
  std::free(block);
  return nullptr;
}

void* Http2Memory::allocate(size_t size) {
  return counted(std::malloc(size));
}

void* Http2Memory::allocate_zeros(size_t count, size_t size) {
  return counted(std::calloc(count, size));
}

// A block that cannot be paid for stays as it was. What the heap gives beyond what was asked for is charged next time.
void* Http2Memory::reallocate(void* block, size_t size) {
  const size_t before = block == nullptr ? 0 : malloc_usable_size(block), paid = std::max(size, before);
  if (paid > before && !grow(paid - before)) return nullptr;
  void* const moved = std::realloc(block, size);
  const size_t now = moved == nullptr ? before : malloc_usable_size(moved);
  if (now > paid) used_ += now - paid;
  else shrink(paid - now);
  return moved;
}

void Http2Memory::release(void* block) {
  if (block != nullptr) shrink(malloc_usable_size(block));
  std::free(block);
}

bool Http2Memory::grow(size_t bytes) {
  const size_t wanted = used_ + bytes, had = std::max(charged_, least);
  if (wanted > had) {
    const size_t more = std::max(wanted - had, step);
    if (charged_ == 0 || !budget_.try_take(more)) {
      starved_ = true;
      return false;
    }
    charged_ += more;
  }
  used_ = wanted;
  return true;
}

void Http2Memory::shrink(size_t bytes) {
  used_ -= bytes;
  const size_t needed = std::max(used_ + step, least);
  if (charged_ < needed + step) return;
  budget_.give_back(charged_ - needed);
  charged_ = needed;
}

}  // namespace penstock::downstream
