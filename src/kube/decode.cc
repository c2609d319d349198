#include "decode.h"

#include <simdjson.h>

#include "penstock/kube/reflector.h"

namespace penstock::kube {
namespace {

static_assert(json_padding >= simdjson::SIMDJSON_PADDING);

namespace ondemand = simdjson::ondemand;

simdjson::padded_string_view padded(std::string_view text) {
  return simdjson::padded_string_view(text.data(), text.size(), text.size() + json_padding);
}

// Nothing but white space is left.
bool at_end(ondemand::document& document) {
  return document.current_location().error() == simdjson::OUT_OF_BOUNDS;
}

EventType type_of(std::string_view name) {
  if (name == "ADDED") return EventType::added;
  if (name == "MODIFIED") return EventType::modified;
  if (name == "DELETED") return EventType::deleted;
  if (name == "BOOKMARK") return EventType::bookmark;
  if (name == "ERROR") return EventType::error;
  return EventType::unknown;
}

bool object_text(ondemand::value value, std::string_view& text) {
  ondemand::object object;
  if (value.get_object().get(object) || object.raw_json().get(text)) return false;
  while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.remove_suffix(1);
  return true;
}

// A text, or empty when it is null. False: something else.
bool read_text(ondemand::value value, std::string_view& text) {
  if (!value.get_string().get(text)) return true;
  text = {};
  return value.is_null();
}

bool read_annotations(ondemand::value value, Metadata& metadata) {
  ondemand::object annotations;
  if (value.get_object().get(annotations)) return value.is_null();
  for (auto field : annotations) {
    std::string_view key, text;
    if (field.unescaped_key().get(key)) return false;
    if (key != "k8s.io/initial-events-end") continue;
    if (field.value().get_string().get(text)) return false;
    metadata.initial_events_end = text == "true";
  }
  return true;
}

bool read_metadata(ondemand::object object, Metadata& metadata) {
  for (auto field : object) {
    std::string_view key;
    ondemand::value value;
    if (field.unescaped_key().get(key) || field.value().get(value)) return false;
    bool good = true;
    if (key == "name") good = read_text(value, metadata.name);
    else if (key == "namespace") good = read_text(value, metadata.ns);
    else if (key == "uid") good = read_text(value, metadata.uid);
    else if (key == "resourceVersion") good = read_text(value, metadata.version);
    else if (key == "annotations") good = read_annotations(value, metadata);
    if (!good) return false;
  }
  return true;
}

void read_details(ondemand::object details, StatusObject& status) {
  for (auto field : details) {
    std::string_view key;
    ondemand::value value;
    if (field.unescaped_key().get(key) || field.value().get(value)) return;
    int64_t after = 0;
    ondemand::array causes;
    if (key == "retryAfterSeconds" && !value.get_int64().get(after) && after >= 0 && after < 1'000'000) {
      status.retry_after = seconds(after);
    } else if (key == "causes" && !value.get_array().get(causes)) {
      for (auto cause : causes) {
        std::string_view reason;
        if (cause["reason"].get_string().get(reason)) continue;
        if (reason == "ResourceVersionTooLarge") status.version_too_large = true;
      }
    }
  }
}

bool read_list_head(ondemand::value value, ListHead& head) {
  ondemand::object metadata;
  if (value.get_object().get(metadata)) return false;
  for (auto field : metadata) {
    std::string_view key, text;
    ondemand::value inner;
    if (field.unescaped_key().get(key) || field.value().get(inner)) return false;
    if (key != "resourceVersion" && key != "continue") continue;
    if (!read_text(inner, text)) return false;
    (key == "continue" ? head.continue_token : head.version) = text;
  }
  return true;
}

bool read_items(ondemand::value value, const std::function<void(std::string_view)>& item) {
  ondemand::array items;
  if (value.get_array().get(items)) return value.is_null();
  for (auto element : items) {
    ondemand::value inner;
    std::string_view text;
    if (element.get(inner) || !object_text(inner, text)) return false;
    item(text);
  }
  return true;
}

}  // namespace

struct Decoder::Parsers {
  ondemand::parser outer, inner;
};

Decoder::Decoder() : parsers_(std::make_unique<Parsers>()) {}
Decoder::~Decoder() = default;

bool Decoder::event(std::string_view line, WatchEvent& event) {
  ondemand::document document;
  ondemand::object object;
  if (parsers_->outer.iterate(padded(line)).get(document) || document.get_object().get(object)) return false;
  bool typed = false, filled = false;
  for (auto field : object) {
    std::string_view key, text;
    ondemand::value value;
    if (field.unescaped_key().get(key) || field.value().get(value)) return false;
    if (key == "type") {
      if (value.get_string().get(text)) return false;
      event.type = type_of(text);
      typed = true;
    } else if (key == "object") {
      if (!object_text(value, event.object)) return false;
      filled = true;
    }
  }
  return typed && filled && at_end(document);
}

bool Decoder::metadata(std::string_view text, Metadata& metadata) {
  metadata = {};
  ondemand::document document;
  ondemand::object object;
  if (parsers_->inner.iterate(padded(text)).get(document)) return false;
  if (document["metadata"].get_object().get(object)) return false;
  return read_metadata(object, metadata);
}

std::optional<StatusObject> Decoder::status(std::string_view text) {
  StatusObject status;
  bool is_status = false;
  ondemand::document document;
  ondemand::object object;
  if (parsers_->inner.iterate(padded(text)).get(document) || document.get_object().get(object)) return std::nullopt;
  for (auto field : object) {
    std::string_view key, word;
    ondemand::value value;
    ondemand::object details;
    if (field.unescaped_key().get(key) || field.value().get(value)) return std::nullopt;
    int64_t code = 0;
    if (key == "kind" && !value.get_string().get(word)) is_status = word == "Status";
    else if (key == "reason" && !value.get_string().get(word)) status.reason = word;
    else if (key == "message" && !value.get_string().get(word)) status.message = word;
    else if (key == "code" && !value.get_int64().get(code)) status.code = static_cast<int>(code);
    else if (key == "details" && !value.get_object().get(details)) read_details(details, status);
  }
  if (!is_status) return std::nullopt;
  // Before 1.18 there was no cause to go by.
  if (status.message.find("Too large resource version") != std::string::npos) status.version_too_large = true;
  return status;
}

bool Decoder::list(std::string_view body, ListHead& head, const std::function<void(std::string_view)>& item) {
  ondemand::document document;
  ondemand::object object;
  if (parsers_->outer.iterate(padded(body)).get(document) || document.get_object().get(object)) return false;
  for (auto field : object) {
    std::string_view key, kind;
    ondemand::value value;
    if (field.unescaped_key().get(key) || field.value().get(value)) return false;
    if (key == "kind" && (value.get_string().get(kind) || kind == "Status")) return false;
    if (key == "metadata" && !read_list_head(value, head)) return false;
    if (key == "items" && !read_items(value, item)) return false;
  }
  return !head.version.empty() && at_end(document);
}

}  // namespace penstock::kube
