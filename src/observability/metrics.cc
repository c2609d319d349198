#include "penstock/observability/metrics.h"

#include "families.h"
#include "metrics_parts.h"

namespace penstock::observability {

void export_metrics(std::string& out, const ExportInput& input) {
  Families families;
  add_epp_objective_metrics(families, input);
  add_epp_pool_metrics(families, input);
  add_epp_extension_metrics(families, input);
  add_flow_metrics(families, input);
  add_exchange_metrics(families, input);
  add_endpoint_metrics(families, input);
  add_kube_metrics(families, input);
  add_kv_events_metrics(families, input);
  add_process_metrics(families, input);
  add_newer_names(families);
  families.write(out);
}

}  // namespace penstock::observability
