// What the parts of an exchange stand on in tests: a shard's Context on a simulated network, a pool of endpoints that
// are only addresses, and a client that remembers what it was sent.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "penstock/proxy/gateway.h"
#include "src/proxy/intake.h"
#include "tests/support/parsed_head.h"
#include "tests/support/sim_peer.h"

namespace penstock::proxy {

using Parsed = test::ParsedHead;

inline Parsed answer_head(const std::string& text) {
  return Parsed(http::Parser::Kind::response, "HTTP/1.1 " + text + "\r\n\r\n");
}

class RecordingObserver final : public ExchangeObserver {
 public:
  void exchange_started() override {}
  uint32_t running_began(const RequestKind&) override { return no_kind; }
  void running_ended(uint32_t) override {}
  void decision_made(Duration, bool, const endpoints::EndpointState*, std::string_view) override { ++decisions; }
  void attempt_failed(AttemptFailure failure, bool) override { failed.append(to_string(failure)) += ' '; }
  void endpoint_ejected(const endpoints::EndpointState&, Ejection) override { ++ejections; }
  void model_not_restored() override { ++not_restored; }
  void finished(const ExchangeRecord&) override {}
  void client_connections_changed(int) override {}
  void limit_hit(std::string_view name) override { limits.append(name) += ' '; }

  std::string failed, limits;
  int decisions = 0, ejections = 0, not_restored = 0;
};

class FakeClient final : public downstream::Responder {
 public:
  const std::string& client_ip() const override { return ip_; }
  const std::optional<net::IpAddress>& peer() const override { return peer_; }
  downstream::Protocol protocol() const override { return downstream::Protocol::http_1_1; }
  size_t listener() const override { return listener_number; }
  net::TlsInfo tls() const override { return tls_info; }
  downstream::ClientTicket& client_ticket() override { return ticket_; }
  bool takes_chunks() const override { return chunks; }
  downstream::Sent begin(const downstream::AnswerHead& head, std::string_view piece) override {
    status = head.status;
    fields = head.fields;
    form = head.form;
    body += piece;
    return result;
  }
  downstream::Sent send(std::string_view piece) override {
    body += piece;
    return result;
  }
  downstream::Sent insert(std::string_view bytes) override {
    body.append("<").append(bytes) += '>';
    return result;
  }
  downstream::Sent end(std::string_view trailers) override {
    body += '.';
    body += trailers;
    return result;
  }
  bool starved() const override { return false; }
  uint64_t unsent() const override { return 0; }
  void finish() override {}
  void abort() override {}
  void abandon() override {}

  bool chunks = true;
  size_t listener_number = 0;
  net::TlsInfo tls_info;
  downstream::Sent result = downstream::Sent::ok;
  uint16_t status = 0;
  http::Fields fields;
  downstream::BodyForm form = downstream::BodyForm::none;
  std::string body;

 private:
  std::string ip_ = "10.0.0.9";
  std::optional<net::IpAddress> peer_ = net::IpAddress::parse("10.0.0.9");
  downstream::ClientTicket ticket_;
};

struct Scene {
  explicit Scene(size_t endpoints = 2, Options options = {}, routing::Policy policy = routing::Policy::round_robin)
      : client_pool(sim.loop(), {}),
        reader(publisher, 0),
        profile(routing::make_profile(policy)),
        router(*profile, index, 1),
        hold(options.flow, sim.loop().clock()),
        context{.loop = sim.loop(),
                .client = client_pool,
                .router = router,
                .hash_prompts = true,
                .chain_hash = {},
                .index = index,
                .tokens = tokens,
                .budget = sim.pool().budget(),
                .random = random,
                .observer = observer,
                .retries = retries,
                .snapshots = reader,
                .options = options,
                .hold = &hold},
        gateway(context) {
    pool.name = "pool";
    for (size_t i = 0; i < endpoints; ++i) {
      const std::string address = test::sim_address(static_cast<uint16_t>(9000 + i)).to_string();
      states.push_back(&registry.find_or_add(address, "http://" + address, address, address));
      pool.endpoints.push_back({.state = states.back()});
    }
    publish();
  }
  ~Scene() {
    client_pool.drop_all_idle();
    network.run_for(seconds(1));
  }
  void publish() {
    auto snapshot = std::make_unique<endpoints::Snapshot>();
    snapshot->pools.push_back(pool);
    publisher.publish(std::move(snapshot));
    reader.end_turn();
  }
  int64_t requests_at(size_t endpoint) const { return states[endpoint]->load.requests; }
  size_t number_of(const endpoints::EndpointState* state) const {
    return static_cast<size_t>(std::find(states.begin(), states.end(), state) - states.begin());
  }

  test::SimNetwork network{1};
  test::SimLoop sim{network};
  RecordingObserver observer;
  upstream::Client client_pool;
  endpoints::SnapshotPublisher publisher{1};
  endpoints::SnapshotReader reader;
  endpoints::EndpointRegistry registry;
  endpoints::Pool pool;
  std::vector<endpoints::EndpointState*> states;
  routing::PrefixIndex index{1 << 12};
  std::unique_ptr<routing::Profile> profile;
  routing::Router router;
  routing::TokenEstimator tokens;
  Random random{1};
  admission::RetryBudget retries{{}};
  HoldQueue hold;
  Context context;
  Gateway gateway;
  FakeClient client;
};

// A request that has come to the end of its intake, unless a step has ended it: then `verdict` says how.
struct Asked {
  Asked(Scene& scene, const std::string& start, const std::string& fields = {}, std::string_view body = {})
      : intake(scene.context, kept),
        head(http::Parser::Kind::request, start + " HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n"),
        verdict(intake.begin(scene.client, head.head())) {
    if (verdict.goes_on() && !body.empty()) verdict = intake.take_body(body);
    intake.complete();
    if (verdict.goes_on()) verdict = intake.choose_rule();
    if (verdict.goes_on()) verdict = intake.parse();
    if (verdict.goes_on()) verdict = intake.choose_pool();
  }
  ErrorCode error() const { return verdict.own_answer() == nullptr ? ErrorCode::none : verdict.own_answer()->error; }

  Intake::Kept kept;
  Intake intake;
  Parsed head;
  Verdict verdict;
};

}  // namespace penstock::proxy
