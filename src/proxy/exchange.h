// Exchange: one client request and all that happens to it, from its head to the last byte of its answer.
//
// advance() lists the steps of the journey in order. Every other function is part of one of these steps, an event that
// lets the journey continue, or one of the ways in which it ends. finish() runs exactly once; it alone reports the end
// to the observer. The declarations below are grouped by source file, in the order of the journey:
//
//   exchange.cc          the journey itself: read, parse, route, connect, relay
//   exchange_pool.cc     which route rule applies, which pool serves, and how that pool calls the model
//   exchange_admit.cc    limits, waiting for room, eviction
//   exchange_prompt.cc   what routing is told about the request, and what it decided beside the endpoint
//   exchange_reframe.cc  answers whose framing changes on the way
//   exchange_responses.cc  stored responses, which only one endpoint has
//   exchange_retry.cc    attempts that fail, and retries
//   exchange_refusal.cc  answers with a 4xx status, and second opinions on them
//   exchange_ends.cc     the ends
//
// Thread: its shard's. Lifetime: owned by the shard's Gateway, which reuses it.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "answer_watch.h"
#include "heads.h"
#include "penstock/net/buffer.h"
#include "penstock/openai/model_restorer.h"
#include "penstock/proxy/error.h"
#include "penstock/proxy/gateway.h"
#include "penstock/proxy/hold_queue.h"
#include "penstock/routing/refusals.h"

namespace penstock::proxy {

class Exchange;

// The exchange's entry in the hold queue, while it is held.
struct HeldExchange final : HeldRequest {
  explicit HeldExchange(Exchange& of) : exchange(of) {}
  Exchange& exchange;
  std::string pool;             // its name
  std::vector<uint64_t> chain;  // block hashes of `prompt`
};

// The exchange's entry among the running requests that may be evicted.
struct EvictableExchange final : RunningRequest {
  EvictableExchange(Exchange& of, int priority) : RunningRequest(priority), exchange(of) {}
  Exchange& exchange;
};

// State that only some answers need: those that are gathered before they are sent, and those in which the client's name
// for the model is restored.
struct ReframedAnswer {
  explicit ReframedAnswer(MemoryBudget& budget) : gathered(budget) {}
  openai::ModelRestorer restorer;
  net::BodyBuffer gathered;  // Framing::whole: the body so far
  uint64_t announced = 0;    // Content-Length of the answer; 0: none
};

// State that only some exchanges need: an endpoint has answered, but not well, and the request was tried elsewhere.
// What it reserved there stays until it has ended elsewhere, as if it ran there: an endpoint that fails fast must not
// look idle.
struct FirstAnswer {
  routing::Reservation reservation;
  routing::Refusal refusal;  // if it was one
};

class Exchange final : public net::Disposable,
                       public downstream::RequestHandler,
                       public ListNode<AttemptTag>,
                       private upstream::ResponseSink {
 public:
  Exchange(Gateway& gateway, Context& context);
  ~Exchange() override;

  // Begins the journey. False if it is already over: the request was refused because of its head.
  [[nodiscard]] bool begin(downstream::Connection& client, const http::Head& head);
  // The exchange was held, and may continue now.
  void on_room() { advance(); }
  // The exchange must end: its room is needed for a request of higher priority.
  void on_evicted() { cut_off(ErrorCode::evicted); }
  // This endpoint does not answer health probes. If the exchange waits for its first byte, it tries another endpoint.
  void on_silent(uint32_t slot, uint32_t incarnation);
  // It has answered none of them since then. If the exchange relays its answer, and has not heard of it since, the
  // answer is broken off.
  void on_silent_stream(uint32_t slot, uint32_t incarnation, Instant since);

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
    ready,    // the step is done: continue with the next
    pending,  // an event will call advance() again
    ended,    // the exchange has ended: `this` must not be touched any more
  };

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

  // ---- exchange.cc: the journey ----
  void advance();
  ErrorCode identify_client(const http::Head& head);
  bool head_acceptable(const http::Head& head, ErrorCode* refusal) const;
  std::string body_limit_message() const;
  Progress read_body();
  Progress parse();
  openai::ScanFailure scan(openai::Api api);
  uint32_t estimate_tokens() const;
  Progress route();
  routing::Decision decide(const routing::Features& wanted, Instant now, routing::Explanation* why);
  std::string_view routed_model() const;
  // The client's name for the model, as a metric label. "" for names that no endpoint serves: a client must not be able
  // to create labels.
  std::string_view counted_model() const { return model_listed_ ? std::string_view(request_.model) : ""; }
  void reserve(const routing::Decision& decision, const routing::Features& wanted, Instant now);
  Progress connect();
  void build_attempt();
  bool relay(std::string_view before, std::string_view body, std::string_view after);
  void first_byte_relayed();

  // ---- exchange_pool.cc: rule, pool and model name ----
  Progress choose_rule();
  Progress choose_pool();
  Progress refused(ErrorCode code);  // refuse(), as the result of a step
  Progress refuse_model(std::string_view model);
  Progress refuse_path();
  void refuse_unrouted(routing::NoEndpoint why);
  void apply_limits(const objects::Route& route);
  Progress apply_filters(const objects::RouteFilters& filters);
  Progress apply_backend_filters(const objects::RouteBackend& backend);
  const endpoints::Pool* pick_pool(const endpoints::Snapshot& snapshot, const objects::RouteBackend* backend,
                                   ErrorCode* refusal);
  std::string_view model_for_pool();
  // The body is announced as JSON, or looks like it although the head names another type.
  bool has_json() const { return head_.json ? !body_.empty() : looks_like_json(body_.view()); }
  void scan_unknown_path();
  bool reads_model(const endpoints::Pool& pool);
  std::string_view session() const;
  uint64_t choice_number(uint64_t purpose);
  void name_model(const endpoints::Pool& pool);
  void rewrite_model(const endpoints::Pool& pool);
  bool model_renamed() const { return model_read_ && target_model_ != request_.model; }
  bool answers_models(const endpoints::Snapshot& snapshot);

  // ---- exchange_admit.cc: limits, waiting for room, eviction ----
  Progress admit();
  Progress find_room();
  Progress wait_for_room(const endpoints::Pool& pool, Duration time_to_live);
  void on_hold_deadline();
  void leave_queue(HoldOutcome outcome);
  void make_evictable();
  std::string_view fairness_id() const;
  RequestKind kind() const;
  RequestKind counted_kind() const;  // likewise, with counted_model()
  void count_program(Instant now);
  void charge_program(const std::optional<openai::Usage>& usage, uint64_t answer_tokens, Instant now);

  // ---- exchange_prompt.cc: what routing is told, and what it decided beside the endpoint ----
  routing::Features features();
  void hash_prompt(routing::Features& features);
  std::string_view adapter();
  uint32_t block_tokens() const;
  void keep_plan(const routing::Decision& decision);

  // ---- exchange_reframe.cc: answers whose framing changes ----
  bool restores_model(const http::Head& answer) const;
  bool can_read_refusal(const http::Head& answer) const;
  ReframedAnswer& reframed();
  void begin_gathering(const http::Head& answer);
  void begin_restoring(const http::Head& answer);
  bool relay_reframed(std::string_view decoded);
  bool relay_good(std::string_view good, bool* whole_chunks);
  bool relay_chunk(std::string_view bytes, std::string_view after);
  void gather(std::string_view decoded);
  bool relay_whole();
  bool relay_end();

  // ---- exchange_responses.cc: stored responses ----
  uint64_t named_response() const;
  std::optional<ResponseOwners::Owner> owner_of_response() const;
  const endpoints::Pool* pool_of_response(const endpoints::Snapshot& snapshot) const;
  void follow_response();
  void remember_response();

  // ---- exchange_retry.cc: attempts that fail ----
  std::optional<AttemptFailure> failure_by_status(const http::Head& answer) const;
  void answer_failed(std::string_view good);
  bool retry_refusal();
  bool try_again(AttemptFailure failure);
  bool claim_retry(AttemptFailure failure);
  void mark_tried();
  enum class Next : uint8_t { none, ejected, ready };
  Next next_endpoint();
  void go_elsewhere(bool load_stays);
  uint32_t attempts_spent() const { return attempts_ - attempts_unsent_; }  // of attempts_max_
  void penalise(routing::FailureKind kind, std::string_view reason);        // `reason` is for the log

  // ---- exchange_refusal.cc: answers with a 4xx status ----
  uint64_t request_kind() const;
  bool consider_refusal(const http::Head& answer);
  void keep_reservation();
  void forget_prompt();
  bool ask_elsewhere(const http::Head& answer);
  void accepted();
  void announce(routing::Verdict verdict, endpoints::EndpointState& refuser);
  void heed_retry_after(const http::Head& answer);
  bool return_to_refuser();

  // ---- exchange_ends.cc: the ends. Each of these is the last thing that its caller does with the exchange ----
  void answer_json(std::string_view body);
  void redirect(const objects::Redirect& to);
  void send_own_answer(std::string& answer, uint16_t status, std::string_view body);
  void refuse(ErrorCode code, std::string_view message = {}, std::string_view param = {});
  void break_stream(AttemptFailure failure, bool whole_chunks);
  void break_off(ErrorCode why, bool whole_chunks);
  void cut_off(ErrorCode why);
  void lose_client();
  std::string_view shown_endpoint() const;
  void count_unsent(uint64_t unsent);
  void on_total_deadline();
  void on_attempt_deadline();
  void finish(Outcome outcome);
  // Their helpers.
  std::string error_event(ErrorCode why) const;
  void report(Outcome outcome, Instant now);
  void forget_parsed();
  void reset();

  Gateway& gateway_;
  Context& context_;
  Step step_ = Step::free;
  downstream::Connection* client_ = nullptr;  // null once it is gone or answered
  upstream::Connection* attempt_ = nullptr;   // null while no attempt is under way

  // What every chunk of an answer touches is kept together: with thousands of streams it is not in the CPU's cache.
  Framing framing_ = Framing::same;
  bool answer_started_ = false;  // a byte of the answer has gone to the client
  bool answer_keep_alive_ = false;
  bool counted_running_ = false;  // the observer was told that it runs
  bool restoring_ = false;        // the client's name for the model replaces the endpoint's in the answer
  // A refusal (4xx) by the endpoint of `first_answer_` is tried elsewhere once.
  enum class Opinion : uint8_t { none, asked, given } opinion_ = Opinion::none;
  bool reads_refusal_ = false;  // the answer is a 503 whose body is read first: the server may only be full
  uint16_t status_ = 0;
  uint64_t response_bytes_ = 0;
  AnswerWatch watch_;
  std::string answer_head_;  // held back until the first body byte, so that a retry stays possible
  net::Timer total_deadline_;

  // The request.
  const http::Head* request_head_ = nullptr;  // valid until the rule is chosen
  const objects::Route* rule_ = nullptr;  // of this turn's snapshot; valid until the pool is chosen, in the same turn
  ForwardedHead head_;
  std::string client_ip_;
  bool head_request_ = false, request_complete_ = false, inference_ = false;
  bool costs_work_ = false;      // as far as is known: it waits for room, and may be shed or evicted
  bool path_allowed_ = false;    // for clients, by the options
  bool model_read_ = false;      // the body's model was read; it may be renamed
  bool model_listed_ = false;    // some endpoint lists the target model, or does not say what it serves
  bool shows_endpoint_ = true;   // the client may know which endpoint answers
  bool starved_ = false;         // the memory budget did not allow the body to be scanned
  uint64_t announced_body_ = 0;  // Content-Length of the request
  net::BodyBuffer body_;
  openai::Request request_;
  std::string target_model_;    // after a rewrite
  uint32_t prompt_tokens_ = 0;  // estimate

  // Where it goes. A pool has the same id in all snapshots.
  std::optional<uint32_t> pool_id_;
  int priority_ = 0;
  std::shared_ptr<const objects::RouteTable> route_table_;  // keeps answer_changes_ alive
  std::span<const objects::HeaderChange> answer_changes_;

  // While it is held.
  std::unique_ptr<HeldExchange> held_;
  net::Timer hold_deadline_;
  admission::Programs::Ticket program_;           // from the first routing decision on
  std::unique_ptr<EvictableExchange> evictable_;  // likewise, for a negative priority

  // The attempts.
  std::string attempt_head_, spliced_model_;
  std::string stage_fields_;  // header fields that tell the endpoint who prefills and encodes; "": it does all itself
  upstream::Request attempt_request_;
  routing::Reservation reservation_;
  routing::Reservation prefill_reservation_;      // on the endpoint that computes the prompt, if not `endpoint_`
  endpoints::EndpointState* endpoint_ = nullptr;  // of the current or last attempt
  std::unique_ptr<FirstAnswer> first_answer_;     // made when an exchange first needs it, then kept
  // Endpoints already tried, and those to try next. Their states may be gone: only compared with candidates, never
  // used.
  std::vector<endpoints::EndpointState*> tried_;
  std::array<endpoints::EndpointState*, attempts_limit> planned_{};
  net::Timer attempt_deadline_;
  Duration attempt_limit_{0};  // a route's limit for one attempt; 0: none
  uint32_t attempts_max_ = 0;
  uint32_t attempts_ = 0, planned_count_ = 0;
  uint32_t attempts_unsent_ = 0;   // of them, those that do not count because no connection could be made
  bool path_named_ = false;        // the route's rule names the path that is forwarded, which allows it
  bool fresh_connection_ = false;  // the next attempt must not reuse a connection: the last one lost a reuse race
  uint32_t matched_blocks_ = 0, prompt_blocks_ = 0, prompt_block_tokens_ = 0;
  routing::Prediction predicted_;
  Instant predicted_at_{};
  std::unique_ptr<std::string> explanation_;  // for x-penstock-explain; null: not asked for
  ErrorCode last_failure_ = ErrorCode::no_endpoint;

  std::unique_ptr<ReframedAnswer> reframed_;  // made when an answer first needs it, then kept

  // For the record.
  std::string_view reason_;
  Instant began_{}, request_read_{}, attempt_began_{}, attempt_sent_{}, first_byte_{};
  int64_t began_wall_us_ = 0;
  Duration route_cost_{0}, connect_time_{0}, hold_time_{0};
  uint32_t running_as_ = no_kind;  // its number there, for the observer
  uint64_t request_bytes_ = 0;
};

}  // namespace penstock::proxy
