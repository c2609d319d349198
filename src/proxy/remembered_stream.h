// RememberedStream: what of a stream another endpoint needs to go on with it: the text that has been delivered, and the
// event that has not come whole yet, which the client gets only when it has. Its memory is in the memory budget; a
// stream for which there is no room is forgotten, and cannot go on elsewhere.
// Thread: its shard's. Lifetime: a part of its Answer.
#pragma once

#include <string>
#include <string_view>

#include "penstock/base/memory_budget.h"
#include "penstock/net/buffer.h"
#include "penstock/openai/delivered.h"

namespace penstock::proxy {

class RememberedStream {
 public:
  // `text_bytes_max`, `keeps_ids`: see Delivered.
  RememberedStream(MemoryBudget& budget, openai::Api api, size_t text_bytes_max, bool keeps_ids);
  ~RememberedStream();
  RememberedStream(const RememberedStream&) = delete;

  // The data of the next event. True: it is a piece of text and nothing else.
  bool take(std::string_view data);
  // Keeps the beginning of an event, also of a stream that cannot go on any more: the client is to hear why between two
  // events. False: there is no room; the stream is forgotten, what was kept is the caller's to relay, and so is from
  // now on each event as it comes.
  bool keep(std::string_view beginning);
  bool relays_whole_events() const { return whole_events_; }
  net::BodyBuffer& beginning() { return beginning_; }
  // The event with which its server said that it has failed; "": it did not. Short ones are kept.
  void keep_error(std::string_view event) {
    error_ = event.substr(0, event.size() <= error_bytes_max ? event.size() : 0);
  }
  const std::string& error() const { return error_; }
  // Where in the bytes that came last the events begin that are held back (see Delivered::holds()).
  void held_at(size_t begin) { held_from_ = begin; }
  size_t held_from() const { return held_from_; }
  // How many events came before those.
  void held_behind(uint32_t events) { held_behind_ = events; }
  uint32_t events_before_held() const { return held_behind_; }
  // The text may have grown.
  void charge();

  openai::Delivered& delivered() { return delivered_; }
  openai::ResumeObstacle obstacle() const { return delivered_.obstacle(); }

 private:
  MemoryBudget& budget_;
  size_t charged_ = 0, held_from_ = 0;
  const size_t event_bytes_max_;
  uint32_t held_behind_ = 0;
  bool whole_events_ = true;
  static constexpr size_t error_bytes_max = 4 * 1024;
  std::string error_;
  openai::Delivered delivered_;
  net::BodyBuffer beginning_;
};

}  // namespace penstock::proxy
