// A Transport whose calls the test answers, and a sink that records. On the simulated loop: virtual time.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "penstock/kube/reflector.h"
#include "tests/support/sim_ring.h"

namespace penstock::kube::test {

class FakeTransport final : public Transport {
 public:
  struct Started {
    CallId id;
    Call call;
    CallEvents* events;  // nullptr: ended or cancelled
    bool cancelled = false;
  };

  CallId start(Call call, CallEvents& events) override {
    calls.push_back({calls.size() + 1, std::move(call), &events});
    return calls.back().id;
  }
  void cancel(CallId id) override {
    if (id == 0 || id > calls.size() || calls[id - 1].events == nullptr) return;
    calls[id - 1].events = nullptr;
    calls[id - 1].cancelled = true;
  }
  void refresh_credentials() override { ++refreshes; }

  size_t count() const { return calls.size(); }
  const Call& last() const { return calls.back().call; }
  const std::string& path() const { return calls.back().call.path; }
  bool running() const { return calls.back().events != nullptr; }

  // Of the last call, unless another is named.
  void status(int code, std::optional<Duration> retry_after = {}, CallId id = 0) {
    events(id).on_status(code, retry_after);
  }
  void bytes(std::string_view text, CallId id = 0) { events(id).on_bytes(text); }
  void done(Failure failure = Failure::none, CallId id = 0) {
    Started& started = at(id);
    REQUIRE(started.events != nullptr);
    std::exchange(started.events, nullptr)->on_done(failure, failure == Failure::none ? "" : "the test says so");
  }
  void answer(int code, std::string_view body, std::optional<Duration> retry_after = {}, CallId id = 0) {
    if (id == 0) id = calls.size();
    status(code, retry_after, id);
    bytes(body, id);
    done(Failure::none, id);
  }

  std::vector<Started> calls;
  int refreshes = 0;

 private:
  Started& at(CallId id) {
    REQUIRE(!calls.empty());
    return id == 0 ? calls.back() : calls[id - 1];
  }
  CallEvents& events(CallId id) {
    REQUIRE(at(id).events != nullptr);
    return *at(id).events;
  }
};

// Holds what it was told and checks that the telling makes sense.
struct RecordingSink final : ObjectSink {
  struct Held {
    std::string uid, json;
    bool operator==(const Held&) const = default;
  };
  void on_object(ObjectRef object, std::string_view json) override {
    const std::string key = std::string(object.ns) + "/" + std::string(object.name);
    const auto found = held.find(key);
    if (found != held.end()) CHECK(found->second.uid == object.uid);
    held[key] = {std::string(object.uid), std::string(json)};
    ++objects;
    log += "+" + std::string(object.name) + "(" + std::string(object.uid) + ") ";
    if (when_object) when_object();
  }
  void on_deleted(ObjectRef object) override {
    const auto found = held.find(std::string(object.ns) + "/" + std::string(object.name));
    REQUIRE(found != held.end());
    CHECK(found->second.uid == object.uid);
    held.erase(found);
    log += "-" + std::string(object.name) + "(" + std::string(object.uid) + ") ";
  }
  void on_synced() override {
    ++synced;
    log += "synced ";
    if (when_synced) when_synced();
  }
  void on_reached() override { ++reached; }
  std::string take_log() { return std::exchange(log, {}); }

  std::map<std::string, Held> held;
  std::string log;
  int synced = 0, objects = 0, reached = 0;
  std::function<void()> when_object, when_synced;
};

inline std::string object_json(const std::string& name, const std::string& uid, int version,
                               const std::string& more = "") {
  return R"({"metadata":{"name":")" + name + R"(","namespace":"ns","uid":")" + uid + R"(","resourceVersion":")" +
         std::to_string(version) + "\"}" + more + "}";
}
inline std::string event_line(const std::string& type, const std::string& object) {
  return R"({"type":")" + type + R"(","object":)" + object + "}\n";
}
inline std::string bookmark(int version, bool end = false) {
  return event_line("BOOKMARK", R"({"kind":"Pod","metadata":{"resourceVersion":")" + std::to_string(version) + "\"" +
                                    (end ? R"(,"annotations":{"k8s.io/initial-events-end":"true"})" : "") + "}}");
}
inline std::string list_json(int version, const std::vector<std::string>& items, const std::string& token = "") {
  std::string out =
      R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":")" + std::to_string(version) + "\"";
  if (!token.empty()) out += R"(,"continue":")" + token + "\"";
  out += R"(},"items":[)";
  for (size_t i = 0; i < items.size(); ++i) out += (i == 0 ? "" : ",") + items[i];
  return out + "]}";
}
inline std::string status_json(int code, const std::string& reason, const std::string& details = "") {
  return R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no: )" + reason +
         R"(","reason":")" + reason + "\"" + (details.empty() ? "" : R"(,"details":)" + details) + R"(,"code":)" +
         std::to_string(code) + "}";
}

// A reflector on virtual time.
struct Bench {
  explicit Bench(ReflectorLimits limits = {}, Resource resource = pods()) : resource_(std::move(resource)) {
    reflector = std::make_unique<Reflector>(loop.loop(), transport, random, "pods", resource_, sink, limits);
  }
  static Resource pods() { return {"/api/v1", "pods", "ns", "app in (a, b)", ""}; }
  void run(Duration time) { network.run_for(time); }
  // Through a streamed list of one object to a running watch.
  void sync() {
    reflector->start();
    transport.status(200);
    transport.bytes(event_line("ADDED", object_json("a", "u1", 5)) + bookmark(10, true));
    sink.take_log();
  }
  // Runs until another call has begun; how long that took.
  Duration until_next_call(Duration most = seconds(1000)) {
    const size_t before = transport.count();
    const Instant start = network.now();
    REQUIRE(network.run_until([&] { return transport.count() > before; }, most));
    return network.now() - start;
  }
  ReflectorStatus status() const { return reflector->status(); }
  uint64_t restarts(Restart reason) const { return status().restarts[static_cast<size_t>(reason)]; }
  uint64_t relists(Relist reason) const { return status().relists[static_cast<size_t>(reason)]; }

  penstock::test::SimNetwork network{1};
  penstock::test::SimLoop loop{network};
  Random random{7};
  FakeTransport transport;
  RecordingSink sink;
  Resource resource_;
  std::unique_ptr<Reflector> reflector;
};

// Past the streamed list that this server does not know: on to a plain list.
inline void refuse_stream(Bench& b) {
  b.reflector->start();
  b.transport.answer(422, status_json(422, "Invalid"));
}

}  // namespace penstock::kube::test
