#include "penstock/replay/trace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "penstock/engine/text.h"
#include "record.h"

namespace penstock::replay {
namespace {

// Times that come in steps of this much or more were rounded when they were recorded; to within `slack`.
constexpr Duration spread_min = seconds(1);
constexpr Duration slack = milliseconds(2);

// Times become relative to the first request; records stay in the order of their time.
void settle(Trace& trace) {
  const auto earlier = [](const TraceRequest& a, const TraceRequest& b) { return a.at < b.at; };
  std::stable_sort(trace.requests.begin(), trace.requests.end(), earlier);
  if (trace.requests.empty()) return;
  const Duration first = trace.requests.front().at;
  Duration step = Duration::max(), before = first;
  for (TraceRequest& request : trace.requests) {
    if (request.at - before > slack) step = std::min(step, request.at - before);
    before = request.at;
    request.at -= first;
  }
  if (step < spread_min || step == Duration::max()) return;
  for (TraceRequest& request : trace.requests) request.spread = step;
}

Message problem(std::string_view name, size_t line, std::string_view what) {
  return {std::string(name) + ":" + std::to_string(line) + ": " + std::string(what)};
}

}  // namespace

Result<Trace> read_trace(std::istream& in, std::string_view name) {
  Trace trace;
  RecordReader reader;
  std::string line;
  for (size_t number = 1; std::getline(in, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    Record record;
    switch (reader.read(line, record)) {
      case RecordReader::Verdict::header:
        continue;
      case RecordReader::Verdict::bad:
        return problem(name, number, reader.problem());
      case RecordReader::Verdict::record:
        break;
    }
    if (record.prompt_tokens == 0 || record.output_tokens == 0) {
      ++trace.left_out;
      continue;
    }
    TraceRequest& request = trace.requests.emplace_back();
    request.at = record.at;
    request.prompt_tokens = record.prompt_tokens;
    request.output_tokens = record.output_tokens;
    request.first_id = trace.ids.size();
    request.id_count = static_cast<uint32_t>(record.ids.size());
    trace.ids.insert(trace.ids.end(), record.ids.begin(), record.ids.end());
  }
  if (trace.requests.empty()) return problem(name, 1, "no request in it");
  settle(trace);
  return trace;
}

Trace merge(std::span<const Trace> traces) {
  Trace all;
  for (size_t i = 0; i < traces.size(); ++i) {
    const Trace& trace = traces[i];
    for (TraceRequest request : trace.requests) {
      request.first_id += all.ids.size();
      all.requests.push_back(request);
    }
    for (const uint64_t id : trace.ids) all.ids.push_back(traces.size() == 1 ? id : engine::mix(i, id));
    all.left_out += trace.left_out;
  }
  const auto earlier = [](const TraceRequest& a, const TraceRequest& b) { return a.at < b.at; };
  std::stable_sort(all.requests.begin(), all.requests.end(), earlier);
  return all;
}

void scale_lengths(Trace& trace, double factor) {
  const auto scaled = [factor](uint32_t tokens) {
    const double wanted = std::min(std::round(tokens * factor), double(std::numeric_limits<uint32_t>::max()));
    return std::max(1u, static_cast<uint32_t>(wanted));
  };
  const uint32_t before = trace.id_tokens;
  trace.id_tokens = scaled(before);
  for (TraceRequest& request : trace.requests) {
    // Id by id, so that the prompt ends in the same one as before.
    const uint64_t whole = uint64_t{request.prompt_tokens / before} * trace.id_tokens;
    const uint32_t rest = request.prompt_tokens % before;
    const uint64_t tokens = whole + (rest > 0 ? scaled(rest) : 0);
    request.prompt_tokens = static_cast<uint32_t>(std::min<uint64_t>(tokens, std::numeric_limits<uint32_t>::max()));
    request.output_tokens = scaled(request.output_tokens);
  }
}

void cut(Trace& trace, size_t limit) {
  if (limit > 0 && limit < trace.requests.size()) trace.requests.resize(limit);
}

void prompt_chain(const Trace& trace, size_t request, uint32_t block_tokens, std::vector<uint64_t>& chain) {
  const TraceRequest& wanted = trace.requests[request];
  const std::span<const uint64_t> ids = trace.ids_of(wanted);
  const size_t blocks = wanted.prompt_tokens / block_tokens;
  chain.clear();
  chain.reserve(blocks);
  uint64_t parent = 0;
  for (size_t block = 0; block < blocks; ++block) {
    // A block belongs to the id in which it ends: only then is all of it known to be shared.
    const size_t end = (block + 1) * block_tokens - 1;
    const size_t id = end / trace.id_tokens;
    const uint64_t content = id < ids.size() ? ids[id] : engine::mix(request, std::numeric_limits<uint64_t>::max());
    parent = engine::mix(parent ^ content, end);
    chain.push_back(parent);
  }
}

}  // namespace penstock::replay
