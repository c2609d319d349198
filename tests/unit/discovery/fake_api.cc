#include "tests/unit/discovery/fake_api.h"

#include <doctest/doctest.h>

namespace penstock::discovery::test {
namespace {

std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 2 >= text.size()) {
      out += text[i];
      continue;
    }
    out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
    i += 2;
  }
  return out;
}

std::string parameter(const std::string& path, const std::string& name) {
  const size_t at = path.find(name + '=');
  if (at == std::string::npos) return "";
  const size_t from = at + name.size() + 1;
  return unescaped(std::string_view(path).substr(from, path.find('&', from) - from));
}

// "/api/v1/namespaces/ns/pods?x" -> "/api/v1/pods" and "ns".
std::pair<std::string, std::string> collection_of(const std::string& path) {
  std::string plain = path.substr(0, path.find('?'));
  const std::string word = "/namespaces/";
  const size_t at = plain.find(word);
  if (at == std::string::npos) return {plain, ""};
  const size_t end = plain.find('/', at + word.size());
  return {plain.substr(0, at) + plain.substr(end), plain.substr(at + word.size(), end - at - word.size())};
}

std::string status_of(int code, const char* reason) {
  return R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":")" + std::string(reason) +
         R"(","code":)" + std::to_string(code) + "}";
}

}  // namespace

kube::CallId FakeApi::start(kube::Call call, kube::CallEvents& events) {
  const kube::CallId id = ++last_id_;
  paths_.push_back(call.method + ' ' + call.path);
  Running running{std::move(call), &events, "", "", "", "", false};
  std::tie(running.collection, running.ns) = collection_of(running.call.path);
  running.selector = parameter(running.call.path, "labelSelector");
  running.name = parameter(running.call.path, "fieldSelector");
  if (!running.name.empty()) running.name = running.name.substr(running.name.find('=') + 1);
  if (running.call.method != "GET") writes.push_back({running.call.method, running.call.path, running.call.body});
  calls_.emplace(id, std::move(running));
  loop_.defer([this, id] { answer(id); });
  return id;
}

void FakeApi::answer(kube::CallId id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  Running& running = found->second;
  if (running.call.method != "GET") return answer_status(id, 200, "{}");
  switch (modes_[running.collection]) {
    case Mode::absent:
      return answer_status(id, 404, status_of(404, "NotFound"));
    case Mode::forbidden:
      return answer_status(id, 403, status_of(403, "Forbidden"));
    case Mode::silent:
      return;
    case Mode::serves:
      break;
  }
  REQUIRE(running.call.path.find("watch=") != std::string::npos);
  running.watching = true;
  running.events->on_status(200, std::nullopt);
  stream(running);
}

void FakeApi::answer_status(kube::CallId id, int status, const std::string& body) {
  kube::CallEvents* const events = calls_.at(id).events;
  calls_.erase(id);
  events->on_status(status, std::nullopt);
  events->on_bytes(body);
  events->on_done(kube::Failure::none, "");
}

// The streamed list, or nothing when an old version is to be followed: nothing is ever missed here.
void FakeApi::stream(Running& running) {
  if (parameter(running.call.path, "sendInitialEvents") != "true") return;
  std::string out;
  for (const auto& [key, object] : objects_[running.collection]) {
    if (concerns(running, object)) out += R"({"type":"ADDED","object":)" + with_version(object) + "}\n";
  }
  out += R"({"type":"BOOKMARK","object":{"kind":"X","metadata":{"resourceVersion":")" + std::to_string(version_) +
         R"(","annotations":{"k8s.io/initial-events-end":"true"}}}})" + "\n";
  running.events->on_bytes(out);
}

// Selectors of one label: enough here.
bool FakeApi::concerns(const Running& running, const Object& object) const {
  if (!running.ns.empty() && running.ns != object.ns) return false;
  if (!running.name.empty() && running.name != object.name) return false;
  if (running.selector.empty()) return true;
  const size_t equals = running.selector.find('=');
  const std::string label =
      '"' + running.selector.substr(0, equals) + R"(":")" + running.selector.substr(equals + 1) + '"';
  return object.json.find(label) != std::string::npos;
}

std::string FakeApi::with_version(const Object& object) const {
  return R"({"metadata":{"resourceVersion":")" + std::to_string(version_) + "\"," + object.json;
}

void FakeApi::put(const std::string& collection, const std::string& ns, const std::string& name, const std::string& uid,
                  const std::string& more) {
  const std::string head =
      (ns.empty() ? "" : R"("namespace":")" + ns + "\",") + R"("name":")" + name + R"(","uid":")" + uid + "\"";
  ++version_;
  auto& objects = objects_[collection];
  const auto [at, added] = objects.insert_or_assign(ns + '/' + name, Object{ns, name, head + more + "}"});
  tell(added ? "ADDED" : "MODIFIED", collection, at->second);
}

void FakeApi::remove(const std::string& collection, const std::string& ns, const std::string& name) {
  ++version_;
  auto& objects = objects_[collection];
  const auto at = objects.find(ns + '/' + name);
  REQUIRE(at != objects.end());
  const Object object = at->second;
  objects.erase(at);
  tell("DELETED", collection, object);
}

void FakeApi::tell(const std::string& type, const std::string& collection, const Object& object) {
  const std::string line = R"({"type":")" + type + R"(","object":)" + with_version(object) + "}\n";
  for (auto& [id, running] : calls_) {
    if (running.watching && running.collection == collection && concerns(running, object)) {
      running.events->on_bytes(line);
    }
  }
}

void FakeApi::speak(const std::string& collection) {
  modes_[collection] = Mode::serves;
  std::vector<kube::CallId> waiting;
  for (const auto& [id, running] : calls_) {
    if (running.collection == collection && !running.watching) waiting.push_back(id);
  }
  for (const kube::CallId id : waiting) answer(id);
}

std::set<std::string> FakeApi::asked() const {
  std::set<std::string> out;
  for (const auto& [id, running] : calls_) {
    if (running.call.method != "GET") continue;
    out.insert(running.collection + (running.ns.empty() ? "" : " in " + running.ns) +
               (running.selector.empty() ? "" : " with " + running.selector) +
               (running.name.empty() ? "" : " named " + running.name));
  }
  return out;
}

size_t FakeApi::calls_to(std::string_view part) const {
  size_t count = 0;
  for (const std::string& path : paths_) count += path.find(part) != std::string::npos;
  return count;
}

}  // namespace penstock::discovery::test
