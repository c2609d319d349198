#include "model_server.h"

#include "fake_transport.h"

namespace penstock::kube::test {
namespace {

// The value of a query parameter, unescaped as far as these tests need.
std::string parameter(const std::string& path, const std::string& key) {
  for (const char before : {'?', '&'}) {
    const size_t at = path.find(before + key + "=");
    if (at == std::string::npos) continue;
    const size_t from = at + key.size() + 2;
    return path.substr(from, path.find('&', from) - from);
  }
  return {};
}

uint64_t number(const std::string& text) {
  return text.empty() ? 0 : std::stoull(text);
}

constexpr std::string_view too_large_details =
    R"({"causes":[{"reason":"ResourceVersionTooLarge","message":"Too large"}],"retryAfterSeconds":1})";

}  // namespace

ServerFaults ServerFaults::swarm(Random& random) {
  ServerFaults faults;
  const std::pair<double*, double> kinds[] = {
      {&faults.refuse, 0.4},    {&faults.error_status, 0.4},   {&faults.cut, 0.1},      {&faults.stall, 0.02},
      {&faults.early_end, 0.1}, {&faults.expired_event, 0.05}, {&faults.garbage, 0.1},  {&faults.nonsense, 0.2},
      {&faults.duplicate, 0.3}, {&faults.lost_delete, 0.2},    {&faults.stale_list, 1}, {&faults.page_expires, 0.5},
      {&faults.forget, 0.1},    {&faults.restore, 0.01}};
  for (const auto& [probability, most] : kinds) {
    if (random.chance(0.4)) *probability = most * random.unit();
  }
  faults.watch_list = static_cast<int>(random.below(3));
  return faults;
}

ModelServer::ModelServer(penstock::test::SimNetwork& network, uint64_t seed, const ServerFaults& faults)
    : network_(network), random_(seed), faults_(faults) {}

ModelServer::~ModelServer() {
  *alive_ = false;
}

std::string ModelServer::json_of(const Object& object) {
  return R"({"spec":{"payload":)" + std::to_string(object.payload) +
         R"(},"metadata":{"labels":{"name":"no"},"namespace":")" + object.ns + R"(","name":")" + object.name +
         R"(","resourceVersion":")" + std::to_string(object.version) + R"(","uid":")" + object.uid + "\"}}";
}

// ---- the objects ----

void ModelServer::record(std::string type, const Object& object) {
  history_.push_back({object.version, std::move(type), object});
}

void ModelServer::change_something() {
  if (random_.chance(faults_.forget)) {
    history_.clear();
    oldest_ = version_;
  }
  if (random_.chance(faults_.restore)) {
    ++restores;
    objects_ = past_;
    version_ = oldest_ = past_version_;
    history_.clear();
    for (auto& [id, conversation] : conversations_) conversation.ends |= conversation.watching;
    return;
  }
  if (random_.chance(0.1)) {
    past_ = objects_;
    past_version_ = version_;
  }
  const std::string ns = random_.chance(0.5) ? "one" : "two", name = "p" + std::to_string(random_.below(12));
  version_ += 1 + random_.below(3);
  const auto found = objects_.find(ns + "/" + name);
  if (found == objects_.end()) {
    Object fresh{ns, name, "u" + std::to_string(next_uid_++), version_, next_payload_++};
    record("ADDED", fresh);
    objects_[ns + "/" + name] = fresh;
  } else if (random_.chance(0.4)) {
    found->second.version = version_;
    record("DELETED", found->second);
    objects_.erase(found);
  } else {
    found->second.version = version_;
    found->second.payload = next_payload_++;
    record("MODIFIED", found->second);
  }
  for (const auto& [id, conversation] : conversations_) {
    if (conversation.watching) later(id);
  }
}

void ModelServer::calm() {
  const int watch_list = faults_.watch_list;
  faults_ = {};
  faults_.watch_list = watch_list;
}

// ---- calls ----

CallId ModelServer::start(Call call, CallEvents& events) {
  const CallId id = ++last_id_;
  conversations_[id] = {id, std::move(call), &events};
  later(id);
  return id;
}

void ModelServer::cancel(CallId id) {
  conversations_.erase(id);
}

ModelServer::Conversation* ModelServer::find(CallId id) {
  const auto found = conversations_.find(id);
  return found == conversations_.end() ? nullptr : &found->second;
}

void ModelServer::later(CallId id) {
  network_.after(microseconds(random_.below(20'000)), [this, id, alive = alive_] {
    if (!*alive || find(id) == nullptr) return;
    Conversation& conversation = *find(id);
    if (conversation.told || conversation.stalled) send(id);
    else serve(id);
  });
}

void ModelServer::finish(CallId id, Failure failure) {
  CallEvents* const events = find(id)->events;
  conversations_.erase(id);
  events->on_done(failure, failure == Failure::none ? "" : "a fault");
}

void ModelServer::answer(Conversation& conversation, int status, std::string body,
                         std::optional<Duration> retry_after) {
  conversation.told = true;
  conversation.pending = std::move(body);
  conversation.ends = true;
  const CallId id = conversation.id;
  conversation.events->on_status(status, retry_after);
  if (find(id) != nullptr) later(id);
}

bool ModelServer::serve_error(Conversation& conversation) {
  if (random_.chance(faults_.refuse)) {
    finish(conversation.id, random_.chance(0.5) ? Failure::connect : Failure::cut);
    return true;
  }
  if (!random_.chance(faults_.error_status)) return false;
  constexpr int codes[] = {500, 503, 429, 401, 403, 404, 504};
  const int code = codes[random_.below(std::size(codes))];
  std::optional<Duration> retry_after;
  if (random_.chance(0.5)) retry_after = seconds(1 + random_.below(5));
  answer(conversation, code, random_.chance(0.5) ? status_json(code, "Fault") : "<html>no</html>", retry_after);
  return true;
}

void ModelServer::serve(CallId id) {
  Conversation& conversation = *find(id);
  if (serve_error(conversation)) return;
  if (parameter(conversation.call.path, "watch") == "1") serve_watch(conversation);
  else serve_list(conversation);
}

void ModelServer::serve_list(Conversation& conversation) {
  ++lists;
  const std::string& path = conversation.call.path;
  const std::string wanted = parameter(path, "resourceVersion"), token = parameter(path, "continue");
  const bool stale = wanted == "0" && random_.chance(faults_.stale_list) && past_version_ >= oldest_;
  const uint64_t version = stale ? past_version_ : version_;
  if (number(wanted) > version)
    return answer(conversation, 504, status_json(504, "Timeout", std::string(too_large_details)));
  // A token is "version-start"; a page is only given while nothing has changed.
  const size_t start = token.empty() ? 0 : number(token.substr(token.find('-') + 1));
  if (!token.empty() && (random_.chance(faults_.page_expires) || number(token) != version_)) {
    return answer(conversation, 410, status_json(410, "Expired"));
  }
  const std::string field = parameter(path, "fieldSelector");
  const size_t size = wanted == "0" || parameter(path, "limit").empty() ? SIZE_MAX : 5;
  std::vector<std::string> items;
  size_t index = 0;
  std::string next;
  for (const auto& [key, object] : stale ? past_ : objects_) {
    const bool in_namespace = path.find("/namespaces/") == std::string::npos ||
                              path.find("/namespaces/" + object.ns + "/") != std::string::npos;
    const bool named = field.empty() || field == "metadata.name%3D" + object.name;
    if (!in_namespace || !named || index++ < start) continue;
    if (items.size() == size) {
      next = std::to_string(version) + "-" + std::to_string(start + size);
      break;
    }
    items.push_back(json_of(object));
  }
  answer(conversation, 200, list_json(static_cast<int>(version), items, next));
}

void ModelServer::serve_watch(Conversation& conversation) {
  ++watches;
  const std::string& path = conversation.call.path;
  const bool stream = !parameter(path, "sendInitialEvents").empty();
  if (stream && faults_.watch_list == 1) return answer(conversation, 422, status_json(422, "Invalid"));
  const CallId id = conversation.id;
  conversation.told = conversation.watching = true;
  conversation.version = stream ? version_ : number(parameter(path, "resourceVersion"));
  if (stream) {
    ++streams;
    for (const auto& [key, object] : objects_) append_event(conversation, "ADDED", json_of(object));
    if (faults_.watch_list == 0)
      append_event(conversation, "BOOKMARK", [&] {
        const std::string line = bookmark(static_cast<int>(version_), true);
        return line.substr(line.find("\"object\":") + 9, line.size() - line.find("\"object\":") - 11);
      }());
  } else if (conversation.version < oldest_) {
    conversation.pending += event_line("ERROR", status_json(410, "Expired"));
    conversation.ends = true;
  }
  const auto timeout = seconds(number(parameter(path, "timeoutSeconds")));
  network_.after(timeout, [this, id, alive = alive_] {
    if (!*alive || find(id) == nullptr || find(id)->stalled) return;
    find(id)->ends = true;
    later(id);
  });
  conversation.events->on_status(200, {});
  if (find(id) != nullptr) later(id);
}

void ModelServer::append_event(Conversation& conversation, const std::string& type, const std::string& object) {
  if (random_.chance(faults_.nonsense)) {
    conversation.pending +=
        random_.chance(0.5) ? event_line("BEYOND", "{}") : event_line("ADDED", R"({"metadata":{"uid":7}})");
  }
  if (random_.chance(faults_.garbage)) {
    conversation.pending += random_.chance(0.5) ? "}{ noise\n" : event_line(type, object).substr(10);
    return;
  }
  const int times = type != "BOOKMARK" && random_.chance(faults_.duplicate) ? 2 : 1;
  for (int i = 0; i < times; ++i) conversation.pending += event_line(type, object);
}

// What has happened since the watch was last served. As in the real one, a version from the future just waits.
void ModelServer::gather(Conversation& conversation) {
  if (conversation.ends) return;
  if (conversation.version < oldest_) {
    conversation.pending += event_line("ERROR", status_json(410, "Expired"));
    conversation.ends = true;
    return;
  }
  for (const Event& event : history_) {
    if (event.version <= conversation.version) continue;
    conversation.version = event.version;
    if (event.type == "DELETED" && random_.chance(faults_.lost_delete)) {
      ++lost;
      continue;
    }
    append_event(conversation, event.type, json_of(event.object));
  }
  if (random_.chance(0.05)) {
    const std::string line = bookmark(static_cast<int>(conversation.version));
    conversation.pending += line;
  }
}

bool ModelServer::misbehave(Conversation& conversation) {
  if (random_.chance(faults_.cut)) {
    finish(conversation.id, Failure::cut);
    return true;
  }
  if (random_.chance(faults_.stall)) {
    conversation.stalled = true;
    return true;
  }
  if (!conversation.watching) return false;
  if (random_.chance(faults_.early_end)) conversation.ends = true;
  if (random_.chance(faults_.expired_event)) {
    conversation.pending += event_line("ERROR", status_json(410, "Expired"));
    conversation.ends = true;
  }
  return false;
}

void ModelServer::send(CallId id) {
  Conversation* conversation = find(id);
  if (conversation->stalled) return;
  if (conversation->watching) gather(*conversation);
  if (conversation->pending.empty() && !conversation->ends) return;
  if (misbehave(*conversation)) return;
  const size_t size =
      random_.chance(0.5) ? conversation->pending.size() : random_.below(conversation->pending.size() + 1);
  // Memory of exactly this size, so that a sanitizer sees who reads beyond.
  const std::vector<char> piece(conversation->pending.begin(),
                                conversation->pending.begin() + static_cast<ptrdiff_t>(size));
  conversation->pending.erase(0, size);
  if (size > 0) conversation->events->on_bytes({piece.data(), piece.size()});
  conversation = find(id);
  if (conversation == nullptr) return;
  if (!conversation->pending.empty()) return later(id);
  if (conversation->ends) finish(id, Failure::none);
}

}  // namespace penstock::kube::test
