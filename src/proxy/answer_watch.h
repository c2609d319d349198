// Observes an answer while it is relayed, for metrics, for what routing learns, and to find out whether it fails. Never
// changes a byte of it. Event streams are read event by event. A JSON answer is copied until it is complete, to read
// its usage; of a long one only the end is kept, and nothing if the memory budget is full. What counts as a failure is
// AnswerEnd's to say. Thread: its shard's. A part of its Answer.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "answer_end.h"
#include "penstock/http/head.h"
#include "penstock/http/sse.h"
#include "penstock/net/buffer.h"
#include "penstock/openai/error_body.h"
#include "penstock/openai/usage.h"
#include "penstock/proxy/observer.h"
#include "remembered_stream.h"

namespace penstock::proxy {

class AnswerWatch final : private http::SseEvents {
 public:
  explicit AnswerWatch(MemoryBudget& budget) : sse_(*this), json_(budget) {}

  // `api` and `choices`: what the request asked for, so that the format of its answer is known; Api::other: it is not.
  void begin(const http::Head& answer, openai::Api api, uint32_t choices);
  // Of an event stream, before its first byte: who hears of the times between events, if anybody.
  void report_gaps(GapObserver* gaps) { gaps_ = gaps; }
  // After begin(): it answers a request of the Responses API, and its id is wanted.
  void look_for_response() { wants_response_ = mode_ != Mode::ignore; }
  // Of an event stream, before begin(): it is remembered, so that another endpoint can go on with it.
  void remember(std::unique_ptr<RememberedStream> stream) { remembered_ = std::move(stream); }
  RememberedStream* remembered() const { return remembered_.get(); }
  // After a failure of such a stream: what is fed next begins with a new event, and is remembered by whoever made it.
  void go_on();
  // Nothing may be fed once failure() is set.
  void feed(std::string_view decoded, Instant now);
  void end();  // the answer is complete, as far as HTTP can tell. May be called again

  // Of the `size` bytes that were fed last: where the event that has not come whole yet begins.
  // Events that are held back (see Delivered::holds()) have not come whole either.
  size_t incomplete_from(size_t size) const {
    if (holds_) return remembered_->held_from();
    return mode_ == Mode::events ? sse_.incomplete_from(size) : size;
  }
  // The answer has failed: it says so itself, or it is over without having come to its own end.
  const std::optional<AttemptFailure>& failure() const { return failure_; }
  // Then: how many bytes of the last piece may be relayed. What follows is what a client would take for a proper end.
  size_t good_bytes() const { return good_bytes_; }
  // How many behind them are the server's own error event, which the client gets if nobody goes on with the stream.
  size_t withheld_bytes() const { return withheld_bytes_; }
  // The server's own error event, in the shape that clients of its API understand, is the last of those bytes; or the
  // stream began with one that the server lays to the request, which is no failure.
  bool ends_in_error() const { return ends_in_error_; }

  bool event_stream() const { return events_; }
  // What was relayed of a stream ends with a complete event, so another event may be appended.
  bool between_events() const { return events_ && !holds_ && (failure_ ? at_boundary_ : sse_.at_boundary()); }
  // openai::response_key() of the response, once it has been told; taken once.
  bool has_response() const { return response_ != 0; }
  uint64_t take_response() { return std::exchange(response_, 0); }
  uint32_t chunks() const { return chunks_; }  // events with data, without the final [DONE]
  // Those that were not held back.
  uint32_t relayed_chunks() const { return holds_ ? remembered_->events_before_held() : chunks_; }
  const openai::AnswerObserver& answer() const { return answer_; }

 private:
  void find_response(std::string_view beginning, bool event);
  enum class Mode : uint8_t { ignore, events, json };
  void on_sse_event(std::string_view name, std::string_view data) override;
  void hold(std::string_view name);
  void stream_failed();
  void count_event();
  bool can_go_on() const;
  bool error_in_shape() const;

  GapObserver* gaps_ = nullptr;
  std::unique_ptr<RememberedStream> remembered_;
  Mode mode_ = Mode::ignore;
  bool events_ = false;
  bool at_boundary_ = false;  // see between_events()
  bool ends_in_error_ = false;
  bool wants_response_ = false;
  bool goes_on_ = false;  // go_on() was called
  bool cut_ = false;      // only the end of the JSON answer is kept
  bool holds_ = false;    // events are held back, since the text has ended for a reason that is still to come
  std::optional<AttemptFailure> failure_;
  http::SseScanner sse_;
  openai::AnswerObserver answer_;
  net::BodyBuffer json_;
  Instant now_{}, last_chunk_{};
  uint64_t announced_ = 0;  // the answer's length, when it says so
  uint64_t response_ = 0;
  AnswerEnd end_;
  uint32_t good_bytes_ = 0, withheld_bytes_ = 0;
  uint32_t chunks_ = 0;
};

}  // namespace penstock::proxy
