// What the simulated engine counts, in the units of vLLM's metrics. Plain numbers; written by the engine alone.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace penstock::engine {

// A histogram over fixed upper bounds; values above the last one only count in count() and sum().
class Histogram {
 public:
  static constexpr size_t bounds_max = 24;
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds) {}
  void observe(double value) {
    ++count_;
    sum_ += value;
    for (size_t i = 0; i < bounds_.size(); ++i) {
      if (value <= bounds_[i]) {
        ++counts_[i];
        return;
      }
    }
  }
  std::span<const double> bounds() const { return bounds_; }
  uint64_t in_bucket(size_t i) const { return counts_[i]; }  // not cumulative
  uint64_t count() const { return count_; }
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;
  std::array<uint64_t, bounds_max> counts_{};
  uint64_t count_ = 0;
  double sum_ = 0;
};

// vLLM's bucket bounds.
inline constexpr double ttft_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                                         1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
inline constexpr double token_latency_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                                                  0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
inline constexpr double request_latency_bounds[] = {0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                                                    5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                                                    60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
inline constexpr double request_tokens_bounds[] = {1,   2,    5,    10,   20,    50,    100,   200,
                                                   500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
inline constexpr double step_tokens_bounds[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

struct EngineStats {
  uint64_t prompt_tokens = 0, generation_tokens = 0;
  uint64_t prefix_queries = 0, prefix_hits = 0;  // tokens
  uint64_t preemptions = 0, steps = 0;
  uint64_t finished_stop = 0, finished_length = 0, finished_abort = 0;
  Histogram time_to_first_token{ttft_bounds};
  Histogram inter_token_latency{token_latency_bounds};
  Histogram request_time_per_output_token{token_latency_bounds};  // mean of one answer
  Histogram e2e_latency{request_latency_bounds};
  Histogram queue_time{request_latency_bounds};
  Histogram prefill_time{request_latency_bounds};
  Histogram decode_time{request_latency_bounds};
  Histogram inference_time{request_latency_bounds};
  Histogram request_prompt_tokens{request_tokens_bounds};
  Histogram request_generation_tokens{request_tokens_bounds};
  Histogram request_max_tokens{request_tokens_bounds};
  Histogram step_tokens{step_tokens_bounds};
};

}  // namespace penstock::engine
