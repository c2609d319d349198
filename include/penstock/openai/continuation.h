// The stream of a continuation, read for the client of the stream that broke: events of /v1/completions in, events of
// that stream out. Pure; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/openai/delivered.h"
#include "penstock/openai/usage.h"

namespace penstock::openai {

class Continuation {
 public:
  // What the client gets is added to `delivered`, which outlives this, so that the stream can be continued again.
  // `stops` are the request's stop strings. One that began in the text delivered is not seen by the endpoint that
  // continues, for which that is prompt. `gap`: text of tokens that this endpoint takes for prompt as well, which the
  // client does not have yet; escaped. It goes in front of what the endpoint brings.
  Continuation(Delivered& delivered, const std::vector<std::string>& stops, bool include_stop_in_output,
               std::string_view gap = {});

  enum class State : uint8_t {
    going,
    finished,  // the finish reason was sent
    over,      // and [DONE] came
    failed,    // an error, a finish reason that says abort or error, [DONE] without any, or what cannot be read
  };
  // The data of the next event. Appends whole events for the client: text, and the one with the finish reason; not the
  // usage nor [DONE].
  State take(std::string_view data, std::string& out);
  State state() const { return state_; }

  const std::optional<Usage>& usage() const { return observer_.usage(); }  // of the continuation
  uint32_t events() const { return events_; }                              // pieces of text that came
  // A stop string was completed: the answer has ended although the endpoint goes on, and nothing more of it is needed.
  bool cut() const { return cut_; }

 private:
  // A stop string that began in the text delivered, or in the gap.
  struct Watch {
    std::string stop;
    std::vector<uint32_t> borders;  // of each beginning of it: how much of it is an end of the beginning as well
    size_t matched = 0;

    explicit Watch(const std::string& stop);
    void advance(char c);
    bool complete() const { return matched == stop.size(); }
  };

  State end(State state) { return state_ = state; }
  void take_text(std::string_view escaped, std::string& out);
  void look(std::string_view escaped, std::string& out);
  void send(std::string_view escaped, std::string& out);
  void finish(std::string_view reason, std::string_view stop_reason_json, std::string& out);
  void cut_at(const Watch& watch, std::string_view text, std::string& out);

  Delivered& delivered_;
  const bool include_stop_;
  AnswerObserver observer_;
  State state_ = State::going;
  uint32_t events_ = 0;
  bool cut_ = false;
  std::vector<Watch> watches_;
  size_t looked_at_ = 0;  // bytes of new text that the watches have seen
  std::string held_;      // the gap, and new text that may be part of a stop string, as it came
};

}  // namespace penstock::openai
