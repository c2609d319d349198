// Fills a Head from a checked header block: llhttp tokenizes, the builder keeps the views that it reports and
// works out what they say together. One per message in progress, kept with the Head in a thread-local pool.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "head_guard.h"
#include "penstock/http/head.h"

namespace penstock::http {

class HeadBuilder {
 public:
  HeadBuilder();
  ~HeadBuilder();

  Head& head() { return head_; }
  // The bytes of the block, for HeadGuard to fill.
  std::string& storage() { return head_.storage_; }
  // Reads the complete block in storage(). `without_body`: it answers a HEAD request. Not none when llhttp objects or
  // understands the framing differently.
  struct Known {
    bool request;
    bool without_body;
    HeadGuard::Framing framing;
  };
  ParseError build(const Known& known);
  // A piece of chunked coding, framing included, or the trailer section behind it. False when llhttp objects or sees
  // something else in it.
  struct Expected {
    size_t data = 0;    // bytes of chunk data in the piece
    bool last = false;  // the message ends with it
  };
  bool body(std::string_view bytes, Expected expected);
  void clear();
  // Frees the head's memory. body() goes on as before.
  void drop_head();
  // clear(), and back to the usual memory after an unusually large head or drop_head().
  void recycle();

 private:
  struct Engine;  // llhttp and its callbacks
  void interpret(const Known& known);
  void reserve();

  Engine& engine();

  static constexpr size_t engine_size = 192;
  alignas(8) std::array<std::byte, engine_size> engine_;
  Head head_;
};

// What a parser needs between the first byte of a message and its end.
struct Message {
  HeadBuilder builder;
  HeadGuard guard;
  std::string trailers;
};

Message* borrow_message();
void give_back_message(Message* message);

}  // namespace penstock::http
