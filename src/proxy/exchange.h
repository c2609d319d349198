// Exchange: one client request and all that happens to it, from its head to the last byte of its answer.
// advance() lists the steps of the journey in order; everything else is one of these steps, an event that lets the
// journey go on, or one of the ways in which it ends. finish() runs exactly once and alone tells the observer.
// Where to find what: exchange_pool.cc has the choice of rule, pool and the model's name, exchange_admit.cc the wait
// for room, exchange_prompt.cc what routing is told of the prompt and what it plans, exchange_reframe.cc the answers
// whose framing changes, exchange_retry.cc attempts that fail, exchange_ends.cc the ends, and exchange.cc all that is
// left. Thread: its shard's. Owned and reused by the shard's Gateway.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "answer_watch.h"
#include "heads.h"
#include "penstock/net/buffer.h"
#include "penstock/openai/model_restorer.h"
#include "penstock/proxy/error.h"
#include "penstock/proxy/gateway.h"
#include "penstock/proxy/hold_queue.h"

namespace penstock::proxy {

class Exchange;

// What the hold queue knows an exchange by while it is held.
struct HeldExchange final : Held {
  explicit HeldExchange(Exchange& of) : exchange(of) {}
  Exchange& exchange;
  std::string pool;             // its name
  std::vector<uint64_t> chain;  // of `prompt`
};

// What it knows one by that runs and may be cut off for others.
struct RunningExchange final : Running {
  RunningExchange(Exchange& of, int priority) : Running(priority), exchange(of) {}
  Exchange& exchange;
};

// What only an answer needs that is read or changed as a whole, or in which the client's name for the model is
// restored.
struct ReframedAnswer {
  explicit ReframedAnswer(MemoryBudget& budget) : gathered(budget) {}
  openai::ModelRestorer restorer;
  net::BodyBuffer gathered;  // Framing::whole: the body so far
  uint64_t announced = 0;    // its bytes, when the head says so
};

class Exchange final : public net::Disposable,
                       public downstream::RequestHandler,
                       public ListNode<AttemptTag>,
                       private upstream::ResponseSink {
 public:
  Exchange(Gateway& gateway, Context& context);
  ~Exchange() override;

  // Begins the journey. False when it is already over (the request was refused by its head alone).
  [[nodiscard]] bool begin(downstream::Connection& client, const http::Head& head);
  // Of one that is held: it may go now.
  void on_room();
  // Of one that runs: its room is needed for one of higher priority.
  void on_evicted() { cut_off(ErrorCode::evicted); }
  // Of one whose answer has not begun: nobody answers at this endpoint.
  void on_silent(uint32_t slot, uint32_t incarnation);

 private:
  enum class Step : uint8_t {
    free,
    read_body,
    choose_rule,
    parse,
    choose_pool,
    admit,
    route,
    connect,
    await_answer,
    relay
  };
  enum class Progress : uint8_t {
    ready,    // the step is done: on to the next
    pending,  // an event will call advance() again
    ended,    // the exchange has ended: `this` must not be touched any more
  };

  void advance();
  Progress read_body();
  Progress choose_rule();
  Progress parse();
  Progress choose_pool();
  Progress admit();
  Progress find_room();
  Progress wait_for_room(const endpoints::Pool& pool, Duration time_to_live);
  void on_hold_deadline();
  void leave_queue(HoldOutcome outcome);
  void may_be_evicted();
  std::string_view fairness_id() const;
  void count_program(Instant now);
  void charge_program(const std::optional<openai::Usage>& usage, uint64_t answer_tokens, Instant now);
  Progress route();
  Progress connect();

  // downstream::RequestHandler
  void on_body(std::string_view bytes) override;
  void on_request_end() override;
  void on_request_failed(const downstream::RequestFailure& failure) override;
  void on_drained() override;
  void on_gone(downstream::Gone why) override;
  void on_ending() override;
  // upstream::ResponseSink
  void on_connected() override;
  void on_response_head(http::Head& head) override;
  void on_response_data(std::string_view decoded) override;
  void on_response_raw(std::string_view raw) override;
  void on_response_end() override;
  void on_response_failed(upstream::Failure failure, bool received, bool reused) override;

  bool head_acceptable(const http::Head& head, ErrorCode* refusal) const;
  std::string body_limit_message() const;
  uint32_t estimate_tokens() const;
  routing::Features features();
  uint32_t block_tokens() const;
  void hash_prompt(routing::Features& features);
  std::string_view adapter();
  void reserve(const routing::Decision& decision, const routing::Features& wanted, Instant now);
  void plan(const routing::Decision& decision);
  routing::Decision decide(const routing::Features& wanted, Instant now, routing::Explanation* why);
  bool anybody_left();
  std::string_view routed_model() const;
  // The client's name for the model, for gauges; names that nobody serves must not become labels.
  std::string_view counted_model() const { return model_listed_ ? std::string_view(request_.model) : ""; }
  void build_attempt();
  bool model_renamed() const { return model_read_ && target_model_ != request_.model; }
  bool restores_model(const http::Head& answer) const;
  bool can_read_refusal(const http::Head& answer) const;
  void begin_gathering(const http::Head& answer);
  ReframedAnswer& reframed();
  void begin_restoring(const http::Head& answer);
  void relay_reframed(std::string_view decoded);
  bool relay_chunk(std::string_view bytes, std::string_view after);
  void gather(std::string_view decoded);
  bool relay_whole();
  bool relay_end();
  std::optional<AttemptFailure> worth_another(const http::Head& answer) const;
  std::optional<AttemptFailure> given_up() const;
  bool leave_given_up();
  bool leave_refusal();
  bool try_again(AttemptFailure failure);
  bool claim_retry(AttemptFailure failure);
  void go_elsewhere();
  void penalise(routing::FailureKind kind, std::string_view reason);  // the reason: for the log
  bool relay(std::string_view before, std::string_view body, std::string_view after);
  void first_byte_relayed();
  void break_stream(AttemptFailure failure, bool whole_chunks);
  void break_off(ErrorCode why, bool whole_chunks);
  void cut_off(ErrorCode why);
  std::string error_event(ErrorCode why) const;
  void on_total_deadline();
  void on_attempt_deadline();

  // Of choose_rule() and choose_pool().
  Progress refused(ErrorCode code);
  Progress refuse_model(std::string_view model);
  void obey_limits(const objects::Route& route);
  Progress follow(const objects::RouteFilters& filters);
  Progress follow_backend(const objects::RouteBackend& backend);
  void redirect(const objects::Redirect& to);
  const endpoints::Pool* pick_pool(const endpoints::Snapshot& snapshot, const objects::RouteBackend* backend,
                                   ErrorCode* refusal);
  std::string_view model_for_pool();
  // As the head says, or as the body looks that the head gives another name.
  bool has_json() const { return head_.json ? !body_.empty() : looks_like_json(body_.view()); }
  openai::ScanFailure scan(openai::Api api);
  void forget_parsed();
  void scan_unknown();
  bool reads_model(const endpoints::Pool& pool);
  std::string_view session() const;
  uint64_t choice_number(uint64_t purpose);
  void name_model(const endpoints::Pool& pool);
  void rewrite_model(const endpoints::Pool& pool);
  bool answers_models(const endpoints::Snapshot& snapshot);
  void answer_json(std::string_view body);
  void end_with(std::string& answer, uint16_t status, std::string_view body);

  // The ends. Each is the last thing its caller does.
  void refuse(ErrorCode code, std::string_view message = {}, std::string_view param = {});
  void lose_client();
  void finish(Outcome outcome);
  void report(Outcome outcome, Instant now);
  void reset();

  Gateway& gateway_;
  Context& context_;
  Step step_ = Step::free;
  downstream::Connection* client_ = nullptr;  // null once it is gone or answered
  upstream::Connection* attempt_ = nullptr;   // null while no attempt is under way

  // What each chunk of the answer needs stands together: with thousands of streams it comes from memory each time.
  Framing framing_ = Framing::same;
  bool answer_started_ = false;  // a byte of the answer has gone to the client
  bool answer_keep_alive_ = false, running_ = false;
  bool restoring_ = false;      // the answer calls the model otherwise than the client does
  bool given_up_ = false;       // the endpoint said so in its answer, which was counted, and goes to the client
  bool reads_refusal_ = false;  // it refused with 503, and whether it is only full stands in the body
  uint16_t status_ = 0;
  uint64_t response_bytes_ = 0;
  AnswerWatch watch_;
  std::string answer_head_;  // held back until the first body byte, so that we can still retry
  net::Timer total_deadline_;

  // The request.
  const http::Head* request_head_ = nullptr;  // until the rule is chosen
  const objects::Route* rule_ = nullptr;      // of this turn's snapshot: until the pool is chosen, in the same turn
  ForwardedHead head_;
  std::string client_ip_;
  bool head_request_ = false, request_complete_ = false, inference_ = false;
  bool model_read_ = false;    // the body names a model that may get another name: of inference requests always
  bool model_listed_ = false;  // the target model is one that an endpoint lists
  bool starved_ = false;       // the budget did not let the body be read
  uint64_t announced_body_ = 0;
  net::BodyBuffer body_;
  openai::Request request_;
  std::string target_model_;    // after a rewrite
  uint32_t prompt_tokens_ = 0;  // estimate

  // Where it goes. A pool keeps its id from snapshot to snapshot.
  std::optional<uint32_t> pool_id_;
  int priority_ = 0;
  std::shared_ptr<const objects::RouteTable> route_table_;  // holds answer_changes_
  std::span<const objects::HeaderChange> answer_changes_;

  // While it is held.
  std::unique_ptr<HeldExchange> held_;
  net::Timer hold_deadline_;
  admission::Programs::Ticket program_;         // from the first endpoint that it goes to
  std::unique_ptr<RunningExchange> sheddable_;  // likewise, of negative priority and where flow control evicts

  // The attempts.
  std::string attempt_head_, spliced_model_;
  std::string stage_fields_;  // who prefills and encodes, for the endpoint; "" when it does all itself
  upstream::Request attempt_request_;
  routing::Reservation reservation_;
  routing::Reservation prefill_reservation_;      // where the prompt is computed, when not on `endpoint_`
  endpoints::EndpointState* endpoint_ = nullptr;  // of the current or last attempt
  std::array<endpoints::EndpointState*, attempts_limit> tried_{};
  std::array<endpoints::EndpointState*, attempts_limit> planned_{};  // where to go next; only compared with candidates
  net::Timer attempt_deadline_;
  Duration attempt_limit_{0};  // 0: none
  uint32_t attempts_max_ = 0;  // what retries may make of it
  uint32_t attempts_ = 0, tried_count_ = 0, planned_count_ = 0;
  bool fresh_connection_ = false;  // after a reuse race
  uint32_t matched_blocks_ = 0, prompt_blocks_ = 0, prompt_block_tokens_ = 0;
  routing::Prediction predicted_;
  Instant predicted_at_{};
  std::string explanation_;
  ErrorCode last_failure_ = ErrorCode::no_endpoint;

  std::unique_ptr<ReframedAnswer> reframed_;  // from the first answer that needs it

  // For the record.
  std::string_view reason_;
  Instant began_{}, request_read_{}, attempt_began_{}, attempt_sent_{}, first_byte_{};
  int64_t began_wall_us_ = 0;
  Duration route_cost_{0}, connect_time_{0}, hold_time_{0};
  uint64_t request_bytes_ = 0;
};

}  // namespace penstock::proxy
