// A shard with several pools, routes and rewrites, made of manifests: where requests go, what the servers get, and what
// the client gets back, however the network cuts it.
#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "penstock/http/writer.h"
#include "penstock/objects/manifest.h"
#include "penstock/objects/resolve.h"
#include "world.h"

namespace penstock::test {
namespace {

// An answer as a client has it.
struct Reply {
  uint16_t status = 0;
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;
};

class ReplyReader final : private http::ParserEvents {
 public:
  Reply read(const std::string& request, const std::string& bytes) {
    if (request.starts_with("HEAD ")) parser_.expect_response_to(http::Method::head);
    const auto fed = parser_.feed(bytes);
    REQUIRE(fed.error == http::ParseError::none);
    REQUIRE(ended_);
    CHECK(fed.consumed == bytes.size());
    return reply_;
  }

 private:
  void on_head(http::Head& head) override {
    reply_.status = head.status;
    for (const http::Header& header : head.headers()) {
      std::string name;
      for (const char c : header.name) name += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
      reply_.fields[name] = header.value;
    }
  }
  void on_body(std::string_view bytes) override { reply_.body += bytes; }
  void on_message_end(bool) override { ended_ = true; }
  http::Parser parser_{http::Parser::Kind::response, *this};
  Reply reply_;
  bool ended_ = false;
};

std::string model_in(const std::string& request) {
  constexpr std::string_view key = "\"model\":\"";
  const size_t at = request.find(key);
  return at == std::string::npos ? "" : request.substr(at + key.size(), request.find('"', at + key.size()) - at - 9);
}

class Watcher final : public proxy::ExchangeObserver {
 public:
  void exchange_started() override {}
  uint32_t running_began(const proxy::RequestKind&) override { return proxy::no_kind; }
  void running_ended(uint32_t) override {}
  void decision_made(Duration, bool, const endpoints::EndpointState*, std::string_view) override {}
  void attempt_failed(proxy::AttemptFailure, bool) override {}
  void endpoint_ejected(const endpoints::EndpointState&, proxy::Ejection) override {}
  void client_connections_changed(int) override {}
  void limit_hit(std::string_view) override {}
  void model_rewritten(std::string_view rewrite, std::string_view model, std::string_view target) override {
    rewrites.push_back(std::string(rewrite) + ' ' + std::string(model) + ' ' + std::string(target));
  }
  void finished(const proxy::ExchangeRecord& record) override {
    priority = record.kind.priority;
    target_model = record.kind.target_model;
    has_usage = record.has_usage;
  }
  std::vector<std::string> rewrites;
  int priority = 0;
  std::string target_model;
  bool has_usage = false;
};

// Two model servers, "a" on port 9001 and "b" on 9002, each of its own pool.
class Cluster {
 public:
  explicit Cluster(uint64_t seed = 1, const SimFaults& faults = SimFaults::none())
      : network_(seed, faults), shard_(network_, {}, watcher, {}) {
    for (size_t i = 0; i < 2; ++i) {
      servers_.push_back(std::make_unique<SimServer>(
          network_, sim_address(static_cast<uint16_t>(9001 + i)),
          [this, i](SimPeer& peer) { peer.on_event = [this, i](SimPeer& p) { serve(i, p); }; }));
    }
  }
  ~Cluster() {
    shard_.close_and_check(network_);
    for (const auto& server : servers_) {
      server->stop();
      for (const auto& peer : server->peers()) peer->close();
    }
    network_.run_for(seconds(1));
  }

  void publish(const std::string& objects, const SimShard::Models& models = {}, bool both = true) {
    std::string text = objects;
    for (const char* name : {"a", "b"}) {
      if (!both && *name == 'b') continue;
      const std::string port = *name == 'a' ? "9001" : "9002", n = name;
      text += "\n---\napiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: " + n +
              "}\nspec: {selector: {matchLabels: {app: " + n + "}}, targetPorts: [{number: " + port + "}]}\n" +
              "---\napiVersion: v1\nkind: Pod\nmetadata: {name: pod-" + n + ", uid: u" + n + ", labels: {app: " + n +
              "}}\nstatus: {phase: Running, podIP: 127.0.0.1, conditions: [{type: Ready, status: \"True\"}]}\n";
    }
    const auto manifests = objects::read_manifests({{"test", text}}, "default");
    for (const auto& problem : manifests.problems) FAIL(to_string(problem));
    objects::apply_manifests(manifests, store_);
    shard_.publish(resolver_.update(1), models);
  }
  SimShard& shard() { return shard_; }
  SimServer& server(size_t i) { return *servers_[i]; }

  Reply ask(const std::string& request) {
    SimPeer client(network_);
    client.connect(shard_.address());
    client.send(request);
    network_.run_until([&] { return client.ended(); }, seconds(30));
    return ReplyReader().read(request, client.received());
  }
  Reply get(const std::string& path, const std::string& fields = "") {
    return ask("GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + fields + "\r\n");
  }
  Reply complete(const std::string& model, bool stream = false, const std::string& fields = "",
                 const std::string& path = "/v1/completions") {
    const std::string body = R"({"prompt":"hi","model":")" + model + R"(","stream":)" + (stream ? "true}" : "false}");
    return post(path, body, fields);
  }
  Reply post(const std::string& path, const std::string& body, const std::string& fields = "") {
    return ask("POST " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n" + fields + "\r\n" + body);
  }

  Watcher watcher;
  std::vector<std::string> requests[2];  // that each server got
  bool silent = false;                   // the servers do not answer

 private:
  void serve(size_t i, SimPeer& peer) {
    const size_t end = peer.received().find("\r\n\r\n");
    if (end == std::string::npos) return;
    const size_t length = peer.received().find("content-length: ");
    const size_t size = length < end ? std::stoul(peer.received().substr(length + 16)) : 0;
    if (peer.received().size() < end + 4 + size) return;
    requests[i].push_back(peer.take());
    if (!silent) peer.send(answer(requests[i].back()));
  }

  static std::string answer(const std::string& request) {
    const std::string model = R"("model":")" + model_in(request) + '"';
    const std::string text = R"("text":"{\"model\":\")" + model_in(request) + R"(\"}")";
    const std::string usage = R"("usage":{"prompt_tokens":1,"completion_tokens":1})";
    if (request.find("\"stream\":true") == std::string::npos) {
      const std::string body = "{" + model + R"(,"choices":[{)" + text + R"(,"finish_reason":"stop"}],)" + usage + "}";
      return "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: sim\r\ncontent-length: " +
             std::to_string(body.size()) + "\r\n\r\n" + body;
    }
    std::string out = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    for (int i = 0; i < 3; ++i) http::append_chunk(out, "data: {" + model + R"(,"choices":[{)" + text + "}]}\n\n");
    http::append_chunk(out, "data: {" + model + R"(,"choices":[],)" + usage + "}\n\n");
    http::append_chunk(out, "data: [DONE]\n\n");
    http::append_chunk(out, "");
    return out;
  }

  SimNetwork network_;
  std::vector<std::unique_ptr<SimServer>> servers_;
  SimShard shard_;
  objects::Store store_;
  objects::Resolver resolver_{store_, objects::ResolveOptions{.implicit_gateway = true}};
};

const std::string kRewrites = R"(
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: aliases}
spec:
  poolRef: {name: a}
  rules:
  - {matches: [{model: {value: chat}}], targets: [{modelRewrite: served/llama-3.1-8b}]}
  - {matches: [{model: {value: split}}], targets: [{modelRewrite: one, weight: 1}, {modelRewrite: two, weight: 1}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: urgent}
spec: {poolRef: {name: a}, priority: 7}
)";

std::string route(const std::string& rules) {
  return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {rules: [" + rules +
         "]}\n";
}
std::string to(const std::string& pool, const std::string& more = "") {
  return "{group: inference.networking.k8s.io, kind: InferencePool, name: " + pool + more + "}";
}

SimFaults cuts() {
  SimFaults faults = SimFaults::none();
  faults.fragment = faults.short_delivery = faults.short_send = 0.7;
  return faults;
}

TEST_CASE("a rewritten model reaches the server, and the client sees its own name, streamed or not") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Cluster cluster(seed, cuts());
    cluster.publish(kRewrites);
    const Reply whole = cluster.complete("chat");
    REQUIRE(whole.status == 200);
    CHECK(model_in(cluster.requests[0].at(0)) == "served/llama-3.1-8b");
    CHECK(whole.body ==
          R"({"model":"chat","choices":[{"text":"{\"model\":\"served/llama-3.1-8b\"}","finish_reason":"stop"}],)"
          R"("usage":{"prompt_tokens":1,"completion_tokens":1}})");
    CHECK(whole.fields.at("content-length") == std::to_string(whole.body.size()));
    CHECK(cluster.watcher.has_usage);
    CHECK(cluster.watcher.target_model == "served/llama-3.1-8b");

    const Reply stream = cluster.complete("chat", true);
    const std::string event =
        "data: {\"model\":\"chat\",\"choices\":[{\"text\":\"{\\\"model\\\":\\\"served/llama-3.1-8b\\\"}\"}]}\n\n";
    CHECK(stream.body == event + event + event +
                             "data: {\"model\":\"chat\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
                             "\"completion_tokens\":1}}\n\ndata: [DONE]\n\n");
    CHECK(cluster.watcher.rewrites ==
          std::vector<std::string>{"aliases chat served/llama-3.1-8b", "aliases chat served/llama-3.1-8b"});
  }
}

TEST_CASE("a model gets its other name on any path whose body is JSON") {
  Cluster cluster;
  cluster.publish(kRewrites, {{"pod-a-rank-0", {"served/llama-3.1-8b"}}}, /*both=*/false);
  for (const char* path : {"/v1/rerank", "/v1/score", "/pooling", "/tokenize", "/detokenize", "/v1/audio/speech"}) {
    INFO(path);
    const Reply reply = cluster.complete("chat", false, "", path);
    CHECK(model_in(cluster.requests[0].back()) == "served/llama-3.1-8b");
    CHECK(reply.body.starts_with(R"({"model":"chat",)"));
    CHECK(cluster.watcher.target_model == "served/llama-3.1-8b");
    CHECK(cluster.complete("chat", true, "", path).body.starts_with("data: {\"model\":\"chat\","));
    const Reply unknown = cluster.complete("secret", false, "", path);
    CHECK(unknown.status == 404);
    CHECK(unknown.body.find("model_not_found") != std::string::npos);
  }
  CHECK(cluster.watcher.rewrites.size() == 12);
  const size_t before = cluster.requests[0].size();
  // Nothing of interest in them: they travel as they are.
  for (const char* body : {"{\"prompt\":\"hi\"}", "{\"model\":", "{\"model\":null}", "[\"model\"]", "chat"}) {
    INFO(body);
    CHECK(cluster.post("/tokenize", body).status == 200);
    CHECK(cluster.requests[0].back().ends_with(std::string("\r\n\r\n") + body));
  }
  const std::string form = "--x\r\n\r\n{\"model\":\"secret\"}\r\n--x--\r\n";
  CHECK(cluster.post("/v1/audio/transcriptions", form, "Content-Type: multipart/form-data\r\n").status == 200);
  CHECK(cluster.requests[0].size() == before + 6);
  // What curl -d calls a form is JSON here, too.
  const std::string called_form = "Content-Type: application/x-www-form-urlencoded\r\n";
  CHECK(cluster.complete("chat", false, called_form, "/v1/rerank").body.starts_with(R"({"model":"chat",)"));
  CHECK(model_in(cluster.requests[0].back()) == "served/llama-3.1-8b");
  CHECK(cluster.complete("x", false, "x-gateway-model-name-rewrite: served/llama-3.1-8b\r\n", "/v1/rerank").status ==
        200);
  CHECK(model_in(cluster.requests[0].back()) == "served/llama-3.1-8b");
}

TEST_CASE("of a rewritten model no compressed answer is asked for") {
  Cluster cluster;
  cluster.publish(kRewrites, {}, /*both=*/false);
  cluster.complete("chat", false, "Accept-Encoding: gzip\r\naccept-encoding: br\r\n");
  CHECK(cluster.requests[0].back().find("gzip") == std::string::npos);
  CHECK(cluster.requests[0].back().find("br\r\n") == std::string::npos);
  CHECK(cluster.requests[0].back().find("accept-encoding: identity\r\n") != std::string::npos);
  cluster.complete("other", false, "Accept-Encoding: gzip\r\n");
  CHECK(cluster.requests[0].back().find("Accept-Encoding: gzip\r\n") != std::string::npos);
  CHECK(cluster.requests[0].back().find("identity") == std::string::npos);
}

TEST_CASE("where no pool renames models, they are read on all paths that cost work, and on no others") {
  Cluster cluster;
  cluster.publish("", {{"pod-a-rank-0", {"served"}}}, /*both=*/false);
  CHECK(cluster.complete("secret", false, "", "/tokenize").status == 200);
  CHECK(cluster.watcher.target_model.empty());
  CHECK(cluster.complete("secret", false, "", "/v1/rerank").status == 404);
  CHECK(cluster.complete("served", false, "", "/v1/rerank").status == 200);
  CHECK(cluster.watcher.target_model == "served");
}

TEST_CASE("weighted targets stick to a session, and the head wins over rewrites") {
  Cluster cluster;
  cluster.publish(kRewrites, {}, /*both=*/false);
  std::map<std::string, int> seen;
  for (int i = 0; i < 40; ++i) {
    cluster.complete("split");
    ++seen[cluster.watcher.target_model];
  }
  CHECK(seen["one"] > 5);
  CHECK(seen["two"] > 5);
  std::map<std::string, int> sessions;
  for (int s = 0; s < 20; ++s) {
    const std::string field = "x-session-token: s" + std::to_string(s) + "\r\n";
    cluster.complete("split", false, field);
    const std::string first = cluster.watcher.target_model;
    ++sessions[first];
    for (int i = 0; i < 4; ++i) {
      cluster.complete("split", false, field);
      CHECK(cluster.watcher.target_model == first);
    }
  }
  CHECK(sessions.size() == 2);
  const Reply forced = cluster.complete("split", false, "x-gateway-model-name-rewrite: three\r\n");
  CHECK(cluster.watcher.target_model == "three");
  CHECK(forced.body.starts_with(R"({"model":"split",)"));
}

TEST_CASE("several pools without routes are told apart by model") {
  Cluster cluster;
  cluster.publish(kRewrites, {{"pod-a-rank-0", {"served/llama-3.1-8b"}}, {"pod-b-rank-0", {"qwen"}}});
  cluster.complete("chat");
  CHECK(cluster.requests[0].size() == 1);
  cluster.complete("qwen");
  CHECK(cluster.requests[1].size() == 1);
  const Reply unknown = cluster.complete("secret");
  CHECK(unknown.status == 404);
  CHECK(unknown.body == R"({"error":{"message":"The model `secret` does not exist.","type":"NotFoundError",)"
                        R"("param":"model","code":"model_not_found"}})");
  // A path of which nothing but the model is of interest.
  cluster.complete("qwen", false, "", "/v1/rerank");
  CHECK(cluster.requests[1].size() == 2);
}

TEST_CASE("a pool that surely does not serve a model refuses it") {
  Cluster cluster;
  cluster.publish(kRewrites, {{"pod-a-rank-0", {"served/llama-3.1-8b"}}}, /*both=*/false);
  CHECK(cluster.complete("chat").status == 200);
  CHECK(cluster.complete("other").status == 404);
  CHECK(cluster.complete("split").status == 404);  // leads to what nobody serves
  cluster.publish(kRewrites, {}, /*both=*/false);  // not known: the server decides
  CHECK(cluster.complete("other").status == 200);
}

TEST_CASE("models are listed with their aliases") {
  Cluster cluster;
  cluster.publish(kRewrites, {{"pod-a-rank-0", {"served/llama-3.1-8b"}}, {"pod-b-rank-0", {"qwen"}}});
  const Reply all = cluster.get("/v1/models");
  for (const char* id : {"chat", "split", "served/llama-3.1-8b", "qwen"}) {
    INFO(id);
    CHECK(all.body.find(std::string("{\"id\":\"") + id + R"(","object":"model")") != std::string::npos);
    CHECK(cluster.get("/v1/models/" + std::string(id)).body.starts_with(std::string("{\"id\":\"") + id + "\""));
  }
  CHECK(cluster.get("/v1/models/served%2Fllama-3.1-8b").status == 200);
  const Reply unknown = cluster.get("/v1/models/none");
  CHECK(unknown.status == 404);
  CHECK(unknown.body.find("model_not_found") != std::string::npos);
  CHECK(cluster.requests[0].empty());
}

TEST_CASE("an alias that leads nowhere is not listed") {
  Cluster cluster;
  cluster.publish(R"(
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: aliases}
spec:
  poolRef: {name: a}
  rules:
  - {matches: [{model: {value: chat}}], targets: [{modelRewrite: base}]}
  - {matches: [{model: {value: empty}}]}
  - {matches: [{model: {value: base}}]}
)",
                  {{"pod-a-rank-0", {"base"}}}, /*both=*/false);
  const Reply all = cluster.get("/v1/models");
  for (const char* id : {"chat", "base"}) CHECK(all.body.find(std::string("\"") + id + "\"") != std::string::npos);
  CHECK(all.body.find("empty") == std::string::npos);
  CHECK(cluster.get("/v1/models/empty").status == 404);
  CHECK(cluster.complete("empty").status == 404);
  CHECK(cluster.complete("base").status == 200);
}

TEST_CASE("routes decide by path and header, change heads, and end what takes too long") {
  Cluster cluster;
  cluster.publish(route(
      "{matches: [{path: {value: /v1/completions}, headers: [{name: X-Team, value: b}]}], backendRefs: [" + to("b") +
      "], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: c}], "
      "remove: [x-drop]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-via, value: r}], "
      "remove: [server]}}]}, {matches: [{path: {value: /v1/completions}}], timeouts: {request: 5s}, backendRefs: [" +
      to("a") + "]}, {matches: [{path: {value: /nowhere}}], backendRefs: [" + to("missing") + "]}"));
  const Reply b = cluster.complete("m", false, "X-Team: b\r\nX-Drop: 1\r\n");
  REQUIRE(cluster.requests[1].size() == 1);
  CHECK(cluster.requests[1][0].find("x-team: c\r\n") != std::string::npos);
  CHECK(cluster.requests[1][0].find("X-Team: b") == std::string::npos);
  CHECK(cluster.requests[1][0].find("X-Drop") == std::string::npos);
  CHECK(b.fields.at("x-via") == "r");
  CHECK_FALSE(b.fields.contains("server"));
  const Reply a = cluster.complete("m");
  CHECK(cluster.requests[0].size() == 1);
  CHECK(a.fields.at("server") == "sim");

  const Reply none = cluster.get("/other");
  CHECK(none.status == 404);
  CHECK(none.body.find(R"("code":"route_not_found")") != std::string::npos);
  CHECK(cluster.get("/nowhere").status == 500);
  cluster.silent = true;
  CHECK(cluster.complete("m").status == 504);
}

TEST_CASE("a repeated field is matched as one") {
  Cluster cluster;
  cluster.publish(route("{matches: [{headers: [{name: X-Tier, value: gold}]}], backendRefs: [" + to("b") +
                        "]}, {matches: [{headers: [{name: X-Tier, value: 'a,b,c,d'}]}], backendRefs: [" + to("b") +
                        "]}, {backendRefs: [" + to("a") + "]}"));
  cluster.complete("m", false, "X-Tier: gold\r\nX-Tier: silver\r\n");
  cluster.complete("m", false, "X-Tier: silver\r\nX-Tier: gold\r\n");
  cluster.complete("m", false, "X-Tier: \r\nX-Tier: gold\r\n");
  CHECK(cluster.requests[0].size() == 3);
  CHECK(cluster.requests[1].empty());
  cluster.complete("m", false, "X-Tier: gold\r\n");
  cluster.complete("m", false, "X-Tier: a\r\nX-Other: x\r\nx-tier: b,c\r\nX-TIER:  d \r\n");
  CHECK(cluster.requests[1].size() == 2);
}

TEST_CASE("weights share requests between backends") {
  Cluster cluster;
  cluster.publish(route("{backendRefs: [" + to("a", ", weight: 3") + ", " + to("b", ", weight: 1") + "]}"));
  for (int i = 0; i < 80; ++i) CHECK(cluster.complete("m").status == 200);
  CHECK(cluster.requests[0].size() > 45);
  CHECK(cluster.requests[1].size() > 8);
}

TEST_CASE("an objective gives its priority, and other names none") {
  Cluster cluster;
  cluster.publish(kRewrites, {}, /*both=*/false);
  cluster.complete("m", false, "x-gateway-inference-objective: urgent\r\n");
  CHECK(cluster.watcher.priority == 7);
  cluster.complete("m", false, "x-gateway-inference-objective: unknown\r\n");
  CHECK(cluster.watcher.priority == 0);
}

TEST_CASE("a HEAD request that cannot be read is answered without a body") {
  Cluster cluster;
  cluster.publish(kRewrites);
  CHECK(cluster.ask("HEAD / HTTP/1.1\r\nHost: h\r\nno field\r\n\r\n").status == 400);
  cluster.shard().budget().set_limit(0);
  CHECK(cluster.ask("HEAD / HTTP/1.1\r\nHos").status == 503);
}

TEST_CASE("an endpoint that cannot be connected to is reported, once a second at most") {
  Cluster cluster;
  cluster.publish(kRewrites, {}, /*both=*/false);
  std::vector<std::string> reported;
  cluster.shard().on_unreachable([&](const endpoints::EndpointState& state) { reported.push_back(state.name); });
  cluster.server(0).stop();
  for (int i = 0; i < 3; ++i) CHECK(cluster.complete("m").status >= 502);
  CHECK(reported == std::vector<std::string>{"pod-a-rank-0"});
}

}  // namespace
}  // namespace penstock::test
