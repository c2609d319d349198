#include "sim/metrics.h"

#include <charconv>
#include <string_view>

namespace penstock::sim {
namespace {

// As the Python client prints floats: whole numbers carry ".0".
void append_float(std::string& out, double value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  const std::string_view digits(text, static_cast<size_t>(end - text));
  out += digits;
  if (digits.find_first_of(".ein") == std::string_view::npos) out += ".0";
}

class Writer {
 public:
  Writer(std::string& out, std::string_view model_name) : out_(out) {
    labels_ = "engine=\"0\",model_name=\"";
    for (const char c : model_name) {
      if (c == '"' || c == '\\') labels_ += '\\';
      labels_ += c;
    }
    labels_ += '"';
  }

  void family(std::string_view name, std::string_view type, std::string_view help) {
    out_.append("# HELP vllm:").append(name).append(" ").append(help);
    out_.append("\n# TYPE vllm:").append(name).append(" ").append(type).append("\n");
  }
  void sample(std::string_view name, std::string_view more_labels, double value) {
    out_.append("vllm:").append(name).append("{").append(labels_).append(more_labels).append("} ");
    append_float(out_, value);
    out_ += '\n';
  }
  void gauge(std::string_view name, std::string_view help, double value) {
    family(name, "gauge", help);
    sample(name, "", value);
  }
  void counter(std::string_view name, std::string_view help, uint64_t value) {
    family(name, "counter", help);
    sample(name, "", static_cast<double>(value));
  }
  void histogram(std::string_view name, std::string_view help, const Histogram& values) {
    family(name, "histogram", help);
    const std::string bucket = std::string(name) + "_bucket";
    uint64_t below = 0;
    for (size_t i = 0; i < values.bounds().size(); ++i) {
      below += values.in_bucket(i);
      std::string le = ",le=\"";
      append_float(le, values.bounds()[i]);
      sample(bucket, le += '"', static_cast<double>(below));
    }
    sample(bucket, ",le=\"+Inf\"", static_cast<double>(values.count()));
    sample(std::string(name) + "_count", "", static_cast<double>(values.count()));
    sample(std::string(name) + "_sum", "", values.sum());
  }

 private:
  std::string& out_;
  std::string labels_;
};

void append_cache_config(std::string& out, Writer& writer, const Engine& engine) {
  const EngineOptions& options = engine.options();
  writer.family("cache_config_info", "gauge", "How the KV cache is set up.");
  out += "vllm:cache_config_info{block_size=\"" + std::to_string(options.block_size) +
         "\",cache_dtype=\"auto\",enable_prefix_caching=\"" + (options.prefix_caching ? "True" : "False") +
         "\",engine=\"0\",num_cpu_blocks=\"None\",num_gpu_blocks=\"" + std::to_string(options.kv_blocks) +
         "\",sliding_window=\"None\"} 1.0\n";
}

void append_loras(std::string& out, Writer& writer, const MetricsContext& context) {
  writer.family("lora_requests_info", "gauge", "When each combination of adapters was last seen.");
  for (const LoraSeries& series : *context.lora_series) {
    out += "vllm:lora_requests_info{max_lora=\"" + std::to_string(context.max_loras) + "\",running_lora_adapters=\"" +
           series.running + "\",waiting_lora_adapters=\"" + series.waiting + "\"} ";
    append_float(out, series.last_held);
    out += '\n';
  }
}

void append_counters(Writer& writer, const EngineStats& stats) {
  writer.counter("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", stats.prefix_queries);
  writer.counter("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", stats.prefix_hits);
  writer.counter("num_preemptions_total", "Sequences preempted for want of blocks.", stats.preemptions);
  writer.counter("prompt_tokens_total", "Prompt tokens processed.", stats.prompt_tokens);
  writer.counter("generation_tokens_total", "Tokens generated.", stats.generation_tokens);
  writer.family("request_success_total", "counter", "Requests ended, by reason.");
  writer.sample("request_success_total", ",finished_reason=\"stop\"", static_cast<double>(stats.finished_stop));
  writer.sample("request_success_total", ",finished_reason=\"length\"", static_cast<double>(stats.finished_length));
  writer.sample("request_success_total", ",finished_reason=\"abort\"", static_cast<double>(stats.finished_abort));
}

}  // namespace

void append_metrics(std::string& out, const Engine& engine, const MetricsContext& context) {
  const EngineStats& stats = engine.stats();
  Writer writer(out, context.model_name);
  const Gauges& gauges = engine.gauges();
  writer.gauge("num_requests_running", "Sequences in the running batch.", static_cast<double>(gauges.running));
  writer.gauge("num_requests_waiting", "Sequences waiting to be admitted.", static_cast<double>(gauges.waiting));
  writer.gauge("kv_cache_usage_perc", "Share of the KV blocks in use, 1 is all.", gauges.kv_usage);
  append_counters(writer, stats);
  writer.histogram("request_prompt_tokens", "Prompt tokens of a request.", stats.request_prompt_tokens);
  writer.histogram("request_generation_tokens", "Tokens generated for a request.", stats.request_generation_tokens);
  writer.histogram("iteration_tokens_total", "Tokens in one engine step.", stats.step_tokens);
  writer.histogram("request_params_max_tokens", "The max_tokens of a request.", stats.request_max_tokens);
  writer.histogram("time_to_first_token_seconds", "Arrival to first token.", stats.time_to_first_token);
  writer.histogram("inter_token_latency_seconds", "From one token to the next.", stats.inter_token_latency);
  writer.histogram("time_per_output_token_seconds", "From one token to the next (older name).",
                   stats.inter_token_latency);
  writer.histogram("request_time_per_output_token_seconds", "Mean time per token of a request.",
                   stats.request_time_per_output_token);
  writer.histogram("e2e_request_latency_seconds", "Arrival to last token.", stats.e2e_latency);
  writer.histogram("request_queue_time_seconds", "Arrival to admission.", stats.queue_time);
  writer.histogram("request_inference_time_seconds", "Admission to last token.", stats.inference_time);
  writer.histogram("request_prefill_time_seconds", "Admission to first token.", stats.prefill_time);
  writer.histogram("request_decode_time_seconds", "First token to last token.", stats.decode_time);
  append_cache_config(out, writer, engine);
  if (context.max_loras > 0) append_loras(out, writer, context);
}

}  // namespace penstock::sim
