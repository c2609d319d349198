// Answer: what the client gets of an endpoint's answer, and what it has got. It decides in which form the body is
// relayed, restores the client's name for the model, watches whether the answer comes to its own end, and breaks it off
// so that the client can tell. It does not know which endpoint answers.
//
// Nothing is sent before the first piece of the body, or, of a JSON answer that is not long, before all of it, so that
// until then another endpoint's answer may take the place of this one: destroy it, and make another one. Thread: its
// shard's. Lifetime: from the head of an endpoint's answer to the end of the exchange, or to the next attempt. The
// Responder is not touched once the exchange has let go of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "answer_watch.h"
#include "intake.h"
#include "penstock/downstream/responder.h"
#include "penstock/openai/answer_restorer.h"
#include "penstock/openai/resume_request.h"
#include "penstock/upstream/client.h"
#include "remembered_stream.h"

namespace penstock::proxy {

// What became of a piece of the answer.
enum class Relayed : uint8_t {
  nothing,    // it was read, gathered or withheld
  some,       // and perhaps the client is congested()
  failed,     // the answer has failed: failure()
  lost,       // the client is gone, or the memory budget is full: Responder::abandon()
  no_memory,  // the memory budget has no room to gather it
};

class Answer {
 public:
  // Memory that one answer leaves to the next. Empty.
  struct Kept {
    http::Fields fields;
    void recycle();
  };
  Answer(Context& context, const Intake& intake, downstream::Responder& client, Kept& kept);

  // `gathers`: all of it is read before any of it is relayed (see can_gather()).
  void begin(const http::Head& head, const AnswerContext& shown, bool gathers);
  // A 503 whose body is short and may say that the server is only full.
  static bool can_gather(const Intake& intake, const http::Head& head);

  // ---- the pieces, in the order in which the endpoint's connection gives them ----
  Relayed take(std::string_view decoded);
  // `whole`: they end with a whole chunk; `last`: with the last one.
  Relayed take_raw(std::string_view raw, bool whole, bool last);
  // The endpoint's answer is complete, as far as HTTP can tell. `trailers`: see ResponseSink::on_response_end().
  Relayed end(std::string_view trailers);
  // What was gathered; "": nothing.
  std::string_view gathered() const { return gathered_ == nullptr ? std::string_view() : gathered_->view(); }
  // After Relayed::failed: relays what may still be relayed of the last piece. `from`: the connection that it came
  // from; null: that has ended. Sets whether the client is then between two chunks.
  Relayed relay_good(const upstream::Connection* from, bool* whole_chunks);
  // Tells the client, if the form and the place allow it, why the answer ends here. False: the client is gone.
  bool say_why(ErrorCode why, bool whole_chunks);

  // ---- another endpoint that goes on with it ----
  // Null: it is not remembered.
  RememberedStream* remembered() const { return watch_.remembered(); }
  // Why it cannot go on elsewhere; none: it can.
  openai::ResumeObstacle resume_obstacle() const;
  // The client has had [DONE], and can be given a proper end behind it.
  bool said_all() const;
  // After a failure: what follows comes as whole events, made of another endpoint's answer.
  void go_on();
  Relayed take_events(std::string_view events);

  // ---- what it is ----
  bool started() const { return started_; }  // a byte of it has gone to the client
  bool congested() const { return congested_; }
  void drained() { congested_ = false; }
  uint16_t status() const { return status_; }
  bool good() const { return status_ < 400; }
  uint64_t bytes() const { return bytes_; }  // of its body
  void count_unsent(uint64_t unsent);        // that many of them were not sent after all
  const std::optional<AttemptFailure>& failure() const { return watch_.failure(); }
  bool event_stream() const { return watch_.event_stream(); }
  bool refused() const { return !good() || watch_.ends_in_error(); }
  AnswerWatch& watch() { return watch_; }
  const AnswerWatch& watch() const { return watch_; }
  void first_byte_relayed();                    // frees what is not needed again
  void describe(ExchangeRecord& record) const;  // what is known of it for the record

 private:
  downstream::BodyForm form_for(const http::Head& head) const;
  bool restores(const http::Head& head) const;
  void begin_restoring(const http::Head& head);
  Relayed relay(std::string_view piece);
  Relayed relayed(downstream::Sent sent);
  Relayed relay_open(std::string_view decoded);
  Relayed relay_whole_events(std::string_view decoded);
  Relayed relay_beginning();
  void keep_piece(std::string_view decoded);
  Relayed relay_remembered(std::string_view raw, bool whole, bool last);
  void append_whole_events(const Context::Piece& piece, std::string& out);
  Relayed relay_good_events();
  bool remembers_chunks() const { return form_ == downstream::BodyForm::chunked && remembered() != nullptr; }
  openai::ResumeObstacle obstacle_in(const http::Head& head) const;
  Relayed relay_piece();
  Relayed relay_gathered();
  void gather(const http::Head& head);
  bool can_wait_for_all(const http::Head& head) const;
  Relayed wait_for_all(std::string_view decoded);
  Relayed relay_waited();
  // Its pieces are relayed as they come from the endpoint.
  bool is_raw() const { return form_ == downstream::BodyForm::sized || form_ == downstream::BodyForm::chunked; }
  std::string error_event(ErrorCode why) const;

  Context& context_;
  const Intake& intake_;
  downstream::Responder& client_;
  // What every chunk of an answer touches is kept together: with thousands of streams it is not in the CPU's cache.
  downstream::BodyForm form_ = downstream::BodyForm::none;
  bool gathers_ = false, restores_ = false;
  bool waits_for_all_ = false;  // if it does not come in one piece
  openai::ResumeObstacle obstacle_ = openai::ResumeObstacle::not_streamed;
  bool started_ = false, congested_ = false;
  bool in_step_ = true;      // where chunks are relayed as they come: the client has all that has come
  bool terminated_ = false;  // the last chunk was among them
  bool holds_ = false;       // the first piece is in Context::piece, until the end of what was read with it
  uint16_t status_ = 0;
  uint32_t announced_ = 0;  // Content-Length of what is gathered, or waited for
  uint64_t bytes_ = 0;
  AnswerWatch watch_;
  Kept& kept_;
  // Only for some answers.
  std::unique_ptr<std::string> reason_;  // phrase of the status line, if it is not the usual one
  std::unique_ptr<openai::AnswerRestorer> restorer_;
  std::unique_ptr<net::BodyBuffer> gathered_;
};

}  // namespace penstock::proxy
