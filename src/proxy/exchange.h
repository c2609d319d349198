// Exchange: one client request and all that happens to it, from its head to the last byte of its answer.
//
// These parts do the work, and each knows only what it needs (see their headers):
//
//   Intake      what was asked: head, body, route rule, pool, model                 intake.h
//   Placement   where it goes, and when: admission, holding, routing, reservations  placement.h
//   Attempt     one try on one endpoint                                             attempt.h
//   Answer      what the client has got                                             answer.h
//   Resume      goes on with a broken stream: another attempt, the same answer      resume.h
//   Tunnel      in place of an answer: what both say to each other after a 101      tunnel.h
//
// The exchange is the journey over them. perform() lists its steps in order; every other function is an event that lets
// the journey continue, or one of the ways in which it ends. Each part lives as long as it is needed: a retry destroys
// the attempt and the answer, the end destroys all. finish() runs exactly once; it alone reports the end.
// Thread: its shard's. Lifetime: owned by the shard's Gateway, which reuses it for the memory that it keeps.
#pragma once

#include <optional>
#include <string_view>

#include "answer.h"
#include "attempt.h"
#include "intake.h"
#include "penstock/proxy/gateway.h"
#include "placement.h"
#include "resume.h"
#include "slow_endpoints.h"
#include "tunnel.h"

namespace penstock::proxy {

class Exchange final : public net::Disposable,
                       public downstream::RequestHandler,
                       public ListNode<AttemptTag>,
                       private upstream::ResponseSink,
                       private PlacementEvents,
                       private ResumeOwner,
                       private TunnelOwner {
 public:
  Exchange(Gateway& gateway, Context& context);
  ~Exchange() override;

  // Begins the journey. False if it is already over: the request was refused because of its head.
  [[nodiscard]] bool begin(downstream::Responder& client, const http::Head& head);
  // This endpoint does not answer health probes. If the exchange waits for its first byte, it tries another endpoint.
  void on_silent(uint32_t slot, uint32_t incarnation);
  // It has answered none of them since then. If the exchange relays its answer, and has not heard of it since, the
  // answer is broken off.
  void on_silent_stream(uint32_t slot, uint32_t incarnation, Instant since);
  // Of a stream that runs: how long it has brought nothing.
  void report_silence(SlowEndpoints& to) const;
  // The endpoint was ejected because it is too slow.
  void on_slow(uint32_t slot, uint32_t incarnation);

 private:
  enum class Step : uint8_t { free, read_body, choose_rule, parse, choose_pool, admit, route, connect, relay };

  // ---- the journey ----
  void advance();
  Verdict perform(Step step);
  Verdict choose_rule();
  Verdict connect();

  // ---- what the client does: downstream::RequestHandler ----
  void on_body(std::string_view bytes) override;
  void on_request_end() override;
  void on_request_failed(const downstream::RequestFailure& failure) override;
  void on_drained() override;
  void on_gone(downstream::Gone why) override;
  void on_ending() override;

  // ---- where it may go: PlacementEvents ----
  void on_room() override { advance(); }
  void on_held_too_long(ErrorCode why) override { refuse(why); }
  void on_evicted() override { cut_off(ErrorCode::evicted); }

  // ---- what the endpoint does: upstream::ResponseSink ----
  void on_connected() override;
  void on_response_head(http::Head& head) override;
  void on_response_data(std::string_view decoded) override;
  void on_response_raw(std::string_view raw) override;
  void on_response_end(std::string_view trailers) override;
  void on_response_failed(upstream::Failure failure, bool received, bool reused) override;
  bool tried_elsewhere(const http::Head& head);
  std::optional<AttemptFailure> failure_by_status(const http::Head& head) const;
  void begin_answer(const http::Head& head);
  AnswerContext answer_context() const;
  void remember_response();
  bool heed(Relayed relayed);
  void first_byte_relayed();
  void begin_relaying(bool good);
  void end_attempt();
  void end_answer(std::string_view trailers);

  // ---- a stream that goes on at another endpoint: ResumeOwner ----
  bool resumes(AttemptFailure failure);
  openai::ResumeObstacle prepare_resume();
  void leave_attempt();
  void ask_again();
  void limit_pauses();
  bool tell_seam();
  void on_resume_turn() override;
  void on_resume_connected() override { on_connected(); }
  void on_resume_ended() override { end_attempt(); }
  void on_resume_next() override;
  bool on_resumed(std::string_view events, bool first) override;
  void on_resume_over() override;
  void on_resume_failed(AttemptFailure failure, bool on) override;
  void on_resume_given_up(openai::ResumeObstacle why) override;

  // ---- a session after a 101: TunnelOwner ----
  void begin_tunnel(const http::Head& head);
  void break_tunnel(AttemptFailure failure);
  void end_tunnel(ErrorCode why);
  void on_tunnel_over(TunnelOutcome how) override;
  void on_tunnel_ending() override;

  // ---- another endpoint ----
  bool try_again(AttemptFailure failure);
  void go_elsewhere(bool load_stays);
  void go_back(Duration pause);
  bool waits_for(uint32_t slot, uint32_t incarnation) const;
  void on_total_deadline();
  void on_attempt_deadline();

  // ---- the ends. Each of these is the last thing that its caller does with the exchange ----
  void respond(const OwnAnswer& own);
  void refuse(ErrorCode code) { respond({.error = code}); }
  void answer_failed();
  void break_stream(AttemptFailure failure, bool whole_chunks);
  void count_break(AttemptFailure failure);
  void break_off(ErrorCode why, bool whole_chunks);
  void cut_off(ErrorCode why);
  void lose_client();
  void finish(Outcome outcome);
  // Their helpers.
  downstream::Responder& let_go_of_client() { return *std::exchange(client_, nullptr); }
  std::string_view shown_endpoint() const;
  void learn();
  void report(Outcome outcome, Instant now);
  void reset();

  bool started() const { return answer_.has_value() && answer_->started(); }
  bool under_way() const { return attempt_.has_value() && attempt_->under_way(); }
  bool between_chunks() const { return under_way() && attempt_->connection().between_chunks(); }

  Gateway& gateway_;
  Context& context_;
  Step step_ = Step::free;
  uint16_t own_status_ = 0;       // of an answer of the gateway's own
  bool relaying_ = false;         // a byte of the answer has gone to the client
  bool counted_running_ = false;  // the observer was told that it runs
  bool reads_refusal_ = false;    // the answer is a 503 whose body is read first: the server may only be full
  ErrorCode tunnel_end_ = ErrorCode::shutting_down;  // why the gateway itself ends a tunnel
  bool fresh_connection_ = false;  // the next attempt must not reuse a connection: the last one lost a reuse race
  downstream::Responder* client_ = nullptr;  // null once it is gone or answered
  std::optional<Attempt> attempt_;           // from the first one on
  std::optional<Answer> answer_;             // of the current attempt, from its head on
  std::unique_ptr<Tunnel> tunnel_;           // instead, from a 101 on
  std::unique_ptr<Resume> resume_;           // from the first break of a stream that may go on
  std::optional<Intake> intake_;
  std::optional<Placement> placement_;
  net::Timer total_deadline_, attempt_deadline_;

  // Memory that the parts of one exchange leave to those of the next.
  Intake::Kept intake_kept_;
  Attempt::Kept attempt_kept_;
  Answer::Kept answer_kept_;

  // For the record.
  uint32_t running_as_ = no_kind;  // its number there, for the observer
  uint32_t own_bytes_ = 0;         // of the body of an answer of the gateway's own
  const char* reason_ = "";
  Instant began_{}, request_read_{}, first_byte_{};
  Duration connect_time_{0};
};

}  // namespace penstock::proxy
