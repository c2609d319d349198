// A whole shard fed from a byte script: what clients send and endpoints answer, when either hangs up, reads slowly or
// dies, how time passes and how the network behaves. Nothing that peers do may make the gateway assert, leak, forget
// an exchange, send anybody what is not HTTP, or give a client what was not the answer to it (shard_peers.h).
//
// Script: seed, gateway, faults, endpoints (1 byte each), then steps of {operation, argument}. The low four bits of an
// operation say what is done (enum Operation), the high four which client or endpoint does it. For clients 64 is not
// such a bit: of a request that is made of a number only the beginning goes out (client_asks, client_adds), or more of
// it (client_reads). Some steps are followed by as many bytes as their argument says.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "penstock/base/log.h"
#include "penstock/objects/manifest.h"
#include "penstock/objects/resolve.h"
#include "script.h"
#include "shard_http2_client.h"
#include "shard_peers.h"
#include "tests/support/sim_shard.h"

namespace penstock::test {
namespace {

enum Operation : uint8_t {
  client_sends,      // argument: how many bytes of the script follow, and are sent
  endpoint_sends,    // the same, on every connection that it has
  time_passes,       // argument x 10 ms; from 128 on (argument - 127) x 5 s
  client_ends,       // argument % 4: closes, resets, finishes sending
  endpoint_ends,     // the same, and 3: stops listening, or listens again
  client_comes,      // connects (again)
  client_asks,       // argument: RequestKind
  client_adds,       // the same with a field that the gateway looks at; a byte says which, and how long its value is
  endpoint_says,     // argument: AnswerKind; all of the answer goes out
  endpoint_makes,    // argument: AnswerKind; nothing goes out yet
  endpoint_goes_on,  // argument: how much goes out; 0: what is left
  client_reads,      // argument % 2: not any more, or again
  endpoint_reads,    // the same
  endpoint_silent,   // it answers no health probe
  gateway_changes,   // the high bits: enum Change
  faults_change,     // argument: as the third byte of the script
};

enum Change : uint8_t {
  endpoints_change,  // argument: a bit for each that there is from now on
  options_change,    // argument: as the second byte of the script
  memory_changes,    // argument x 1000 bytes are the limit
  drain_is_near,
  drain_begins,
  process_ends,   // argument % 2: it tells the exchanges, or cuts what is left
  routes_change,  // until endpoints_change there are two pools, chosen by routes (argument % 2 == 0) or by model
  http2_acts,     // argument: one of four HTTP/2 clients, what it does (enum Http2Action), and how; a byte follows
};
enum Http2Action : uint8_t {
  http2_asks,
  http2_begins,
  http2_goes_on,
  http2_resets,
  http2_reads,
  http2_ends,
  http2_pings
};
constexpr uint8_t in_parts = 64;

SimFaults faults_of(uint8_t bits) {
  SimFaults faults;
  if (bits & 1) faults.fragment = faults.short_delivery = faults.short_send = 0.5;
  if (bits & 2) faults.late_bytes = faults.late_fin = faults.error_while_paused = 0.5;
  if (bits & 4) faults.reset = 0.05, faults.reset_loses_data = 0.5;
  if (bits & 8) faults.connect_refused = 0.3, faults.connect_lost = faults.connect_no_socket = 0.1;
  if (bits & 16) faults.accept_error = 0.3;
  if (bits & 32) faults.slow_turn = 0.2;
  if (bits & 64) faults.socket_buffer_min = 64, faults.socket_buffer_max = 256;
  if (bits & 128) faults.latency_spike = 0.2;
  return faults;
}

proxy::Options options_of(uint8_t bits) {
  proxy::Options options;
  options.body_bytes_max = bits & 1 ? 1000 : 16'384;
  options.flow.enabled = bits & 2;
  options.resume.enabled =
      false;  // endpoints get what clients send and nothing else: tests/sim/resume_test.cc is for that
  options.paths.allow = {"/**"};
  options.flow.detector.detector = admission::Detector::concurrency;
  options.flow.detector.concurrency = 1;
  options.flow.evicts = options.flow.band_given = bits & 4;
  options.flow.no_endpoint_ttl = Duration{0};
  if (bits & 8) {
    options.connect_timeout = milliseconds(50);
    options.first_byte_timeout = milliseconds(200);
    options.chunk_idle_timeout = milliseconds(300);
    options.flow.ttl = milliseconds(400);
    options.flow.no_endpoint_ttl = milliseconds(100);
  }
  if (bits & 16) options.total_timeout = seconds(1);
  if (bits & 32) options.requests_max = 2;
  options.identity_headers = {"x-agent"};
  return options;
}
constexpr uint8_t little_memory = 64, silent_end = 128;

// Two pools on the first three endpoints, and routes with most of what a route may do.
constexpr const char* kPools = R"(
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: a}
spec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 9000}, {number: 9001}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: b}
spec: {selector: {matchLabels: {app: b}}, targetPorts: [{number: 9000}, {number: 9002}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, uid: a, labels: {app: a}}
status: {phase: Running, podIP: 127.0.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, uid: b, labels: {app: b}}
status: {phase: Running, podIP: 127.0.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: other}
spec: {poolRef: {name: b}, rules: [{matches: [{model: {value: m}}], targets: [{modelRewrite: served/other-name}]}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: batch}
spec: {poolRef: {name: a}, priority: -1}
)";
constexpr const char* kRoutes = R"(
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
  - matches: [{path: {type: Exact, value: /other}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere, statusCode: 301}}]
  - matches: [{path: {type: Exact, value: /v1/chat/completions}}]
    timeouts: {request: 2s, backendRequest: 300ms}
    retry: {attempts: 1}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-set, value: s}], add: [{name: x-agent, value: t}], remove: [x-slo-tpot-ms]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-request-id, value: s}], remove: [content-encoding]}
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: a}]
  - matches: [{path: {value: /}, headers: [{name: x-gateway-inference-objective, value: batch}]}]
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: a}]
  - matches: [{path: {value: /}, headers: [{name: x-session-token, value: none}]}]
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: c}]
  - backendRefs:
    - {group: inference.networking.k8s.io, kind: InferencePool, name: a, weight: 1}
    - {group: inference.networking.k8s.io, kind: InferencePool, name: b, weight: 3}
)";

objects::Desired resolved(const std::string& objects) {
  const auto manifests = objects::read_manifests({{"objects", objects}}, "default");
  for (const auto& problem : manifests.problems) std::fprintf(stderr, "%s\n", to_string(problem).c_str());
  if (!manifests.problems.empty()) std::abort();
  objects::Store store;
  objects::apply_manifests(manifests, store);
  return objects::Resolver(store, objects::ResolveOptions{.implicit_gateway = true}).update(1);
}

class Observer final : public proxy::ExchangeObserver, proxy::GapObserver {
 public:
  Observer(SimNetwork& network, uint32_t attempts_max) : network_(network), attempts_max_(attempts_max) {}
  void exchange_started() override { ++started; }
  uint32_t running_began(const proxy::RequestKind&) override { return static_cast<uint32_t>(++running); }
  void running_ended(uint32_t) override { --running; }
  void decision_made(Duration, bool, const endpoints::EndpointState*, std::string_view) override {}
  void attempt_failed(proxy::AttemptFailure, bool) override {}
  void endpoint_ejected(const endpoints::EndpointState&, proxy::Ejection) override {}
  proxy::GapObserver* stream_began(const proxy::RequestKind&) override { return this; }
  void gap(Duration time) override {
    if (time < Duration::zero()) network_.fail("time runs backwards");
  }
  void finished(const proxy::ExchangeRecord& record) override {
    ++finished_count;
    if (finished_count > started) network_.fail("an exchange has finished twice");
    // Attempts without a connection do not count while another endpoint is ready (there are three), nor does the
    // return to the one that has refused the request. With so short a no_endpoint_ttl a request goes back once.
    if (record.attempts > attempts_max_ + 2 * 3) network_.fail("more attempts than are allowed");
    const bool answered = (record.status >= 200 && record.status < 500) || record.status == 101;
    if (record.outcome == proxy::Outcome::ok && !answered) network_.fail("what was not answered is no success");
    if (record.outcome == proxy::Outcome::internal_error) network_.fail("an exchange does not know how it ended");
  }
  void client_connections_changed(int delta) override { connections += delta; }
  void limit_hit(std::string_view) override {}

  uint64_t started = 0, finished_count = 0;
  int64_t running = 0, connections = 0;

 private:
  SimNetwork& network_;
  const uint32_t attempts_max_;
};

// A field for the gateway, or one that ends there. Of the script's bytes what a value may hold.
std::string field_of(Script& script) {
  static constexpr std::string_view kNames[] = {"x-llm-d-slo-ttft-ms",
                                                "x-slo-tpot-ms",
                                                "x-llm-d-inference-fairness-id",
                                                "x-gateway-inference-objective",
                                                "x-session-token",
                                                "x-request-id",
                                                "x-agent",
                                                "test-epp-endpoint-selection",
                                                "x-penstock-explain",
                                                "Connection",
                                                "Expect",
                                                "Upgrade",
                                                "TE",
                                                "X-Forwarded-For",
                                                "Content-Type",
                                                "x_request_id"};
  const uint8_t choice = script.byte();
  std::string text(kNames[choice % 16]);
  text += ": ";
  for (const char c : script.bytes(choice / 16 * 2)) {
    if (static_cast<unsigned char>(c) >= ' ' && c != 0x7f) text += c;
  }
  return text + "\r\n";
}

class World {
 public:
  explicit World(Script& script)
      : script_(script),
        network_(script.byte()),
        ledger_(network_),
        gateway_bits_(script.byte()),
        options_(options_of(gateway_bits_)),
        observer_(network_, options_.attempts_max) {
    network_.faults() = faults_of(script.byte());
    const size_t count = 1 + script.byte() % 3;
    for (size_t i = 0; i < count; ++i) {
      endpoints_.push_back(std::make_unique<ScriptEndpoint>(ledger_, static_cast<uint16_t>(9000 + i)));
    }
    shard_ = std::make_unique<SimShard>(network_, addresses(0xff), observer_, options_);
    if (gateway_bits_ & little_memory) shard_->budget().set_limit(40'000);
  }

  void run() {
    for (int steps = 0; !script_.over() && steps < 500; ++steps) {
      const uint8_t operation = script_.byte(), argument = script_.byte();
      client_step(operation, argument);
      endpoint_step(operation, argument);
      if (operation % 16 == time_passes) network_.run_for(time_of(argument));
      if (operation % 16 == faults_change) network_.faults() = faults_of(argument);
      if (operation % 16 == gateway_changes) change(operation / 16 % 8, argument);
      // Steps that are not told apart by time reach the gateway in one turn.
      if (operation < 128) network_.run_for(milliseconds(2));
    }
    end();
  }

 private:
  static Duration time_of(uint8_t argument) {
    return argument < 128 ? milliseconds(argument * 10) : seconds((argument - 127) * 5);
  }

  std::vector<net::Address> addresses(uint8_t bits) const {
    std::vector<net::Address> some;
    for (size_t i = 0; i < endpoints_.size(); ++i) {
      if (bits >> i & 1) some.push_back(endpoints_[i]->address());
    }
    return some;
  }

  std::unique_ptr<ScriptClient>& client_of(uint8_t operation) {
    auto& client = clients_[operation / 16 % 4];
    if (client == nullptr || operation % 16 == client_comes) {
      client = std::make_unique<ScriptClient>(ledger_, shard_->address());
    }
    return client;
  }

  void change(uint8_t what, uint8_t argument) {
    if (what == endpoints_change) shard_->publish(addresses(argument));
    if (what == options_change) shard_->reload(options_of(argument));
    if (what == memory_changes) shard_->budget().set_limit(size_t{argument} * 1000);
    if (what == drain_is_near) shard_->announce_drain();
    if (what == drain_begins) shard_->drain();
    if (what == http2_acts) http2_step(argument, script_.byte());
    if (what == process_ends) argument % 2 == 0 ? shard_->end() : shard_->cut();
    if (what == routes_change) {
      ledger_.pools_rename = true;
      static const objects::Desired routed = resolved(kPools + std::string(kRoutes)), by_model = resolved(kPools);
      shard_->publish(argument % 2 == 0 ? routed : by_model,
                      {{"a-rank-0", {"m"}}, {"b-rank-1", {std::string(served_name), "n"}}});
    }
  }

  void http2_step(uint8_t choice, uint8_t argument) {
    auto& client = http2_clients_[choice % 4];
    const int what = choice / 4 % 8;
    if (client == nullptr || (!client->can_send() && what == http2_asks)) {
      client = std::make_unique<ScriptHttp2Client>(ledger_, shard_->address());
    }
    if (what <= http2_begins && client->can_send()) client->ask(argument, what == http2_asks);
    if (what == http2_goes_on) client->go_on();
    if (what == http2_resets) client->reset(argument);
    if (what == http2_reads && client->peer().is_open()) {
      argument % 2 == 0 ? client->peer().pause() : client->peer().resume();
    }
    if (what == http2_ends) client->peer().close(/*reset=*/argument % 2 == 1);
    if (what == http2_pings && client->can_send()) client->ping();
  }

  void client_step(uint8_t operation, uint8_t argument) {
    const uint8_t what = operation % 16;
    const std::string_view bytes = what == client_sends ? script_.bytes(argument) : std::string_view();
    const std::string field = what == client_adds ? field_of(script_) : "";
    if (what != client_sends && what != client_ends && what != client_comes && what != client_asks &&
        what != client_adds && what != client_reads) {
      return;
    }
    ScriptClient& client = *client_of(operation);
    if (what == client_sends && client.can_send()) client.send_raw(bytes);
    const bool parts = operation & in_parts;
    if ((what == client_asks || what == client_adds) && client.can_send()) client.ask(argument, field, !parts);
    if (what == client_ends && argument % 4 < 2) client.peer().close(/*reset=*/argument % 4 == 1);
    if (what == client_ends && argument % 4 == 2 && client.can_send()) client.finish();
    if (what == client_reads && parts) client.go_on(argument);
    if (what == client_reads && !parts && client.peer().is_open()) {
      argument % 2 == 0 ? client.peer().pause() : client.peer().resume();
    }
  }

  void endpoint_step(uint8_t operation, uint8_t argument) {
    ScriptEndpoint& endpoint = *endpoints_[operation / 16 % endpoints_.size()];
    const uint8_t what = operation % 16;
    if (what == endpoint_silent) shard_->leave_silent(endpoint.address());
    if (what == endpoint_ends && argument % 4 == 3) argument / 4 % 2 == 0 ? endpoint.stop() : endpoint.start();
    const std::string_view bytes = what == endpoint_sends ? script_.bytes(argument) : std::string_view();
    for (const auto& line : endpoint.lines()) {
      if (what == endpoint_sends) line->send_raw(bytes);
      if (what == endpoint_says || what == endpoint_makes) line->answer(argument);
      if (what == endpoint_says) line->flow(0);
      if (what == endpoint_goes_on) line->flow(argument);
      if (what == endpoint_ends && argument % 4 < 2) line->peer().close(/*reset=*/argument % 4 == 1);
      if (what == endpoint_ends && argument % 4 == 2) line->finish();
      if (what == endpoint_reads && line->peer().is_open()) {
        argument % 2 == 0 ? line->peer().pause() : line->peer().resume();
      }
    }
  }

  // Either nobody does anything any more, and every exchange comes to its end all the same; or everybody leaves.
  void end() {
    network_.faults() = {};
    if (gateway_bits_ & silent_end) {
      // One client's requests wait for each other.
      for (uint64_t before = UINT64_MAX; before != observer_.finished_count;) {
        before = observer_.finished_count;
        network_.run_for(seconds(6000));
      }
      if (observer_.finished_count != observer_.started) network_.fail("an exchange waits for ever");
    }
    for (auto& client : clients_) client.reset();
    for (auto& client : http2_clients_) client.reset();
    network_.run_for(seconds(2));
    endpoints_.clear();
    // What was not answered when it connected; and what was held before a reload, with the time to live of then.
    network_.run_for(seconds(700));
    if (observer_.finished_count != observer_.started) network_.fail("an exchange has not finished");
    if (observer_.running != 0) network_.fail("running requests do not add up");
    shard_->close_and_check(network_);
    if (observer_.connections != 0) network_.fail("client connections do not add up");
    if (ledger_.forwarded.size() > observer_.started) network_.fail("more requests were forwarded than begun");
  }

  Script& script_;
  SimNetwork network_;
  Ledger ledger_;
  const uint8_t gateway_bits_;
  const proxy::Options options_;
  Observer observer_;
  std::vector<std::unique_ptr<ScriptEndpoint>> endpoints_;
  std::unique_ptr<SimShard> shard_;
  std::unique_ptr<ScriptClient> clients_[4];
  std::unique_ptr<ScriptHttp2Client> http2_clients_[4];
};

}  // namespace
}  // namespace penstock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  penstock::log::configure(penstock::log::Level::error, penstock::log::Format::text);
  penstock::test::Script script({reinterpret_cast<const char*>(data), size});
  penstock::test::World(script).run();
  return 0;
}
