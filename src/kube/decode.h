// What the reflector must know of the API server's JSON: types and metadata, nothing of the objects themselves.
// All input must have json_padding readable bytes behind it. Views are valid until the next call.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "penstock/base/time.h"

namespace penstock::kube {

struct Metadata {
  std::string_view ns, name, uid, version;
  bool initial_events_end = false;  // the annotation of the bookmark that ends a streamed list
};

enum class EventType : uint8_t { added, modified, deleted, bookmark, error, unknown };

struct WatchEvent {
  EventType type = EventType::unknown;
  std::string_view object;  // its JSON, inside the line
};

// An API Status, as the body of an error or inside an ERROR event. What is not there is empty.
struct StatusObject {
  int code = 0;
  std::string reason, message;
  std::optional<Duration> retry_after;
  bool version_too_large = false;
};

struct ListHead {
  std::string version, continue_token;
};

class Decoder {
 public:
  Decoder();
  ~Decoder();

  // False: the line is not an event at all.
  bool event(std::string_view line, WatchEvent& event);
  // False: no JSON object with metadata. Does not disturb an event() or list() under way.
  bool metadata(std::string_view object, Metadata& metadata);
  // Nothing when the text is not a Status (a proxy's HTML page, "404 page not found").
  std::optional<StatusObject> status(std::string_view text);
  // Calls `item` with the JSON of each item, whose metadata() may be asked for meanwhile. False: not a list, or broken
  // in the middle.
  bool list(std::string_view body, ListHead& head, const std::function<void(std::string_view)>& item);

 private:
  struct Parsers;
  std::unique_ptr<Parsers> parsers_;
};

}  // namespace penstock::kube
