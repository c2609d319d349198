// One rank's stream of numbered event batches: in what order they count, and what is done when some are missing. Knows
// nothing of sockets: whoever has them asks replay_from() what to ask the server for. Pure; one thread.
//
// Numbers begin at 0 when an engine starts. What is held is complete when all batches since then, or since
// AllBlocksCleared, were seen. A hole is filled by a replay; where there is none (or it lacks what is missing) what is
// known of the cache is given up, and grows again from what is told next. A connection that begins with a number lower
// than expected is to an engine that was restarted, and so is one whose replay begins with another batch of that
// number.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "penstock/kvevents/block_map.h"

namespace penstock::kvevents {

class StreamEvents {
 public:
  // The engine emptied its cache, or is another one: whatever else was believed of it is void, too.
  virtual void on_cache_emptied() = 0;

 protected:
  ~StreamEvents() = default;
};

class EventStream final : private EventSink {
 public:
  struct Counts {
    uint64_t batches = 0, replayed = 0;  // applied; the latter from replays
    uint64_t gaps = 0, restarts = 0, duplicates = 0, malformed = 0, given_up = 0;
  };

  // `scratch`: shared by streams of one thread.
  EventStream(routing::ToldIndex& index, uint32_t slot, uint32_t rank, bool can_replay, StoredBlocks& scratch,
              StreamEvents& events)
      : can_replay_(can_replay), blocks_(index, slot, rank), scratch_(scratch), events_(events) {}

  void connected();     // to the publisher; batches may have been missed before
  void disconnected();  // what is told from now on is missed
  void on_batch(uint64_t number, std::string_view payload);

  // From which number batches are wanted; nothing: nothing is missing, or one is under way.
  std::optional<uint64_t> replay_from() const;
  void replay_began();
  uint64_t replay_start() const { return replay_start_; }  // of the one under way
  void on_replayed(uint64_t number, std::string_view payload);
  // `whole`: up to the mark at its end.
  void replay_ended(bool whole);

  bool replaying() const { return replaying_; }
  bool complete() const { return connected_ && complete_ && !unsure_ && !wants_replay_ && !replaying_; }
  const Counts& counts() const { return counts_; }
  const BlockMap& blocks() const { return blocks_; }

 private:
  void on_stored(const StoredBlocks& blocks) override { blocks_.store(blocks); }
  void on_removed(std::span<const uint64_t> hashes) override { blocks_.remove(hashes); }
  void on_cleared() override;
  void on_other() override { ++blocks_.counts().other; }
  void apply(uint64_t number, std::string_view payload);
  void restarted();
  void give_up();
  void tell();

  static constexpr uint32_t replays_in_a_row_max = 8;

  const bool can_replay_;
  BlockMap blocks_;
  StoredBlocks& scratch_;
  StreamEvents& events_;
  bool connected_ = false;
  bool unsure_ = true;                // since it was connected nothing has shown that no batch was missed before
  bool complete_ = false;             // but for that
  std::optional<uint64_t> expected_;  // the number that comes next
  bool wants_replay_ = false, replaying_ = false;
  bool anchored_ = false;      // the replay begins with the last batch that we have: it must be the first to come
  bool foreign_ = false;       // and it began with another batch of that number: the engine is another
  bool replay_spent_ = false;  // on this connection a replay was of no use
  size_t last_payload_ = 0;    // hash of the last batch; each holds the time at which it was made
  uint64_t replay_start_ = 0;
  uint64_t seen_to_ = 0;  // behind the last batch that came while one was missing
  uint32_t replays_in_a_row_ = 0;
  Counts counts_;
};

}  // namespace penstock::kvevents
