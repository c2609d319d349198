// The simulated engine's names, as the server around it uses them.
#pragma once

#include "penstock/engine/engine.h"
#include "penstock/engine/text.h"

namespace penstock::sim {

using engine::BlockEvents;
using engine::bytes_of_token;
using engine::bytes_per_token;
using engine::Engine;
using engine::EngineOptions;
using engine::EngineStats;
using engine::FinishReason;
using engine::Gauges;
using engine::hash_of;
using engine::Histogram;
using engine::mix;
using engine::Piece;
using engine::Sequence;
using engine::SequenceEvents;
using engine::TextStyle;
using engine::token_id_of;
using engine::TokenStream;

}  // namespace penstock::sim
