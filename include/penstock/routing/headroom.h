// What predicted latencies are compared with (x-slo-ttft-ms, x-slo-tpot-ms), and what counts while nothing is
// predicted.
#pragma once

#include <string>

namespace penstock::routing {

struct HeadroomOptions {
  bool streaming = false;  // first token and pace; else the end of the answer, against the former's SLO
  double pace_factor = 1;  // on the SLO of the pace
  std::string role_label =
      {};  // endpoints of whose label the value is "prefill" are not asked for their pace; "": none
};

// Weights of free KV cache, queue, and cached share of the prompt. They count by their share of their sum.
struct CompositeWeights {
  double kv = 1, queue = 1, prefix = 1;
};

}  // namespace penstock::routing
