// Upper bounds of histogram buckets. Those named epp_* are part of the interface that dashboards know, the odd 32778
// included; do not correct them.
#pragma once

#include <array>
#include <cstddef>

namespace penstock::observability {

// `N` powers of two beginning with `first`.
template <size_t N>
constexpr std::array<double, N> powers_of_two(double first) {
  std::array<double, N> out{};
  for (size_t i = 0; i < N; ++i, first *= 2) out[i] = first;
  return out;
}

// clang-format off
inline constexpr double epp_general_seconds[] = {
    .005, .025, .05, .1, .2, .4, .6, .8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120, 180, 240, 300,
    360, 480, 600, 900, 1200, 1800, 2700, 3600};
inline constexpr double epp_time_per_token_seconds[] = {
    .0005, .00205, .005, .01, .02, .04, .06, .08, .1, .125, .15, .2, .3, .4, .5, .6, .8, 1, 1.5, 2, 3, 4.5, 6, 12, 18,
    24, 30, 36, 48, 60, 90, 120, 180, 270, 360};
// llm-d's newer names have fewer buckets of two of them.
inline constexpr double epp_first_token_seconds[] = {
    .005, .025, .05, .1, .2, .4, .6, .8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120};
inline constexpr double epp_stream_token_seconds[] = {
    .0005, .00205, .005, .01, .02, .04, .06, .08, .1, .125, .15, .2, .3, .4, .5, .6, .8, 1, 2};
inline constexpr double epp_inter_token_seconds[] = {
    .001, .005, .01, .02, .04, .06, .08, .1, .15, .2, .3, .5, .75, 1, 2};
inline constexpr double epp_processing_seconds[] = {
    .0005, .001, .002, .005, .01, .015, .025, .04, .06, .1, .25, .5, 1, 2.5, 5, 10};
inline constexpr double epp_normalized_seconds[] = {.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10};
inline constexpr double epp_decision_seconds[] = {.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1};
inline constexpr double epp_flow_queue_seconds[] = {
    .0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60};
inline constexpr double epp_eviction_seconds[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};  // llm-d's
inline constexpr double epp_input_tokens[] = {
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536, 131072, 262144, 524288, 1048576};
inline constexpr double epp_output_tokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192};
inline constexpr double epp_response_bytes[] = {
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536};
inline constexpr double epp_hit_bytes[] = {0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
inline constexpr double epp_hit_ratio[] = {0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1};
inline constexpr double kv_lookup_seconds[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};  // of llm-d's
inline constexpr auto epp_request_bytes = powers_of_two<25>(64);

// Our own.
inline constexpr double inter_token_seconds[] = {
    .001, .002, .005, .01, .015, .02, .025, .03, .04, .05, .06, .08, .1, .15, .2, .3, .5, 1, 2, 5, 10};
inline constexpr double stage_seconds[] = {
    .00001, .00002, .00005, .0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300};
// clang-format on

}  // namespace penstock::observability
