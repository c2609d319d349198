// The admin port (:9090): hands each request to observability's pages, and those for /metrics to the PageWriter.
// Thread: control.
#pragma once

#include "page_writer.h"
#include "penstock/base/memory_budget.h"
#include "penstock/downstream/connection.h"
#include "penstock/observability/admin.h"

namespace penstock::app {

class AdminService final : public downstream::Service {
 public:
  // `budget` is that of the port's connections.
  AdminService(net::EventLoop& loop, observability::AdminContext context, const MemoryBudget& budget);

  // While this says true, only probes are answered: there are more connections than the port should have.
  void set_crowded(std::function<bool()> crowded) { crowded_ = std::move(crowded); }
  uint64_t pages_refused() const { return pages_refused_; }

 private:
  class Request;
  downstream::RequestHandler* on_request(downstream::Responder& client, http::Head& head) override;
  void on_bad_head(downstream::Responder& client, const downstream::RequestFailure& failure) override;
  observability::AdminResponse answer_to(const observability::AdminRequest& request);
  bool has_room(size_t bytes) const;

  observability::AdminContext context_;
  const MemoryBudget& budget_;
  std::function<bool()> crowded_ = [] { return false; };
  PageWriter pages_;
  uint64_t pages_refused_ = 0;
};

}  // namespace penstock::app
