// What a model server says of its KV cache: batches of events as vLLM publishes them, [ts, [event, ...], rank] with
// events as arrays that begin with their names (until 0.1x), or the same as maps with a "type" (since). Fields behind
// those that we know are skipped, and so are events of other names. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace penstock::kvevents {

// Blocks that were computed, or copied to another medium. Hashes are the engine's own: numbers as they are, longer ones
// hashed to 64 bits.
struct StoredBlocks {
  std::vector<uint64_t> hashes;
  bool has_parent = false;
  uint64_t parent = 0;           // the block before the first
  std::vector<uint32_t> tokens;  // of all blocks; empty when the event only says that known blocks are there
  uint32_t block_tokens = 0;
  std::string_view adapter;   // "": the base model; valid while its sink is being called
  bool adapter_named = true;  // false: it is of an adapter of which only a number is known
  size_t plain = 0;           // so many of the blocks are told by their tokens (and adapter) alone
};

class EventSink {
 public:
  virtual void on_stored(const StoredBlocks& blocks) = 0;
  virtual void on_removed(std::span<const uint64_t> hashes) = 0;
  virtual void on_cleared() = 0;  // AllBlocksCleared
  virtual void on_other() = 0;    // an event that we do not know, or of another cache group than the first

 protected:
  ~EventSink() = default;
};

// Reads a batch; each event is told as it is found. False: it is broken, and events before that were told. `scratch` is
// for its memory alone.
bool read_batch(std::string_view payload, StoredBlocks& scratch, EventSink& sink);

}  // namespace penstock::kvevents
