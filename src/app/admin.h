// The admin port (:9090): hands each request to observability's pages. Thread: control.
#pragma once

#include "penstock/downstream/connection.h"
#include "penstock/observability/admin.h"

namespace penstock::app {

class AdminService final : public downstream::Service {
 public:
  explicit AdminService(observability::AdminContext context) : context_(std::move(context)) {}

 private:
  class Request;
  downstream::RequestHandler* on_request(downstream::Connection& connection, http::Head& head) override;
  void on_bad_head(downstream::Connection& connection, const downstream::RequestFailure& failure) override;

  observability::AdminContext context_;
};

}  // namespace penstock::app
