// p2p-source-producer: from whom an endpoint that computes a prompt may fetch what others hold of it.
#pragma once

#include "penstock/routing/router.h"

namespace penstock::routing {

struct KvSource {
  endpoints::EndpointState* endpoint = nullptr;
  uint32_t blocks = 0;  // of the prompt, held there
};

// Of all candidates one that holds most of the prompt. No endpoint: nobody holds any of it.
KvSource find_kv_source(const Inputs& in, std::span<const Candidate> candidates);
// Null: it holds less than `tokens` more than the endpoint that computes the prompt.
endpoints::EndpointState* kv_source_of(const Decision& decision, const KvSource& source, uint32_t tokens,
                                       const Features& features);

}  // namespace penstock::routing
