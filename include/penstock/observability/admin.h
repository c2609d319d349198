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
  // Whether everybody may see what is else for this host alone (admin.debug).
  std::function<bool()> debug = [] { return false; };
};

struct AdminRequest {
  std::string_view method, target;  // a query is ignored
  bool local = false;               // from a loopback address
};

struct AdminResponse {
  uint16_t status = 200;
  std::string_view content_type = "text/plain; charset=utf-8";
  std::string body;        // for HEAD too: its size is the answer's content-length
  std::string_view allow;  // value of the Allow field; "" when there is none
  bool metrics = false;    // the body is the page of collect_metrics(), which takes long to write: the caller's work
};

// /, /status, /metrics, /healthz, /readyz, /debug/decisions. What shows details of requests or of the network is for
// requests from this host alone unless `debug`: /debug/* is refused (403), /status is reduced.
AdminResponse handle_admin(const AdminRequest& request, const AdminContext& context);
// A page that must be answered whatever else the admin port is asked: /healthz, /readyz.
bool is_probe(std::string_view target);
// A loopback address in digits, also as an IPv6 socket writes one of IPv4.
bool is_loopback(std::string_view ip);

// What /status answers. Reduced: without addresses, errors and objects of the cluster.
enum class StatusDetail : uint8_t { reduced, full };
std::string status_json(const ExportInput& input, std::string_view not_ready, StatusDetail detail = StatusDetail::full);
// The page at /: reads /status every second and shows it. Self-contained.
std::string_view status_page();

}  // namespace penstock::observability
