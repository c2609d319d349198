// Observes an answer while it is relayed, for metrics and for what routing learns. Never changes a byte of it. Event
// streams are read event by event. A JSON answer is copied until it is complete, to read its usage; of a long one only
// the end is kept, and nothing if the memory budget is full. Thread: its shard's. One per exchange, reused.
#pragma once

#include <string_view>
#include <utility>

#include "penstock/http/head.h"
#include "penstock/http/sse.h"
#include "penstock/net/buffer.h"
#include "penstock/openai/usage.h"
#include "penstock/proxy/observer.h"

namespace penstock::proxy {

class AnswerWatch final : private http::SseEvents {
 public:
  explicit AnswerWatch(MemoryBudget& budget) : sse_(*this), json_(budget) {}

  // `inference`: the request was parsed, so the format of its answer is known.
  void begin(const http::Head& answer, bool inference);
  // Of an event stream, before its first byte: who hears of the times between events, if anybody.
  void report_gaps(GapObserver* gaps) { gaps_ = gaps; }
  // After begin(): it answers a request of the Responses API, and its id is wanted.
  void look_for_response() { wants_response_ = mode_ != Mode::ignore; }
  void feed(std::string_view decoded, Instant now);
  void end();  // the answer is complete
  void reset();

  bool event_stream() const { return mode_ == Mode::events; }
  // What was relayed of a stream ends with a complete event, so another event may be appended.
  bool between_events() const { return mode_ == Mode::events && sse_.at_boundary(); }
  // The last event of the stream was an error event of the server's.
  bool ended_in_error() const { return error_; }
  // openai::response_key() of the response, once it has been told; taken once.
  bool has_response() const { return response_ != 0; }
  uint64_t take_response() { return std::exchange(response_, 0); }
  uint32_t chunks() const { return chunks_; }  // events with data, without the final [DONE]
  const openai::AnswerObserver& answer() const { return answer_; }

 private:
  void find_response(std::string_view beginning, bool event);
  enum class Mode : uint8_t { ignore, events, json };
  void on_sse_event(std::string_view name, std::string_view data) override;

  GapObserver* gaps_ = nullptr;
  Mode mode_ = Mode::ignore;
  http::SseScanner sse_;
  openai::AnswerObserver answer_;
  net::BodyBuffer json_;
  Instant now_{}, last_chunk_{};
  uint64_t announced_ = 0;  // the answer's length, when it says so
  uint64_t response_ = 0;
  uint32_t chunks_ = 0;
  bool wants_response_ = false;
  bool error_ = false;  // see ended_in_error()
  bool cut_ = false;    // only the end of the JSON answer is kept
};

}  // namespace penstock::proxy
