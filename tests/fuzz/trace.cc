// A recorded trace, as anything: 'M' Mooncake lines, 'A' Azure CSV, 'L' access log, each line of the rest behind the
// head of such a record; otherwise just bytes. What is read is in order, from zero on, and can be replayed.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/replay/trace.h"

namespace {

using namespace penstock;
using namespace penstock::replay;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

std::string text_of(std::string_view bytes) {
  const char format = bytes.empty() ? ' ' : bytes.front();
  if (format != 'M' && format != 'A' && format != 'L') return std::string(bytes);
  std::string text = format == 'A' ? "TIMESTAMP,ContextTokens,GeneratedTokens\n" : "";
  for (bytes.remove_prefix(1); !bytes.empty();) {
    const std::string_view line = bytes.substr(0, bytes.find('\n'));
    bytes.remove_prefix(line.size() == bytes.size() ? line.size() : line.size() + 1);
    if (format == 'M') text += "{\"output_length\":9,\"input_length\":600,\"timestamp\":" + std::string(line) + "}\n";
    if (format == 'A') text += "20" + std::string(line) + "\n";
    if (format == 'L') text += "{\"completion_tokens\":3,\"prompt_tokens\":9,\"time\":\"20" + std::string(line) + "}\n";
  }
  return text;
}

void check(const Trace& trace) {
  require(!trace.requests.empty() && trace.requests.front().at == Duration::zero(), "a trace begins at zero");
  Duration before{};
  for (const TraceRequest& request : trace.requests) {
    require(request.at >= before, "requests are in the order of their time");
    require(request.spread >= Duration::zero(), "no request came before itself");
    require(request.prompt_tokens > 0 && request.output_tokens > 0, "each request has a prompt and an answer");
    require(request.first_id + request.id_count <= trace.ids.size(), "the ids are there");
    before = request.at;
  }
  require(trace.length() == before, "a trace is as long as its last request is late");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream in(text_of({reinterpret_cast<const char*>(data), size}));
  Result<Trace> read = read_trace(in, "t");
  if (!read.ok()) {
    require(read.error().text.starts_with("t:"), "what is wrong is said with its place");
    return 0;
  }
  check(*read);
  std::vector<uint64_t> chain;
  for (size_t i = 0; i < read->requests.size(); ++i) {
    if (read->requests[i].prompt_tokens > 100'000) continue;
    prompt_chain(*read, i, 16, chain);
    require(chain.size() == read->requests[i].prompt_tokens / 16, "the full blocks are hashed");
  }
  Trace both = merge(std::vector<Trace>{*read, *read});
  check(both);
  require(both.requests.size() == 2 * read->requests.size(), "nothing is lost");
  cut(both, 1);
  require(both.requests.size() == 1, "the first remains");
  return 0;
}
