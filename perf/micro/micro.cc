// What one routing decision costs, and the parts that grow with the prompt: hashing it, looking it up in the prefix
// index and recording it there. Medians and minima of many repetitions; a steady state that allocates is an error. For
// counts that do not depend on what else the machine does, run one case twice with --count under callgrind and take the
// difference (docs/PERFORMANCE.md).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "penstock/routing/prefix_hash.h"
#include "penstock/routing/router.h"
#include "perf/common/flags.h"
#include "tests/support/allocations.h"

namespace penstock::perf {
namespace {

constexpr const char* usage =
    "micro: what a routing decision costs\n"
    "  --only TEXT    cases whose name contains this\n"
    "  --count N      run each case N times and say nothing of time (for callgrind; with --only)\n"
    "  --quick        few repetitions: do all cases work, and without allocating?\n";

using Clock = std::chrono::steady_clock;
constexpr Instant now{milliseconds(1000)};
constexpr size_t index_entries = size_t{1} << 22;  // what the product begins with
constexpr size_t prompts = 16;                     // taken in turn, so that no case lives in the first cache alone

volatile uint64_t sink = 0;  // what is computed must be used

struct Options {
  std::string only;
  uint64_t count = 0;
  bool quick = false;
};

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)) {}
  bool failed() const { return failed_; }
  bool wants(const std::string& name) const { return name.find(options_.only) != std::string::npos; }

  // `work`: what one run does, for throughput; its unit is the caller's. 0: only time counts.
  void run(const std::string& name, double work, const char* unit, const std::function<void(size_t)>& body) {
    if (!wants(name)) return;
    size_t turn = 0;
    const auto times = [&](uint64_t n) {
      for (uint64_t i = 0; i < n; ++i) body(turn++);
    };
    std::vector<double> seconds;
    seconds.reserve(repetitions_max);
    times(options_.count > 0 ? 1 : 2 * prompts);  // warm
    const uint64_t before = test::allocations();
    if (options_.count > 0) {
      times(options_.count);
    } else {
      measure(times, seconds);
    }
    const uint64_t allocated = test::allocations() - before;
    print(name, work, unit, seconds);
    if (allocated == 0) return;
    std::printf("%s: %llu allocations in steady state\n", name.c_str(), static_cast<unsigned long long>(allocated));
    failed_ = true;
  }

 private:
  static constexpr size_t repetitions_max = 101;

  template <typename Times>
  void measure(const Times& times, std::vector<double>& seconds) {
    const auto took = [&](uint64_t n) {
      const auto start = Clock::now();
      times(n);
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    uint64_t each = 1;
    while (!options_.quick && took(each) < 1e-3) each *= 2;
    for (size_t i = 0; i < (options_.quick ? 1 : repetitions_max); ++i) {
      seconds.push_back(took(each) / static_cast<double>(each));
    }
  }

  void print(const std::string& name, double work, const char* unit, std::vector<double>& seconds) const {
    if (seconds.empty() || options_.quick) return;
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    std::printf("%-44s %10.2f us median %10.2f us least", name.c_str(), median * 1e6, seconds.front() * 1e6);
    if (work > 0) std::printf(" %10.2f %s", work / median, unit);
    std::printf("\n");
    std::fflush(stdout);
  }

  Options options_;
  bool failed_ = false;
};

// A pool under load: paces learnt, gauges scraped, caches full of other prompts. Prompts share a system prompt of 32
// blocks, which many endpoints hold; the rest of each is held whole by one endpoint and in part by eight.
class Scene {
 public:
  Scene(size_t endpoints, size_t tokens) : index_(index_entries, routing::PrefixIndex::long_prompts), tokens_(tokens) {
    for (uint32_t i = 0; i < endpoints; ++i) add(i);
    std::vector<uint64_t> other(4096);
    for (size_t i = 0; i < 128; ++i) {
      for (uint64_t& block : other) block = random_.next();
      index_.record(other, static_cast<uint32_t>(random_.below(endpoints)));
    }
    std::vector<uint64_t> system(32);
    for (uint64_t& block : system) block = random_.next();
    for (size_t i = 0; i < prompts; ++i) {
      std::vector<uint64_t>& chain = chains_.emplace_back(system);
      chain.resize(tokens / 16);
      for (size_t block = system.size(); block < chain.size(); ++block) chain[block] = random_.next();
      for (size_t part = 1; part <= 8; ++part) hold(std::span(chain).first(chain.size() * part / 9));
      hold(chain);
    }
    for (uint32_t i = 0; i < std::min<size_t>(endpoints, 64); ++i) index_.record(system, i);
  }

  void hold(std::span<const uint64_t> blocks) {
    index_.record(blocks, static_cast<uint32_t>(random_.below(states_.size())));
  }
  routing::Features features(size_t turn) const {
    routing::Features features;
    features.model = "model";
    features.streaming = true;
    features.prompt_tokens = static_cast<uint32_t>(tokens_);
    features.blocks = chains_[turn % prompts];
    return features;
  }
  const endpoints::Pool& pool() const { return pool_; }
  routing::PrefixIndex& index() { return index_; }
  std::span<const uint64_t> chain(size_t turn) const { return chains_[turn % prompts]; }

 private:
  void add(uint32_t slot) {
    endpoints::EndpointState& state = states_.emplace_back();
    state.slot = slot;
    state.incarnation = slot + 1;
    state.name = "pod-" + std::to_string(slot);
    state.load.requests = static_cast<int64_t>(1 + random_.below(40));
    state.load.decoding = state.load.requests - 1;
    state.load.prefill_tokens = static_cast<int64_t>(random_.below(20'000));
    state.load.kv_tokens = static_cast<int64_t>(random_.below(300'000));
    state.pace.prefill_seconds = 5 + random_.unit();
    state.pace.prefill_tokens = 100'000;
    state.pace.prefills = 50;
    state.pace.prefill_xx = 4e8;
    state.pace.prefill_xy = 2e4;
    state.pace.answers = 50;
    state.pace.output_tokens = 10'000;
    endpoints::EndpointView& view = pool_.endpoints.emplace_back();
    view.state = &state;
    view.models = {"model"};
    view.metrics.known = true;
    view.metrics.scraped_at = now;
    view.metrics.waiting = static_cast<double>(random_.below(4));
    view.metrics.running = static_cast<double>(random_.below(40));
    view.metrics.kv_usage = random_.unit() * 0.9;
    view.metrics.block_size = 16;
    view.metrics.kv_blocks = 80'000;
  }

  Random random_{7};
  std::deque<endpoints::EndpointState> states_;
  endpoints::Pool pool_;
  routing::PrefixIndex index_;
  size_t tokens_;
  std::vector<std::vector<uint64_t>> chains_;
};

constexpr size_t token_counts[] = {1024, 32'768, 131'072};

void decide(Bench& bench) {
  for (const size_t endpoints : {10, 100, 1000}) {
    for (const size_t tokens : token_counts) {
      std::optional<Scene> scene;
      for (const auto policy : {routing::Policy::epp_default, routing::Policy::expected_cost}) {
        const auto profile = routing::make_profile(policy);
        const std::string name =
            "decide/" + profile->name + "/" + std::to_string(endpoints) + "/" + std::to_string(tokens);
        if (!bench.wants(name)) continue;
        if (!scene.has_value()) scene.emplace(endpoints, tokens);
        routing::Router router(*profile, scene->index(), 1);
        bench.run(name, 0, "", [&](size_t turn) {
          sink = sink + router.decide(scene->features(turn), scene->pool(), now, {}).matched_blocks;
        });
      }
    }
  }
}

// Many prompts, together far larger than the caches, against reading the same bytes.
void hash(Bench& bench) {
  std::string bytes(size_t{64} << 20, '\0');
  Random random(3);
  for (char& byte : bytes) byte = static_cast<char>(random.next());
  std::vector<uint64_t> chain;
  for (const size_t tokens : token_counts) {
    const size_t size = tokens * 4;
    const auto prompt = [&](size_t turn) { return std::string_view(bytes).substr(turn * size % bytes.size(), size); };
    for (const auto hash : {routing::ChainHash::xxh3, routing::ChainHash::xxh64}) {
      const char* const name = hash == routing::ChainHash::xxh3 ? "hash/" : "hash-xxh64/";
      bench.run(name + std::to_string(tokens), double(size) / 1e9, "GB/s", [&](size_t turn) {
        const std::string_view piece = prompt(turn);
        routing::hash_prompt("model", "", std::span(&piece, 1), {.hash = hash}, chain);
        sink = sink + chain.back();
      });
    }
    bench.run("read/" + std::to_string(tokens), double(size) / 1e9, "GB/s", [&](size_t turn) {
      const char* const at = prompt(turn).data();
      uint64_t sum = 0;
      for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word = 0;
        __builtin_memcpy(&word, at + i, 8);
        sum += word;
      }
      sink = sink + sum;
    });
  }
}

void index(Bench& bench) {
  std::vector<uint32_t> slots(100), matched(100);
  std::iota(slots.begin(), slots.end(), 0);
  for (const size_t tokens : token_counts) {
    Scene scene(100, tokens);
    const double blocks = double(tokens) / 16 / 1e6;
    const std::string suffix = "/" + std::to_string(tokens);
    bench.run("index/match" + suffix, blocks, "million blocks/s", [&](size_t turn) {
      scene.index().match(scene.chain(turn), slots, matched);
      sink = sink + matched[0];
    });
    bench.run("index/record again" + suffix, blocks, "million blocks/s",
              [&](size_t turn) { scene.index().record(scene.chain(turn), 5); });
    std::vector<uint64_t> fresh(scene.chain(0).begin(), scene.chain(0).end());
    Random random(9);
    bench.run("index/record new" + suffix, blocks, "million blocks/s", [&](size_t) {
      const uint64_t other = random.next();
      for (uint64_t& block : fresh) block = (block ^ other) * 0x9e3779b97f4a7c15ull;
      scene.index().record(fresh, 6);
    });
  }
}

int main(int argc, char** argv) {
  Flags flags(argc, argv, usage);
  Options options;
  options.only = flags.text("--only", "");
  options.count = flags.number("--count", 0);
  options.quick = flags.on("--quick");
  flags.finish();
  Bench bench(options);
  decide(bench);
  if (!options.only.starts_with("decide")) {
    hash(bench);
    index(bench);
  }
  return bench.failed() ? 1 : 0;
}

}  // namespace
}  // namespace penstock::perf

int main(int argc, char** argv) {
  return penstock::perf::main(argc, argv);
}
