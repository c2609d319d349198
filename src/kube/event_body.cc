#include "event_body.h"

#include <cinttypes>
#include <cstdio>

#include "encoding.h"
#include "penstock/base/text.h"

namespace penstock::kube {
namespace {

// What the API's validation allows.
constexpr size_t note_max = 1024, word_max = 128, name_max = 200;

void member(std::string& out, const char* key, std::string_view value, size_t most) {
  if (value.empty()) return;
  if (out.back() != '{') out += ',';
  out.append(1, '"').append(key).append("\":");
  append_json_string(out, cut_utf8(value, most));
}

}  // namespace

std::string event_body(const Event& event, const WriterOptions& options, int64_t wall_us, uint64_t number) {
  char suffix[64];
  std::snprintf(suffix, sizeof suffix, ".%" PRIx64 ".%" PRIx64, static_cast<uint64_t>(wall_us), number);
  std::string out = R"({"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{)";
  member(out, "name", std::string(cut_utf8(event.name, name_max)) + suffix, 253);
  member(out, "namespace", event.ns, 63);
  out += "}";
  member(out, "eventTime", format_micro_time(wall_us), 64);
  member(out, "reportingController", options.reporting_controller, word_max);
  member(out, "reportingInstance", options.reporting_instance.empty() ? "penstock" : options.reporting_instance,
         word_max);
  member(out, "type", event.warning ? "Warning" : "Normal", word_max);
  member(out, "reason", event.reason, word_max);
  member(out, "action", event.action.empty() ? event.reason : event.action, word_max);
  member(out, "note", event.note, note_max);
  out += R"(,"regarding":{)";
  member(out, "apiVersion", event.api_version, word_max);
  member(out, "kind", event.kind, word_max);
  member(out, "namespace", event.ns, 63);
  member(out, "name", event.name, 253);
  member(out, "uid", event.uid, word_max);
  return out += "}}";
}

}  // namespace penstock::kube
