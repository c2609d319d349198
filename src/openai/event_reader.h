// What the readers of one event of a stream have in common, whatever the API: chunk.cc and the formats of the other
// APIs.
#pragma once

#include <string_view>

#include "chunk.h"
#include "json_string.h"
#include "json_text.h"
#include "scratch.h"

namespace penstock::openai {

class EventReader {
 protected:
  EventReader(std::string_view data, Chunk& out) : data_(data), out_(out) {}

  // Visits the fields of the event. False: `visit` says so, or the data is not one whole object.
  template <typename Visit>
  bool each_top_field(Visit visit) {
    simdjson::ondemand::document document;
    simdjson::ondemand::object object;
    if (!scratch().open("", data_, document) || document.get_object().get(object)) return false;
    return each_field(object, visit) && document.current_location().error() == simdjson::OUT_OF_BOUNDS;
  }

  // A scalar, or the first bracket of anything else.
  static std::string_view token_of(simdjson::ondemand::value& value) { return trim_end(value.raw_json_token()); }
  // With all its escapes right, which the parser looks at only when it decodes.
  static bool is_string(std::string_view token) {
    return token.size() >= 2 && token.front() == '"' &&
           check_string(token.substr(1, token.size() - 2)) != StringCheck::broken;
  }
  std::string_view in_data(std::string_view token) const { return scratch().original(data_, token); }
  // The inside of a string.
  std::string_view unquoted(std::string_view token) const { return in_data(token.substr(1, token.size() - 2)); }
  // The same, or "" of what is no string.
  std::string_view string_in(std::string_view token) const {
    return is_string(token) ? unquoted(token) : std::string_view();
  }
  // All of an object. False: it is broken.
  bool object_in(simdjson::ondemand::value value, std::string_view& out) const {
    simdjson::ondemand::object object;
    std::string_view written;
    if (value.get_object().get(object) || object.raw_json().get(written)) return false;
    out = in_data(trim_end(written));
    return true;
  }
  // The first obstacle counts.
  void meet(ResumeObstacle obstacle) {
    if (out_.obstacle == ResumeObstacle::none) out_.obstacle = obstacle;
  }

  const std::string_view data_;
  Chunk& out_;
};

}  // namespace penstock::openai
