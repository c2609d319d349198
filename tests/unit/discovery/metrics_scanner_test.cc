#include "penstock/discovery/metrics_scanner.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

using namespace penstock;
using namespace penstock::discovery;
using endpoints::EngineMetrics;

namespace {

constexpr std::string_view vllm_text = R"(# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 11034.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen"} 14.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="qwen"} 3.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="qwen"} 0.6251234
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="qwen"} 1.25e+07
vllm:num_requests_waiting_total{engine="0"} 999
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="qwen"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="qwen"} 812.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",cpu_kvcache_space_bytes="None",engine="0",num_cpu_blocks="None",num_gpu_blocks="27218",sliding_window="None"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters="stale"} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql, chat",waiting_lora_adapters="code"} 1.7000001e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.6e+09
)";

const EnginePreset& preset(std::string_view engine = "vllm") {
  const EngineSet& engines = *built_in_engines();
  REQUIRE(engines.contains(engine));
  return engines[engines.find(engine)];
}

EngineMetrics scanned(std::string_view engine, std::string_view text, Signals* found = nullptr) {
  EngineMetrics metrics;
  MetricsScanner scanner(preset(engine));
  const Signals signals = scanner.scan(text, metrics);
  if (found != nullptr) *found = signals;
  return metrics;
}

double waiting_of(std::string_view line) {
  EngineMetrics metrics;
  metrics.waiting = -1;
  MetricsScanner scanner(preset());
  scanner.scan(line, metrics);
  return metrics.waiting;
}

bool same(const EngineMetrics& a, const EngineMetrics& b) {
  return a.waiting == b.waiting && a.running == b.running && a.kv_usage == b.kv_usage && a.block_size == b.block_size &&
         a.kv_blocks == b.kv_blocks && a.running_loras == b.running_loras && a.waiting_loras == b.waiting_loras &&
         a.max_loras == b.max_loras;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("vLLM: all signals") {
  Signals found;
  const EngineMetrics metrics = scanned("vllm", vllm_text, &found);
  CHECK(metrics.waiting == 3);
  CHECK(metrics.running == 14);
  CHECK(metrics.kv_usage == doctest::Approx(0.6251234));
  CHECK(metrics.block_size == 16);
  CHECK(metrics.kv_blocks == 27218);
  CHECK(metrics.running_loras == Names{"sql", "chat"});
  CHECK(metrics.waiting_loras == Names{"code"});
  CHECK(metrics.max_loras == 4);
  CHECK(!metrics.known);  // the caller's
  CHECK((found.waiting && found.running && found.kv_usage && found.block_size && found.kv_blocks && found.loras));
}

TEST_CASE("vLLM 0.32: more families and labels, whose names begin or end like those that are wanted") {
  Signals found;
  const EngineMetrics metrics = scanned("vllm", R"(# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_running{engine="0",model_name="m"} 14.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.001953125
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.795398468e+09
vllm:cache_config_info{_block_size_resolved="True",block_size="128",effective_attention_block_size="64",engine="0",hash_block_size="None",kv_cache_max_concurrency="128.0",kv_cache_size_tokens="1048576",mamba_block_size="None",num_cpu_blocks="None",num_gpu_blocks="8192",num_gpu_blocks_override="None",user_specified_block_size="False"} 1.0
)",
                                        &found);
  CHECK(metrics.waiting == 3);
  CHECK(metrics.running == 14);
  CHECK(metrics.kv_usage == 0.001953125);
  CHECK(metrics.block_size == 128);
  CHECK(metrics.kv_blocks == 8192);
  CHECK_FALSE(found.loras);
}

TEST_CASE("SGLang") {
  Signals found;
  const EngineMetrics metrics = scanned("sglang", R"(# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",tp_rank="0"} 162.0
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 2826.0
sglang:token_usage{model_name="m",tp_rank="0"} 0.28
sglang:cache_hit_rate{model_name="m"} 0.007507552643049313
sglang:cache_config_info{num_pages="51200",page_size="64"} 1.0
vllm:num_requests_waiting 5
)",
                                        &found);
  CHECK(metrics.waiting == 2826);
  CHECK(metrics.running == 162);
  CHECK(metrics.kv_usage == doctest::Approx(0.28));
  CHECK(metrics.block_size == 64);
  CHECK(metrics.kv_blocks == 51200);
  CHECK(!found.loras);
}

TEST_CASE("SGLang 0.5.23: the cache configuration is values") {
  const EngineMetrics metrics = scanned("sglang", R"(# TYPE sglang:page_size gauge
sglang:page_size{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 64.0
# TYPE sglang:num_pages gauge
sglang:num_pages{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 20000.0
)");
  CHECK(metrics.block_size == 64);
  CHECK(metrics.kv_blocks == 20000);
}

TEST_CASE("trtllm-serve: the cache configuration is values, not labels") {
  const EngineMetrics metrics = scanned("trtllm-serve", R"(# HELP trtllm_num_requests_waiting Waiting requests
trtllm_num_requests_waiting{engine_type="pytorch",model_name="m"} 7
trtllm_num_requests_running{engine_type="pytorch",model_name="m"} 9
trtllm_kv_cache_utilization{engine_type="pytorch",model_name="m"} 5e-1
trtllm_kv_cache_tokens_per_block{engine_type="pytorch"} 32
trtllm_kv_cache_max_blocks{engine_type="pytorch"} 12345
trtllm_kv_cache_hit_rate 0.9
)");
  CHECK(metrics.waiting == 7);
  CHECK(metrics.running == 9);
  CHECK(metrics.kv_usage == 0.5);
  CHECK(metrics.block_size == 32);
  CHECK(metrics.kv_blocks == 12345);
}

TEST_CASE("Triton with TensorRT-LLM: the label says which signal it is") {
  const EngineMetrics metrics = scanned("triton-tensorrt-llm", R"(# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 11
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 400
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 22
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.125
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 799
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 6392
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
)");
  CHECK(metrics.waiting == 11);
  CHECK(metrics.running == 22);
  CHECK(metrics.kv_usage == 0.125);
  CHECK(metrics.block_size == 64);
  CHECK(metrics.kv_blocks == 6392);
}

TEST_CASE("engines that are added: by gauges of their own, or with some of a known one's replaced") {
  EnginePreset own{.name = "atom", .rules = {}};
  own.replace(Signal::waiting, "atom:waiting", {});
  own.replace(Signal::running, "requests", {{"state", "running"}, {"tier", "gold"}});
  own.replace(Signal::cache_config, "atom:cache_config_info", {});
  EnginePreset vllm = preset();
  vllm.replace(Signal::waiting, "vllm:my_queue", {});
  vllm.replace(Signal::kv_usage, "vllm:my_usage", {});
  vllm.replace(Signal::loras, "", {});
  const EngineSet engines({own, vllm});
  REQUIRE(engines.size() == 5);
  CHECK(engines[0].name == "atom");
  CHECK(engines[0].prefix == "");
  CHECK(engines[1].name == "vllm");
  CHECK(engines[1].prefix == "vllm:");
  CHECK(engines[2].name == "sglang");
  CHECK_FALSE(engines.contains("llama"));

  EngineMetrics metrics;
  const char* const text =
      "\n# HELP\natom:waiting 4\nrequests{state=\"running\"} 1\nrequests{tier=\"gold\",state=\"running\"} 2\n"
      "atom:cache_config_info{block_size=\"32\",num_gpu_blocks=\"100\"} 1\nvllm:num_requests_waiting 9\n";
  MetricsScanner(engines[0]).scan(text, metrics);
  CHECK(metrics.waiting == 4);
  CHECK(metrics.running == 2);
  CHECK(metrics.block_size == 32);
  CHECK(metrics.kv_blocks == 100);

  metrics = {};
  const Signals found =
      MetricsScanner(engines[1])
          .scan(
              "vllm:my_queue 3\nvllm:num_requests_waiting 9\nvllm:num_requests_running 5\nvllm:my_usage 0.5\n"
              "vllm:gpu_cache_usage_perc 0.9\nvllm:lora_requests_info{running_lora_adapters=\"a\"} 1\n",
              metrics);
  CHECK(metrics.waiting == 3);
  CHECK(metrics.running == 5);
  CHECK(metrics.kv_usage == 0.5);
  CHECK_FALSE(found.loras);
}

TEST_CASE("data-parallel ranks behind one port are added up, KV use is their mean") {
  const EngineMetrics metrics = scanned("vllm", R"(vllm:num_requests_waiting{engine="0"} 1
vllm:num_requests_waiting{engine="1"} 2
vllm:num_requests_waiting{engine="2"} 4
vllm:num_requests_running{engine="0"} 10
vllm:num_requests_running{engine="1"} 20
vllm:num_requests_running{engine="2"} 30
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:kv_cache_usage_perc{engine="2"} NaN
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="1000"} 1
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="1200"} 1
)");
  CHECK(metrics.waiting == 7);
  CHECK(metrics.running == 60);
  CHECK(metrics.kv_usage == 0.5);
  CHECK(metrics.block_size == 16);
  CHECK(metrics.kv_blocks == 2200);
}

TEST_CASE("the older name of vLLM's KV use counts only where the newer is missing") {
  CHECK(scanned("vllm", "vllm:gpu_cache_usage_perc 0.5\n").kv_usage == 0.5);
  CHECK(scanned("vllm", "vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.25\n").kv_usage == 0.25);
}

TEST_CASE("what a scrape does not contain stays as it was") {
  EngineMetrics metrics;
  MetricsScanner scanner(preset());
  scanner.scan(vllm_text, metrics);
  const Signals found = scanner.scan("vllm:num_requests_running 1\n", metrics);
  CHECK(found);
  CHECK(found.running);
  CHECK(!found.waiting);
  CHECK(metrics.running == 1);
  CHECK(metrics.waiting == 3);
  CHECK(metrics.running_loras == Names{"sql", "chat"});
  CHECK(!scanner.scan("", metrics));
  CHECK(!scanner.scan("up 1\n", metrics));
  CHECK(metrics.running == 1);
}

TEST_CASE("gauges that a configuration names are found beside those of the preset, by family and labels") {
  const auto gauges = std::make_shared<const std::vector<CustomGauge>>(std::vector<CustomGauge>{
      {"depth", {{"tier", "gold"}}}, {"depth", {}}, {"vllm:num_requests_waiting", {}}, {"missing", {}}, {"dep", {}}});
  constexpr std::string_view text =
      "# depth 77\n"
      "depth{tier=\"gold\",zone=\"a\"} 3\n"
      "depth{tier=\"silver\"} 4\n"
      "depth{tier=\"gold\"} NaN\n"
      "depth_total{tier=\"gold\"} 100\n"
      "vllm:num_requests_waiting{engine=\"0\"} 5\n"
      "dep -2.5";
  const std::vector<double> expected = {3, 7, 5, NAN, -2.5};
  const auto check = [&](const EngineMetrics& metrics) {
    REQUIRE(metrics.custom.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK((std::isnan(expected[i]) ? std::isnan(metrics.custom[i]) : metrics.custom[i] == expected[i]));
    }
    CHECK(metrics.waiting == 5);
  };
  MetricsScanner scanner(preset(), gauges);
  EngineMetrics metrics;
  CHECK(scanner.scan(text, metrics).waiting);
  check(metrics);
  // Cut anywhere.
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    CAPTURE(cut);
    EngineMetrics again;
    scanner.reset();
    scanner.feed(text.substr(0, cut));
    scanner.feed(text.substr(cut));
    scanner.finish(again);
    check(again);
  }
  // What is missing from a scrape is not known any more, and alone says nothing of the load.
  EngineMetrics before = metrics;
  CHECK(!scanner.scan("depth{tier=\"gold\"} 9\n", before));
  CHECK(before.custom[0] == 9);
  CHECK(std::isnan(before.custom[4]));
}

TEST_CASE("all forms of a sample line are understood") {
  CHECK(waiting_of("vllm:num_requests_waiting 5") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting 5\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting 5\r\n") == 5);
  CHECK(waiting_of("  vllm:num_requests_waiting\t5  \n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting{} 5\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting{a=\"b\"}5\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting { a = \"b\" , c=\"d\", } 5\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting{a=\"} 7 \\\" \\\\\"} 5\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting{a=\"\xc3\xa4,=\"} 5 1700000000000\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting 5 1700000000.25 # {trace_id=\"x\"} 1\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting 5e0\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting +0.05E+2\n") == 5);
  CHECK(waiting_of("vllm:num_requests_waiting -5\n") == 0);
}

TEST_CASE("lines that are wrong are skipped, and the next line counts") {
  for (const std::string_view wrong : {"vllm:num_requests_waiting",
                                       "vllm:num_requests_waiting ",
                                       "vllm:num_requests_waiting 5x",
                                       "vllm:num_requests_waiting 0x5",
                                       "vllm:num_requests_waiting NaN",
                                       "vllm:num_requests_waiting +Inf",
                                       "vllm:num_requests_waiting -Inf",
                                       "vllm:num_requests_waiting 1e999",
                                       "vllm:num_requests_waiting 1e300",
                                       "vllm:num_requests_waiting ++5",
                                       "vllm:num_requests_waiting +-5",
                                       "vllm:num_requests_waiting 5 5 5",
                                       "vllm:num_requests_waiting 5 soon",
                                       "vllm:num_requests_waiting{a=\"b\" 5",
                                       "vllm:num_requests_waiting{a=\"b} 5",
                                       "vllm:num_requests_waiting{a=b} 5",
                                       "vllm:num_requests_waiting{a} 5",
                                       "vllm:num_requests_waiting{=\"\"} 5",
                                       "vllm:num_requests_waiting{a=\"\\",
                                       "vllm:num_requests_waiting{",
                                       "vllm:num_requests_waitin 5",
                                       "vllm:num_requests_waiting_ 5",
                                       "Vllm:num_requests_waiting 5",
                                       "# vllm:num_requests_waiting 5",
                                       "num_requests_waiting 5",
                                       "vllm:",
                                       "\r",
                                       " "}) {
    CAPTURE(wrong);
    CHECK(waiting_of(wrong) == -1);
    CHECK(waiting_of(std::string(wrong) + "\nvllm:num_requests_waiting 2\n") == 2);
  }
}

TEST_CASE("unknown cache configuration stays unknown") {
  const EngineMetrics metrics = scanned("vllm", R"(vllm:cache_config_info{block_size="None",num_gpu_blocks="None"} 1
vllm:cache_config_info{block_size="0",num_gpu_blocks="-4"} 1
vllm:cache_config_info{block_size="16.5",num_gpu_blocks="1e6"} 1
vllm:cache_config_info{block_size="4000000000",num_gpu_blocks="99999999999999"} 1
)");
  CHECK(metrics.block_size == 0);
  CHECK(metrics.kv_blocks == 0);
}

TEST_CASE("KV use beyond full is full") {
  CHECK(scanned("vllm", "vllm:kv_cache_usage_perc 1.5").kv_usage == 1);
}

TEST_CASE("escapes in adapter names") {
  const EngineMetrics metrics =
      scanned("vllm", R"(vllm:lora_requests_info{running_lora_adapters="a\"b,c\\d,,",max_lora="x"} 1)");
  CHECK(metrics.running_loras == Names{"a\"b", "c\\d"});
  CHECK(metrics.max_loras == 0);
}

TEST_CASE("a text cut anywhere gives the same result") {
  std::string text(vllm_text);
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.replace(at, 1, "\r\n");
  const EngineMetrics whole = scanned("vllm", vllm_text);
  REQUIRE(same(whole, scanned("vllm", text)));
  MetricsScanner scanner(preset());
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EngineMetrics metrics;
    scanner.reset();
    scanner.feed(std::string_view(text).substr(0, cut));
    scanner.feed(std::string_view(text).substr(cut));
    scanner.finish(metrics);
    CAPTURE(cut);
    REQUIRE(same(whole, metrics));
  }
  for (const size_t step : {1, 2, 3, 7, 50}) {
    EngineMetrics metrics;
    scanner.reset();
    for (size_t at = 0; at < text.size(); at += step) scanner.feed(std::string_view(text).substr(at, step));
    scanner.finish(metrics);
    CAPTURE(step);
    CHECK(same(whole, metrics));
  }
}

TEST_CASE("a wanted line beyond the limit is dropped whole or cut, an unwanted one does no harm") {
  const std::string blanks(MetricsScanner::line_bytes_max, ' ');
  const std::string other(3 * MetricsScanner::line_bytes_max, 'x');
  const std::string text = "vllm:num_requests_waiting " + blanks + "5\n" + other + "\nvllm:num_requests_running 2\n" +
                           "vllm:kv_cache_usage_perc{a=\"" + other + "\"} 0.5\nvllm:num_requests_waiting 3\n";
  for (const size_t step : {size_t{1000}, size_t{70'000}, text.size()}) {
    CAPTURE(step);
    EngineMetrics metrics;
    MetricsScanner scanner(preset());
    for (size_t at = 0; at < text.size(); at += step) scanner.feed(std::string_view(text).substr(at, step));
    scanner.finish(metrics);
    CHECK(metrics.waiting == 3);
    CHECK(metrics.running == 2);
    CHECK(metrics.kv_usage == 0);
  }
}

TEST_CASE("a new scrape forgets what an interrupted one had read") {
  EngineMetrics metrics;
  MetricsScanner scanner(preset());
  scanner.feed("vllm:num_requests_running 8\nvllm:num_requests_waiting 1");
  scanner.reset();
  scanner.feed("2\nvllm:num_requests_running 3\n");
  const Signals found = scanner.finish(metrics);
  CHECK(!found.waiting);
  CHECK(metrics.running == 3);
}

TEST_CASE("a KV cache that no engine has is not believed, whatever was read before") {
  const auto config = [](std::string_view size, std::string_view blocks) {
    return "vllm:cache_config_info{block_size=\"" + std::string(size) + "\",num_gpu_blocks=\"" + std::string(blocks) +
           "\"} 1\n";
  };
  EngineMetrics metrics;
  MetricsScanner scanner(preset());
  const auto scan = [&](const std::string& text) { return scanner.scan(text, metrics); };
  CHECK_FALSE(scan(config("16", "27218")).implausible);
  CHECK(metrics.kv_blocks == 27218);
  for (const auto& [size, blocks] : {std::pair("1", "4000000000"), std::pair("16", "4000000000"),
                                     std::pair("65536", "5000"), std::pair("70000", "1")}) {
    scan(config("16", "27218"));
    const Signals found = scan(config(size, blocks) + "vllm:num_requests_running 3\n");
    INFO(size << " x " << blocks);
    CHECK(found.implausible);
    CHECK_FALSE(found.kv_blocks);
    CHECK_FALSE(found.block_size);
    CHECK(found.running);  // the rest counts
    CHECK(metrics.kv_blocks == 0);
  }
  // SGLang has pages of one token. Each rank has a cache of its own.
  CHECK_FALSE(scan(config("1", "200000000")).implausible);
  CHECK(metrics.kv_blocks == 200'000'000);
  CHECK_FALSE(scan(config("1", "200000000") + config("1", "200000000")).implausible);
  CHECK(metrics.kv_blocks == 400'000'000);
}
