// The admin pages: a pure function from a request to an answer; app serves it on the control thread's listener.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/observability/decision_log.h"
#include "penstock/observability/metrics.h"

namespace penstock::observability {

struct AdminContext {
  // Gathers the present state; called only for pages that show it.
  std::function<ExportInput()> gather;
  // "" when ready to serve, else the reason why not ("draining", "endpoints not probed yet").
  std::function<std::string()> not_ready;
  std::vector<const DecisionLog*> decisions;  // by shard
};

struct AdminResponse {
  uint16_t status = 200;
  std::string_view content_type = "text/plain; charset=utf-8";
  std::string body;        // for HEAD too: its size is the answer's content-length
  std::string_view allow;  // value of the Allow field; "" when there is none
};

// /, /status, /metrics, /healthz, /readyz, /debug/decisions. `target` may have a query, which is ignored.
AdminResponse handle_admin(std::string_view method, std::string_view target, const AdminContext& context);

// What /status answers.
std::string status_json(const ExportInput& input, std::string_view not_ready);
// The page at /: reads /status every second and shows it. Self-contained.
std::string_view status_page();

}  // namespace penstock::observability
