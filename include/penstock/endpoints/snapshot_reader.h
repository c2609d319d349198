// A shard's view of the published snapshots: acquired at the first use in a loop turn, released at the turn's end, so
// that a sleeping shard never holds an old snapshot back. One thread (its shard's).
#pragma once

#include "penstock/endpoints/snapshot.h"

namespace penstock::endpoints {

class SnapshotReader {
 public:
  SnapshotReader(SnapshotPublisher& publisher, size_t reader) : publisher_(publisher), reader_(reader) {}
  ~SnapshotReader() { end_turn(); }
  SnapshotReader(const SnapshotReader&) = delete;

  // The snapshot of this turn; null before the first publication. Valid until end_turn().
  const Snapshot* get() {
    if (!held_) snapshot_ = publisher_.acquire(reader_);
    held_ = true;
    return snapshot_;
  }
  void end_turn() {
    if (held_) publisher_.release(reader_);
    held_ = false;
    snapshot_ = nullptr;
  }

 private:
  SnapshotPublisher& publisher_;
  size_t reader_;
  const Snapshot* snapshot_ = nullptr;
  bool held_ = false;
};

}  // namespace penstock::endpoints
