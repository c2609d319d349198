// What is counted of the requests of one kind, under the Endpoint Picker's names. Written by one shard's thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "penstock/base/stats.h"
#include "penstock/base/time.h"
#include "penstock/observability/buckets.h"
#include "penstock/proxy/observer.h"

namespace penstock::observability {

// The error codes of the Endpoint Picker: values of the label error_code.
enum class EppError : uint8_t { none, bad_request, resource_exhausted, service_unavailable, internal, model_server };
constexpr size_t epp_error_count = 6;
const char* to_string(EppError error);
EppError epp_error_of(proxy::Outcome outcome);

// Values of the label type of inference_objective_inference_request_metric.
enum class LastValue : uint8_t {
  ttft,
  ttft_slo_threshold,
  ttft_slo_violation,
  tpot,
  tpot_slo_threshold,
  tpot_slo_violation,
  predicted_ttft,
  predicted_tpot
};
constexpr size_t last_value_count = 8;
const char* to_string(LastValue value);

// Requests of one kind.
struct KindStats final : proxy::GapObserver {
  void gap(Duration time) override;
  // Of all kinds together, of the same shard.
  explicit KindStats(Histogram<inter_token_seconds>& all_gaps) : all_gaps_(all_gaps) {}

  Counter requests;  // that were given an endpoint
  // What the last request had, and when it ended (wall clock); 0: none did.
  struct Last {
    std::atomic<double> value{0};
    std::atomic<int64_t> at_us{0};
  };
  std::array<Last, last_value_count> last;
  Counter ttft_violations, tpot_violations;  // of what clients asked for
  std::array<Counter, epp_error_count> errors;
  Histogram<epp_general_seconds> duration;
  std::array<Histogram<epp_general_seconds>, 2> time_to_first_token;  // [1]: of streams
  Histogram<epp_inter_token_seconds> inter_token;
  Histogram<epp_time_per_token_seconds> time_per_output_token;
  // Of the streams whose latencies were predicted, and by how much predictions were off.
  Histogram<epp_general_seconds> predicted_ttft, predicted_ttft_error;
  Histogram<epp_time_per_token_seconds> predicted_tpot, predicted_tpot_error;
  Histogram<epp_normalized_seconds> normalized_time_per_output_token;
  Histogram<epp_request_bytes> request_bytes;
  Histogram<epp_response_bytes> response_bytes;
  Histogram<epp_input_tokens> input_tokens, cached_tokens;
  Histogram<epp_output_tokens> output_tokens;

 private:
  Histogram<inter_token_seconds>& all_gaps_;
};

}  // namespace penstock::observability
