// Intake: what the client has asked for, and what the configuration makes of it. The head and the body of the request,
// its route rule, its pool, the parsed body, and the name that the pool uses for the model. It knows nothing of
// endpoints' connections and nothing of the answer. Its steps are called in the order of the declarations; what they
// read of the snapshot stays valid within one turn only, and is not kept.
// Thread: its shard's. Lifetime: one request.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "heads.h"
#include "penstock/downstream/connection.h"
#include "penstock/net/buffer.h"
#include "penstock/openai/request.h"
#include "penstock/proxy/gateway.h"
#include "verdict.h"

namespace penstock::proxy {

// A model's name as a message cites it: quoted, and no longer than a message should be.
std::string cited_model(std::string_view name);

class Intake {
 public:
  // Memory that one request leaves to the next. Cleared.
  struct Kept {
    ForwardedHead head;
    openai::Request request;
    std::string target_model;
    void recycle();
  };
  Intake(Context& context, Kept& kept);

  // ---- the steps ----
  // `head` stays valid until choose_rule().
  Verdict begin(downstream::Responder& client, const http::Head& head);
  Verdict take_body(std::string_view bytes);
  void complete() { complete_ = true; }
  Verdict choose_rule();
  Verdict parse();
  Verdict choose_pool();
  void drop_body() { body_.reset(); }  // it has been sent, and no other attempt will follow

  // ---- the request ----
  const ForwardedHead& head() const { return head_; }
  const openai::Request& request() const { return request_; }
  const net::BodyBuffer& body() const { return body_; }
  uint64_t bytes() const { return bytes_; }  // of the body, as received
  bool is_complete() const { return complete_; }
  bool is_head() const { return head_request_; }
  const std::string& client_ip() const { return client_ip_; }
  downstream::Protocol protocol() const { return head_.protocol; }
  bool shows_endpoint() const { return shows_endpoint_; }  // the client may know which endpoint answers
  bool explains() const { return head_.explain; }
  bool inference() const { return inference_; }  // it was parsed for a model
  bool model_read() const { return model_read_; }
  // As far as is known: it waits for room, and may be shed or evicted.
  bool costs_work() const { return costs_work_; }
  std::string_view session() const;
  std::string_view fairness_id() const;
  uint64_t named_response() const;  // response_key() of the stored response that it names; 0: none

  // ---- what the configuration makes of it ----
  std::optional<uint32_t> pool_id() const { return pool_id_; }  // a pool has the same id in all snapshots
  int priority() const { return priority_; }
  uint32_t prompt_tokens() const { return prompt_tokens_; }  // estimate
  const std::string& target_model() const { return target_model_; }
  bool model_renamed() const { return model_read_ && target_model_ != request_.model; }
  // The endpoint is asked for the ids of the tokens that it makes, so that another one can go on behind just these. The
  // client does not get them.
  bool wants_token_ids() const { return wants_token_ids_; }
  // "" for a model that no endpoint lists: any may be chosen, and its engine accepts or refuses the model.
  std::string_view routed_model() const { return model_listed_ ? std::string_view(target_model_) : ""; }
  // The client's name for the model, as a metric label. "" for names that no endpoint serves: a client must not be able
  // to create labels.
  std::string_view counted_model() const { return model_listed_ ? std::string_view(request_.model) : ""; }
  RequestKind kind() const;
  RequestKind counted_kind() const;  // likewise, with counted_model()
  uint64_t kind_number() const;      // routing::Features::kind
  std::span<const objects::HeaderChange> answer_changes() const { return answer_changes_; }
  Duration time_limit() const { return time_limit_; }        // for the whole exchange; 0: none
  Duration attempt_limit() const { return attempt_limit_; }  // for one attempt; 0: none
  uint32_t attempts_max() const { return attempts_max_; }

 private:
  ErrorCode identify_client(downstream::Responder& client, const http::Head& head);
  std::string body_limit_message() const;
  openai::ScanFailure scan(openai::Api api);
  void read_session();
  uint32_t estimate_tokens() const;
  void forget_parsed();
  Verdict refuse_model(std::string_view model) const;
  void apply_limits(const objects::Route& route);
  Verdict apply_filters(const objects::RouteFilters& filters);
  Verdict apply_backend_filters(const objects::RouteBackend& backend);
  Verdict redirect(const objects::Redirect& to) const;
  const endpoints::Pool* pick_pool(const endpoints::Snapshot& snapshot, const objects::RouteBackend* backend,
                                   ErrorCode* refusal);
  const endpoints::Pool* pool_of_response(const endpoints::Snapshot& snapshot) const;
  std::string_view model_for_pool();
  bool has_json() const;
  void scan_unknown_path();
  bool reads_model(const endpoints::Pool& pool);
  uint64_t choice_number(uint64_t purpose);
  bool needs_token_ids(const endpoints::Pool& pool) const;
  void name_model(const endpoints::Pool& pool);
  void rewrite_model(const endpoints::Pool& pool);
  Verdict answer_models(const endpoints::Snapshot& snapshot) const;

  Context& context_;
  const http::Head* received_ = nullptr;  // the head as it was received; until the rule is chosen
  const objects::Route* rule_ = nullptr;  // of this turn's snapshot; until the pool is chosen, in the same turn
  ForwardedHead& head_;
  openai::Request& request_;
  std::string& target_model_;  // after a rewrite
  std::string client_ip_;
  net::BodyBuffer body_;
  uint64_t announced_body_ = 0;  // Content-Length of the request
  uint64_t bytes_ = 0;
  bool head_request_ = false, complete_ = false;
  bool inference_ = false, costs_work_ = false;
  bool path_allowed_ : 1 = false;  // for clients, by the options
  bool path_named_ : 1 = false;    // the route's rule names the path that is forwarded, which allows it
  bool model_read_ = false;        // the body's model was read; it may be renamed
  bool model_listed_ = false;      // some endpoint lists the target model, or does not say what it serves
  bool wants_token_ids_ = false;
  bool shows_endpoint_ = true;
  bool starved_ = false;   // the memory budget did not allow the body to be scanned
  uint16_t listener_ = 0;  // the number of the one that it came to
  uint32_t prompt_tokens_ = 0;
  std::optional<uint32_t> pool_id_;
  int priority_ = 0;
  uint32_t attempts_max_;
  std::shared_ptr<const objects::RouteTable> route_table_;  // keeps answer_changes_ alive
  std::span<const objects::HeaderChange> answer_changes_;
  Duration time_limit_, attempt_limit_{0};
};

}  // namespace penstock::proxy
