// Polls one endpoint: metrics, health and models, one request at a time over one keep-alive connection. While the API
// server says that it is not ready, only its health, to know whether it is still the same process when it returns;
// while it drains, nothing.
#pragma once

#include <string>
#include <string_view>

#include "engine_choice.h"
#include "penstock/discovery/directory.h"
#include "penstock/discovery/metrics_scanner.h"

namespace penstock::discovery {

class EndpointPoller final : public upstream::ResponseSink {
 public:
  EndpointPoller(Directory& directory, const std::string& engine, endpoints::EndpointState& state,
                 const net::Address& address);
  ~EndpointPoller();

  // What set_pools() says of it: listed() for each place it has in a pool, then settle() when all are known; leave()
  // when there is none. Nothing is published from these.
  void listed(const EndpointSpec& spec, uint64_t round);
  uint64_t round() const { return round_; }
  void settle(bool slow_start);
  void leave();
  void set_engine(const std::string& engine);

  // As the pool sees it in which it is listed so.
  endpoints::EndpointView view(const EndpointSpec& spec) const;
  endpoints::EndpointState& state() { return *view_.state; }
  bool probed() const { return probed_ || !wanted(); }
  PollStatus status() const;
  // When poll() has something to do.
  Instant due(bool traffic) const;
  // Starts whatever is due, if nothing is under way.
  void poll(Instant now, bool traffic);

 private:
  enum class Task : uint8_t { none, metrics, health, models };
  enum class Alive : uint8_t { unknown, yes, no };

  Instant metrics_due(bool traffic) const;
  Task begin_task(Task task);  // the one before
  void start(Task task);
  void on_response_head(http::Head& head) override;
  void on_response_data(std::string_view decoded) override;
  void on_response_raw(std::string_view) override {}
  void on_response_end(std::string_view trailers) override;
  void on_response_failed(upstream::Failure failure, bool received, bool reused) override;
  void on_deadline();

  void health_done();
  void metrics_done();
  void not_believed();
  void no_metrics();
  void engine_changed();
  void tell_engine();
  void models_done();
  void no_models(const std::string& reason);
  void alive();
  // Keeps what is wrong with requests of the task; "": nothing any more.
  void note(Task task, const std::string& wrong);
  std::string_view path_of(Task task) const;
  const ApiKey* api_key() const;
  // What an answer's status says that is not 200.
  std::string refusal() const;
  // `certain`: one such probe is enough. `reason` is for the log: why the probe failed.
  void not_alive(bool certain, std::string_view reason);
  void set_alive(Alive alive, std::string_view reason = {});
  bool wanted() const { return !said_ || said_ == endpoints::Readiness::ready; }  // for requests
  void begin_anew(bool slow_start);
  void stop_polling();
  void start_slowly();
  void end_penalty();
  void lose_caches();

  static constexpr size_t models_bytes_max = 1024 * 1024;

  Directory& directory_;
  std::string configured_engine_;
  EngineChoice engine_;
  std::shared_ptr<const ApiKey> own_key_;  // null: that of the directory's options
  upstream::Target target_;
  endpoints::EndpointView view_;  // but for readiness, last_resort and labels
  uint64_t round_ = 0;
  std::optional<endpoints::Readiness> said_, heard_;  // by the API server, over all its places; heard_: in this round
  Alive alive_ = Alive::unknown;
  bool was_ready_ = false;  // something may be believed of its caches
  bool died_ = false;       // was seen dead since its caches were last given up
  MetricsScanner scanner_;
  upstream::Connection* attempt_ = nullptr;
  net::Timer deadline_;  // of the task: an answer must not only go on, but end
  Task task_ = Task::none;
  bool retried_ = false;  // after a reuse race
  uint16_t status_code_ = 0;
  std::string request_, body_;
  int64_t requests_at_start_ = 0, decoding_at_start_ = 0;  // ours there when the task began
  Instant next_metrics_{}, next_health_{}, next_models_{};
  Instant task_began_{};
  std::optional<Instant> unanswered_since_;  // when the last task began, if it got no answer
  uint32_t failures_in_a_row_ = 0;
  bool probed_ = false;
  bool told_of_no_metrics_ = false, told_of_no_models_ = false, told_of_implausible_ = false;  // in the log
  PollStatus status_;
};

}  // namespace penstock::discovery
