// Polls one endpoint: metrics, health and models, one request at a time over one keep-alive connection.
#pragma once

#include <string>

#include "penstock/discovery/directory.h"
#include "penstock/discovery/metrics_scanner.h"

namespace penstock::discovery {

class EndpointPoller final : public upstream::ResponseSink {
 public:
  EndpointPoller(Directory& directory, EndpointSpec spec, endpoints::EndpointState& state, const net::Address& address);
  ~EndpointPoller();

  const EndpointSpec& spec() const { return spec_; }
  const endpoints::EndpointView& view() const { return view_; }
  endpoints::EndpointState& state() { return *view_.state; }
  bool probed() const { return probed_; }
  PollStatus status() const;
  // Starts whatever is due, if nothing is under way.
  void poll(Instant now, bool traffic);

 private:
  enum class Task : uint8_t { none, metrics, health, models };

  void start(Task task, const std::string& path);
  void on_response_head(http::Head& head) override;
  void on_response_data(std::string_view decoded) override;
  void on_response_raw(std::string_view) override {}
  void on_response_end() override;
  void on_response_failed(upstream::Failure failure, bool received, bool reused) override;

  void metrics_done();
  void models_done();
  void alive();
  void not_alive(bool certain);
  void set_readiness(endpoints::Readiness readiness);

  static constexpr size_t models_bytes_max = 1024 * 1024;

  Directory& directory_;
  EndpointSpec spec_;
  upstream::Target target_;
  endpoints::EndpointView view_;
  MetricsScanner scanner_;
  upstream::Connection* attempt_ = nullptr;
  Task task_ = Task::none;
  bool retried_ = false;  // after a reuse race
  uint16_t status_code_ = 0;
  std::string request_, body_;
  int64_t requests_at_start_ = 0;
  Instant next_metrics_{}, next_health_{}, next_models_{};
  uint32_t failures_in_a_row_ = 0;
  bool probed_ = false;
  PollStatus status_;
};

}  // namespace penstock::discovery
