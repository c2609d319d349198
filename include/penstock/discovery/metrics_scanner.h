// Reads what routing needs out of an engine's Prometheus text, in place and as it arrives: no document, no list of
// series, no allocation but for LoRA names. Lines of other families are skipped at the speed of memchr. Several series
// of one family (data-parallel engines behind one port) are added up; KV use is their mean.
// Pure; one thread; an object is reused from scrape to scrape.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/discovery/engines.h"
#include "penstock/endpoints/endpoint.h"

namespace penstock::discovery {

// A gauge beside those of the preset: the series of a family that have all of these labels.
struct CustomGauge {
  std::string family;
  EnginePreset::Labels labels;
};
using CustomGauges = std::shared_ptr<const std::vector<CustomGauge>>;  // null: none

// Which signals of the preset a scrape contained.
struct Signals {
  bool waiting = false, running = false, kv_usage = false, loras = false, block_size = false, kv_blocks = false;
  bool implausible = false;  // it reports a KV cache that no engine has: block_size and kv_blocks were not believed
  explicit operator bool() const { return waiting || running || kv_usage || loras || block_size || kv_blocks; }
};

class MetricsScanner {
 public:
  // A wanted line longer than this is dropped; unwanted ones may have any length.
  static constexpr size_t line_bytes_max = 64 * 1024;

  // `preset` must outlive the scanner.
  explicit MetricsScanner(const EnginePreset& preset, CustomGauges custom = nullptr);

  // Begins a new scrape.
  void reset();
  // The next bytes of the text, cut anywhere. Nothing is kept of `bytes` but the start of a wanted line.
  void feed(std::string_view bytes);
  // The text is complete. Sets what was found in `out` and leaves the rest as it was (a signal may be missing from one
  // scrape); `known`, `scraped_at` and `requests_at_scrape` are the caller's.
  Signals finish(endpoints::EngineMetrics& out);

  // The whole text at once.
  Signals scan(std::string_view text, endpoints::EngineMetrics& out);

 private:
  struct Sum {
    double total = 0;
    uint32_t series = 0;
  };
  class Labels;

  bool may_be_wanted(std::string_view start_of_line) const;
  void line(std::string_view text);
  bool wanted(std::string_view family) const;
  void custom_sample(std::string_view family, std::string_view labels, double value);
  void sample(const EnginePreset::Rule& rule, std::string_view labels, double value);
  void lora_sample(std::string_view labels, double value);
  void cache_config_sample(std::string_view labels);
  void cache_size(endpoints::EngineMetrics& out, Signals& found) const;

  const EnginePreset* preset_;
  CustomGauges custom_;           // not null
  std::vector<Sum> custom_sums_;  // one for each
  std::string carry_;             // start of a wanted line
  bool skipping_ = false;         // in the middle of an unwanted line
  std::array<Sum, 6> sums_{};     // by Signal, up to kv_blocks
  bool loras_found_ = false;
  double loras_value_ = 0;  // of the series that won
  std::vector<std::string> running_loras_, waiting_loras_;
  uint32_t max_loras_ = 0;
};

}  // namespace penstock::discovery
