#include "penstock/observability/metrics.h"

#include <memory>

#include "families.h"
#include "metrics_parts.h"

namespace penstock::observability {

PageText collect_metrics(const ExportInput& input) {
  const auto families = std::make_shared<Families>();
  add_epp_objective_metrics(*families, input);
  add_epp_pool_metrics(*families, input);
  add_epp_extension_metrics(*families, input);
  add_flow_metrics(*families, input);
  add_exchange_metrics(*families, input);
  add_endpoint_metrics(*families, input);
  add_tls_metrics(*families, input);
  add_kube_metrics(*families, input);
  add_kv_events_metrics(*families, input);
  add_process_metrics(*families, input);
  apply_epp_names(*families, input.names->page.epp_names);
  return [families](std::string& out) { families->write(out); };
}

void export_metrics(std::string& out, const ExportInput& input) {
  collect_metrics(input)(out);
}

}  // namespace penstock::observability
