// Lists and watch events: what they mean for the sink. Whoever has called the sink looks at life_ before going on: the
// sink may have stopped everything.
#include "encoding.h"
#include "penstock/base/log.h"
#include "penstock/base/text.h"
#include "reflector_impl.h"

namespace penstock::kube {

void ReflectorImpl::on_list_page() {
  const uint64_t life = life_;
  ListHead head;
  std::string body = std::move(body_);  // stays, whatever the sink does
  body.reserve(body.size() + json_padding);
  const bool whole = decoder_.list(body, head, [&](std::string_view item) {
    Metadata metadata;
    if (life_ != life) return;
    if (!decoder_.metadata(item, metadata) || metadata.name.empty()) return undecodable(item);
    deliver(metadata, item);
  });
  if (life_ != life) return;
  if (!whole) return restart(Restart::framing, "the answer to a list is not a list with a resourceVersion");
  if (continue_.empty()) first_page_version_ = std::move(head.version);
  continue_ = std::move(head.continue_token);
  if (!continue_.empty()) return start_list(false);
  job_ = Job::none;
  finish_full(std::move(first_page_version_));
  if (life_ == life) begin();
}

void ReflectorImpl::take_lines() {
  const uint64_t life = life_;
  while (const std::optional<std::string_view> line = lines_.next()) {
    if (trimmed(*line).empty()) continue;
    on_line(*line);
    if (life_ != life) return;
  }
  if (lines_.overlong()) return framing_failed("an event is too long");
  if (job_ == Job::watch) current_at_ = byte_at_;
}

void ReflectorImpl::on_line(std::string_view line) {
  WatchEvent event;
  if (!decoder_.event(line, event)) {
    undecodable(line);
    return framing_failed("a line is not an event");
  }
  ++call_events_;
  ++counts_.events;
  if (event.type == EventType::error) return on_error_event(event.object);
  on_change(event);
}

void ReflectorImpl::on_change(const WatchEvent& event) {
  const uint64_t life = life_;
  Metadata metadata;
  const bool decoded = decoder_.metadata(event.object, metadata);
  std::string version(metadata.version);  // the sink may use the decoder again, through get_now()
  const bool bookmark = event.type == EventType::bookmark;
  if (!bookmark && (!decoded || metadata.name.empty() || event.type == EventType::unknown)) {
    undecodable(event.object);
  } else if (event.type == EventType::deleted) {
    supersede_gets(metadata.ns, metadata.name);
    remove(metadata.ns, metadata.name, metadata.uid);
  } else if (!bookmark) {
    supersede_gets(metadata.ns, metadata.name);
    deliver(metadata, event.object);
  }
  if (life_ != life) return;
  // What a stream brings first comes in any order: its versions say nothing until its end.
  const bool ends_list = bookmark && metadata.initial_events_end && job_ == Job::stream;
  if (ends_list) {
    if (version.empty()) return framing_failed("a streamed list without a resourceVersion");
    job_ = Job::watch;
    return finish_full(std::move(version));
  }
  if (job_ == Job::stream || version.empty() || version == version_) return;
  version_ = std::move(version);
  moved_ = true;
  framing_ = expired_ = 0;
}

bool ReflectorImpl::deliver(const Metadata& metadata, std::string_view json) {
  const uint64_t life = life_;
  const std::optional<std::string> before = objects_.put(metadata.ns, metadata.name, metadata.uid, round_);
  if (before) sink_.on_deleted({metadata.ns, metadata.name, *before});
  if (life_ != life) return false;
  sink_.on_object({metadata.ns, metadata.name, metadata.uid}, json);
  return life_ == life;
}

void ReflectorImpl::remove(std::string_view ns, std::string_view name, std::string_view uid) {
  const std::optional<HeldObjects::Object> object = objects_.take(ns, name, uid);
  if (object) sink_.on_deleted({object->ns, object->name, object->uid});
}

// Everything there is has been delivered in this round: the rest is gone.
void ReflectorImpl::finish_full(std::string version) {
  const uint64_t life = life_;
  for (const HeldObjects::Object& object : objects_.take_others(round_)) {
    sink_.on_deleted({object.ns, object.name, object.uid});
    if (life_ != life) return;
  }
  const bool found = std::exchange(not_installed_, false);
  if (!synced_ || found) log::info("kubernetes: watching", {{"resource", name_}, {"objects", objects_.size()}});
  version_ = std::move(version);
  full_wanted_ = full_optional_ = false;
  list_from_ = ListFrom::seen;
  paged_ = true;
  moved_ = true;
  framing_ = 0;
  synced_ = true;
  current_at_ = loop_.now();
  state_ = ReflectorState::watching;
  arm_safety();
  loop_.arm(watchdog_, Duration{0});
  sink_.on_synced();
}

void ReflectorImpl::undecodable(std::string_view what) {
  ++counts_.undecodable;
  const Instant now = loop_.now();
  if (undecodable_logged_ != Instant{} && now - undecodable_logged_ < limits_.log_pause) return;
  undecodable_logged_ = now;
  const std::string_view begins = resource_.confidential ? "(confidential)" : cut_utf8(what, 120);
  log::warn("kubernetes: an object cannot be decoded, skipped", {{"resource", name_}, {"begins", begins}});
}

// Something between us and the server garbles the stream, and with it an event may have been lost: from the last known
// version again. When that does not help, everything.
void ReflectorImpl::framing_failed(std::string_view why) {
  if (++framing_ >= limits_.framing_failures) {
    framing_ = 0;
    want_full(Relist::framing, ListFrom::latest);
  }
  restart(Restart::framing, why);
}

}  // namespace penstock::kube
