// One event of a stream, as far as continuing the stream needs it.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/openai/resume_obstacle.h"

namespace penstock::openai {

// The texts are parts of the event, as written there; "" where something is missing.
struct Chunk {
  // Where the event stands in a stream that says where its text begins and ends.
  enum class Place : uint8_t { anywhere, begin, item, open, text, close };

  std::string_view id, created, model;  // with their quotes
  std::string_view number;              // of the event in its stream
  std::string_view text;                // of the choice, without its quotes: text or delta.content
  std::string_view finish_reason;       // without its quotes
  std::string_view stop_reason;         // any JSON
  std::string_view token_ids;           // of the choice, without brackets
  bool choice = false;                  // there is one
  bool has_text = false;                // that may be empty
  bool role = false;
  bool usage = false;
  bool has_ids = false;  // of the tokens of its text, or of the prompt
  bool error = false;
  Place place = Place::anywhere;
  // The text has ended, but not for a reason that is known: what is not known yet may be that it was given up.
  bool held = false;
  std::string_view facts;  // an object that events of ours repeat
  // It has a field that ordinary chunks do not have, at the top level.
  bool extra = false;
  // What makes it impossible to continue a stream that has this event.
  ResumeObstacle obstacle = ResumeObstacle::none;
};

// Of the completions (`chat`: chat completions) API. False: it is no JSON object. What was read until then may be in
// `out`.
bool read_chunk(bool chat, std::string_view data, Chunk& out);

}  // namespace penstock::openai
