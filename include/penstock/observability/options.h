// Options of the page of metrics.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock::observability {

// Which names the Endpoint Picker's metrics have on the page (metrics.epp_names): those of the Gateway API Inference
// Extension, which it always had; those that llm-d gave them in 0.9, which also tell requests apart by fairness id and
// priority; or both. A metric that has one name only is always there.
enum class EppNames : uint8_t { v1, llm_d, both };

// What bounds the page of metrics.
struct PageLimits {
  EppNames epp_names = EppNames::both;
  // Bytes of the page that names from clients may cause (limits.metrics_page), shared out to the tables of Names and to
  // FlowStats. What has no room is counted as "other".
  size_t bytes = size_t{1} << 30;
  size_t part(double share) const { return static_cast<size_t>(static_cast<double>(bytes) * share); }
};

}  // namespace penstock::observability
