// Placement: where a request goes, and when. It admits the request or holds it until there is room, lets routing choose
// an endpoint, reserves the load there, remembers what was tried, and gives up the request's place for one of higher
// priority. It forwards nothing: whoever owns it connects to endpoint(), says how that went, and asks again.
//
//   admit()   once; then, for each attempt, route(), and how the endpoint answered: answered_well(), refused(),
//             claim() and leave_endpoint() after a failure, or await_endpoint(), first_byte(); at last finish().
//
// Destroying it releases what is reserved and leaves the queues. Call Gateway::room_made() then.
// Thread: its shard's. Lifetime: one request, within that of its Intake.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "failures.h"
#include "intake.h"
#include "penstock/admission/programs.h"
#include "penstock/openai/usage.h"
#include "penstock/proxy/hold_queue.h"
#include "second_opinion.h"
#include "verdict.h"

namespace penstock::proxy {

class PlacementEvents {
 public:
  virtual void on_room() = 0;                        // it was held, and may go on now
  virtual void on_held_too_long(ErrorCode why) = 0;  // likewise, but it must be refused
  virtual void on_evicted() = 0;                     // its place is needed for higher priority

 protected:
  ~PlacementEvents() = default;
};

class Placement;

// Its entry in the hold queue, while it is held.
struct HeldPlacement final : HeldRequest {
  HeldPlacement(Placement& placement, PlacementEvents& to);
  PlacementEvents& events;
  net::Timer time_limit;
  std::string pool;             // its name
  std::vector<uint64_t> chain;  // block hashes of `prompt`
};

// Its entry among the running requests that may be evicted.
struct EvictablePlacement final : RunningRequest {
  EvictablePlacement(PlacementEvents& to, int priority) : RunningRequest(priority), events(to) {}
  PlacementEvents& events;
};

class Placement {
 public:
  Placement(Gateway& gateway, Context& context, const Intake& intake, PlacementEvents& events);
  ~Placement();

  // ---- the steps ----
  Verdict admit();
  Verdict route();

  // ---- where it is ----
  // Of the current or last attempt; null before the first.
  endpoints::EndpointState* endpoint() const { return endpoint_; }
  // Header fields ("name: value\r\n"...) that tell the endpoint who prefills and encodes; "": it does all itself.
  const std::string& stage_fields() const { return stage_fields_; }
  uint32_t attempts() const { return attempts_; }
  uint32_t attempts_spent() const { return attempts_ - attempts_unsent_; }  // of Intake::attempts_max()
  // For x-penstock-explain; null: not asked for.
  const std::string* explanation() const { return explanation_.get(); }
  ErrorCode last_failure() const { return last_failure_; }

  // ---- how the endpoint answers ----
  // A good answer to what was sent at `sent` has begun.
  void answered_well(Instant sent);
  // It has answered with a 4xx status. True: another endpoint is to be asked before the client sees that.
  bool refused(const http::Head& answer);
  // A server that is full says how long it wants to be left alone.
  void heed_retry_after(const http::Head& answer);
  void first_byte(Instant now, bool good);  // of its answer was relayed; `good`: status below 400
  void succeeded();
  void stored_response(uint64_t key);  // its answer has told its id
  void penalise(AttemptFailure failure) { penalise(info_of(failure).blame, info_of(failure).name); }
  void penalise(Blame blame, std::string_view reason);  // `reason` is for the log
  // The attempt has failed: whether the request may go elsewhere. Takes a retry from the budget if it needs one.
  bool claim(AttemptFailure failure);
  // It may not, for there is no other endpoint. Where one may be ready in a moment, the request goes back to where it
  // was before the first attempt: call admit() after the pause that this returns. Nothing: the failure stands, and
  // nothing has changed.
  std::optional<Duration> await_endpoint(AttemptFailure failure);
  // A stream that has begun is to go on: routes it to another endpoint, whatever was tried before, or to the same one
  // if no other is ready. False: there is none; it stays where it was.
  bool route_on();
  // Then: gives up the endpoint. `load_stays`: it has answered, only not well (see SecondOpinion).
  void leave_endpoint(bool load_stays);

  // ---- the end ----
  struct End {
    HoldOutcome if_held;
    bool ok;       // a whole good answer was relayed
    bool started;  // some of an answer was
    std::optional<openai::Usage> usage;
    uint64_t tokens;  // of the answer, as far as known
  };
  void finish(const End& end);
  // What is known of it for the record of an exchange that began then.
  void describe(ExchangeRecord& record, Instant began) const;

 private:
  friend HeldPlacement;
  const endpoints::Pool* pool() const;
  // admit()
  bool take_tunnel();
  Verdict find_room();
  Verdict wait_for_room(const endpoints::Pool& pool, Instant deadline);
  void on_hold_deadline();
  void leave_queue(HoldOutcome outcome);
  void make_evictable();
  void count_program(Instant now);
  void charge_program(const End& end, Instant now);
  // route()
  Verdict choose(bool resumes);
  routing::Features features(const endpoints::Pool* pool);
  routing::Decision decide(const routing::Features& wanted, const endpoints::Pool* pool, Instant now,
                           routing::Explanation* why);
  void follow_response();
  void take(const routing::Decision& decision, const routing::Features& wanted, Instant now);
  void reserve(const routing::Decision& decision, const routing::Features& wanted, Instant now);
  void keep_plan(const routing::Decision& decision);
  Verdict refuse_unrouted(routing::NoEndpoint why) const;
  // retries
  void mark_tried();
  enum class Next : uint8_t { none, ejected, ready };
  Next next_endpoint();
  bool ask_elsewhere(const http::Head& answer);
  bool return_to_refuser();
  SecondOpinion& opinion();
  void forget_prompt();

  Gateway& gateway_;
  Context& context_;
  const Intake& intake_;
  PlacementEvents& events_;

  std::unique_ptr<HeldPlacement> held_;
  admission::Programs::Ticket program_;            // from the first decision on
  std::unique_ptr<EvictablePlacement> evictable_;  // likewise, for a negative priority

  endpoints::EndpointState* endpoint_ = nullptr;
  routing::Reservation reservation_;
  routing::Reservation prefill_reservation_;  // on the endpoint that computes the prompt, if not `endpoint_`
  std::unique_ptr<SecondOpinion> opinion_;    // made when it is first needed
  std::string stage_fields_;
  // Endpoints already tried, and those to try next. Their states may be gone: only compared with candidates, never
  // used.
  std::vector<endpoints::EndpointState*> tried_, planned_;
  uint32_t attempts_ = 0;
  uint32_t attempts_unsent_ = 0;  // of them, those that do not count because no connection could be made
  uint32_t matched_blocks_ = 0, prompt_blocks_ = 0, prompt_block_tokens_ = 0;
  bool has_tunnel_ = false;  // counted in Gateway::tunnels_
  uint8_t returns_ = 0;      // from await_endpoint() to admit()
  routing::Prediction predicted_;
  Instant predicted_at_{};
  std::unique_ptr<std::string> explanation_;
  ErrorCode last_failure_ = ErrorCode::no_endpoint;
  Duration route_cost_{0}, hold_time_{0};
};

}  // namespace penstock::proxy
