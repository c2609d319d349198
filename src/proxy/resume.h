// Resume: goes on with a stream whose endpoint has failed, at another endpoint. It asks that one's tokenizer for the
// ids of the prompt and of the text that the client has, has it continue behind these ids (POST /v1/completions), and
// makes of what it answers the events of the client's own API, as if the stream had never broken.
//
//   waits for a turn -> on_resume_turn(): the owner chooses an endpoint and sends request() to it, with this as the
//   sink POST /tokenize   -> ids of the prompt     -> on_resume_next(): the owner sends the next request() to it POST
//   /tokenize   -> ids of the text       -> on_resume_next() POST /v1/completions -> on_resumed() with events, again
//   and again -> on_resume_over()
//
// Where the ids of the text came with it, POST /detokenize says instead whether they stand for what the client has.
//
// If an endpoint fails before the stream has gone on, the owner is told (on_resume_failed()) and calls try_again():
// from the first byte on, until Options::resume.wait is over. What a stream must be like to go on:
// openai/resume_request.h. Thread: its shard's. Lifetime: from the first break of a stream to the end of its exchange,
// which may break again.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "attempt.h"
#include "failures.h"
#include "intake.h"
#include "penstock/http/sse.h"
#include "penstock/openai/continuation.h"
#include "penstock/openai/resume_request.h"
#include "remembered_stream.h"
#include "resume_queue.h"

namespace penstock::proxy {

class ResumeOwner {
 public:
  virtual void on_resume_turn() = 0;
  virtual void on_resume_connected() = 0;
  // The attempt's connection is not to be used any more. Something else follows at once.
  virtual void on_resume_ended() = 0;
  virtual void on_resume_next() = 0;
  // Events for the client; `first`: since the stream broke. False: the exchange has ended, or the stream has broken
  // again; nothing may be touched any more.
  [[nodiscard]] virtual bool on_resumed(std::string_view events, bool first) = 0;
  virtual void on_resume_over() = 0;
  // The endpoint has failed; `on`: the stream had already gone on.
  virtual void on_resume_failed(AttemptFailure failure, bool on) = 0;
  // No endpoint can go on with it, or none has in time.
  virtual void on_resume_given_up(openai::ResumeObstacle why) = 0;

 protected:
  ~ResumeOwner() = default;
};

class Resume final : private ResumeTurn, private upstream::ResponseSink, private http::SseEvents {
 public:
  Resume(Context& context, ResumeQueue& queue, const Intake& intake, RememberedStream& stream, ResumeOwner& owner);

  // Whether the paths of /tokenize and /v1/completions follow from this one.
  static bool knows_path(std::string_view target);
  // First: whether the request can be continued at all.
  openai::ResumeObstacle read_request();
  // The stream has broken, for the first time or again: waits for a turn.
  void begin();
  // After on_resume_turn() or on_resume_failed(): no endpoint, or not this one. Waits for another turn, or gives up.
  void try_again();

  // What to send, with sink(). Valid until the next event.
  Attempt::Instead request() const;
  upstream::ResponseSink& sink() { return *this; }
  // It is the first one to this endpoint: an idle connection may have been closed with its server.
  bool first() const { return first_; }
  bool on() const { return on_; }  // the stream goes on there; else it is asked for the ids, or nobody is
  // The endpoint has it, and has begun to answer: frees what is not needed again.
  void drop_request();
  uint32_t breaks() const { return breaks_; }

 private:
  enum class Asks : uint8_t { prompt, text, made, continuation };

  void on_turn() override;
  void on_timer();
  void ask(Asks what);
  bool ask_next();
  void go_on();
  bool take_answer();
  bool take_ids();
  bool take_made();
  bool pass_on();
  void finish();
  openai::Usage usage() const;
  std::string path(std::string_view of) const;
  bool without_tokenizer(uint16_t status);

  // upstream::ResponseSink
  void on_connected() override { owner_.on_resume_connected(); }
  void on_response_head(http::Head& head) override;
  void on_response_data(std::string_view decoded) override;
  void on_response_raw(std::string_view) override {}
  void on_response_end(std::string_view trailers) override;
  void on_response_failed(upstream::Failure failure, bool received, bool reused) override;
  // http::SseEvents
  void on_sse_event(std::string_view name, std::string_view data) override;

  Context& context_;
  ResumeQueue& queue_;
  const Intake& intake_;
  RememberedStream& stream_;
  ResumeOwner& owner_;
  net::Timer timer_;  // of a pause, or of the wait for a turn
  bool pauses_ = false, first_ = true;

  openai::ResumeRequest request_;
  Asks asks_ = Asks::prompt;
  std::string target_, body_;  // of what is asked
  net::BodyBuffer answer_;     // of a tokenizer
  bool tokenizes_ = true;      // the endpoints have a tokenizer
  std::optional<openai::Tokenized> prompt_, text_;
  uint32_t cuts_ = 0;                             // ids given up, since their text ends within a character
  std::string gap_;                               // text of ids in text_ that the client does not have yet
  uint32_t prompt_tokens_ = 0, text_tokens_ = 0;  // 0: not known

  std::optional<openai::Continuation> continuation_;
  openai::Continuation::State state_ = openai::Continuation::State::going;
  http::SseScanner sse_;
  std::string events_;

  Instant broke_at_{};
  bool on_ = false;  // the stream has gone on since it broke last
  uint32_t breaks_ = 0;
};

}  // namespace penstock::proxy
