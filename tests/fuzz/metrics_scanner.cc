// The metrics scanner, fed with anything: no engine's preset fails, and however the bytes are cut the result is the
// same.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "penstock/discovery/metrics_scanner.h"

namespace {

using penstock::discovery::built_in_engines;
using penstock::discovery::MetricsScanner;
using penstock::endpoints::EngineMetrics;

EngineMetrics scanned(MetricsScanner& scanner, std::string_view bytes, size_t step_max) {
  EngineMetrics metrics;
  std::minstd_rand random(static_cast<unsigned>(bytes.size()));
  scanner.reset();
  while (!bytes.empty()) {
    const size_t step = std::min<size_t>(bytes.size(), step_max == 0 ? bytes.size() : 1 + random() % step_max);
    scanner.feed(bytes.substr(0, step));
    bytes.remove_prefix(step);
  }
  scanner.finish(metrics);
  return metrics;
}

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (size_t i = 0; i < built_in_engines()->size(); ++i) {
    MetricsScanner scanner((*built_in_engines())[i]);
    const EngineMetrics whole = scanned(scanner, bytes, 0);
    require(whole.waiting >= 0 && std::isfinite(whole.waiting), "waiting is a count");
    require(whole.running >= 0 && std::isfinite(whole.running), "running is a count");
    require(whole.kv_usage >= 0 && whole.kv_usage <= 1, "KV use is a share");
    for (const size_t step_max : {1, 24}) {
      const EngineMetrics cut = scanned(scanner, bytes, step_max);
      require(cut.waiting == whole.waiting && cut.running == whole.running && cut.kv_usage == whole.kv_usage,
              "gauges do not depend on the cuts");
      require(
          cut.block_size == whole.block_size && cut.kv_blocks == whole.kv_blocks && cut.max_loras == whole.max_loras,
          "facts do not depend on the cuts");
      require(cut.running_loras == whole.running_loras && cut.waiting_loras == whole.waiting_loras,
              "adapters do not depend on the cuts");
    }
  }
  return 0;
}
