// The hash chain of a request's prompt, as routing compares it with what endpoints hold. Thread: the shard's, whose
// scratch memory (Context) the chains are left in until the next call.
#pragma once

#include <cstdint>

#include "intake.h"
#include "penstock/endpoints/snapshot.h"
#include "penstock/routing/features.h"

namespace penstock::proxy {

// Tokens of a block in this pool: what its engines report, if they do. `pool` may be null.
uint32_t block_tokens(const Context& context, const endpoints::Pool* pool);
// Sets `blocks` and `told_blocks`, in blocks of `features.block_tokens`.
void hash_prompt(Context& context, const Intake& intake, const endpoints::Pool* pool, routing::Features& features);

}  // namespace penstock::proxy
