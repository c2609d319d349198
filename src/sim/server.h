// The simulated server: listens, makes exchanges, and drives the engine with one timer. An engine turn runs at the end
// of each loop turn in which something arrived or was due, so that requests that came together are batched together and
// each connection gets one write for all that is due to it. One thread, its loop's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "penstock/base/log.h"
#include "penstock/base/random.h"
#include "penstock/downstream/connection.h"
#include "sim/catalog.h"
#include "sim/exchange.h"
#include "sim/kv_publisher.h"
#include "sim/metrics.h"
#include "sim/options.h"

namespace penstock::sim {

class SimServer final : public downstream::Service {
 public:
  SimServer(net::EventLoop& loop, net::BlockPool& pool, const Options& options);
  ~SimServer();

  Result<net::Address> listen();
  const KvPublisher* kv_publisher() const { return kv_publisher_.get(); }  // null: it publishes nothing
  // SIGTERM: drains, or gives up what runs first, as the options say; ends by stopping the loop. A second call stops
  // at once.
  void shut_down();

  // ---- for exchanges ----
  net::EventLoop& loop() { return loop_; }
  MemoryBudget& budget() { return pool_.budget(); }
  const Options& options() const { return options_; }
  Engine& engine() { return engine_; }
  Catalog& catalog() { return catalog_; }
  FaultPlan& faults() { return faults_; }
  RequestReader& reader() { return reader_; }
  Request& scratch_request() { return scratch_request_; }
  std::string& scratch() { return scratch_; }
  std::string& scratch_body() { return scratch_body_; }
  // The exchange has something to flush after the next engine turn, which this brings about.
  void mark_dirty(Exchange& exchange);
  void give_back(Exchange& exchange);
  int64_t unix_time() { return loop_.clock().wall_time_us() / 1000000; }
  const std::string& date();  // for the Date header
  std::string new_id();
  std::string metrics_text();
  bool reset_cache();  // false: it is in use

 private:
  downstream::RequestHandler* on_request(downstream::Responder& client, http::Head& head) override;
  void on_bad_head(downstream::Responder& client, const downstream::RequestFailure& failure) override;
  void on_connections_changed(int delta) override;
  bool place(int fd);
  void run_engine();
  void note_loras();
  void on_step();
  void on_drain_deadline();
  void stop_when_drained();

  net::EventLoop& loop_;
  net::BlockPool& pool_;
  Options options_;
  Catalog catalog_;
  Engine engine_;
  std::unique_ptr<KvPublisher> kv_publisher_;
  FaultPlan faults_;
  RequestReader reader_;
  Random ids_;
  Request scratch_request_;
  std::string scratch_, scratch_body_, date_;
  int64_t date_second_ = -1;
  std::vector<LoraSeries> lora_series_;
  IntrusiveList<Exchange, DirtyTag> dirty_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;  // all
  std::vector<Exchange*> free_exchanges_;
  net::Timer step_, drain_deadline_;
  bool engine_turn_planned_ = false;
  bool shutting_down_ = false;
  downstream::Server server_;
};

}  // namespace penstock::sim
