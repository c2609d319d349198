// Walks the framing of chunked coding before llhttp does (see head_guard.h for why) and cuts the bytes into
// pieces: runs of framing, none of which goes beyond the end of a chunk, and runs of chunk data. A chunk-size line is
// hex digits, then CRLF or an extension that starts with ";"; nothing else. All extensions of a message together are
// bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::http {

class ChunkGuard {
 public:
  static constexpr size_t extension_bytes_max = 4096;

  enum class Kind : uint8_t {
    framing,
    last,  // framing, and the line of the last chunk ends here: the trailer section follows
    data,
    refused,
  };
  struct Piece {
    Kind kind;
    size_t size;  // bytes of the piece
  };
  // The first piece of `bytes`, which must not be empty.
  Piece next(std::string_view bytes);
  // A whole chunk at the front of `bytes`, its framing in the plain form that nearly all have: its size line, its data
  // and the line end behind them. Nothing when next() must look. Leaves the guard as it is: behind a chunk as before
  // it.
  struct Whole {
    size_t size_line = 0, data = 0;
    size_t size() const { return size_line + data + 2; }
  };
  Whole whole(std::string_view bytes) const;
  bool between_chunks() const { return state_ == State::size_first; }

 private:
  enum class State : uint8_t { size_first, size, extension, size_end, data, data_cr, data_end };
  Kind step(char c);
  bool digit(char c);

  State state_ = State::size_first;
  uint8_t digits_ = 0;
  uint16_t extension_bytes_ = 0;
  uint64_t left_ = 0;  // of the chunk: its size while the line is read, then what is still to come
};

}  // namespace penstock::http
