#include "src/proxy/intake.h"

#include "fixture.h"

namespace penstock::proxy {
namespace {

TEST_CASE("a completion is understood: its model, its kind, its pool, its size") {
  Scene scene;
  const Asked asked(scene, "POST /v1/completions", "x-request-id: r\r\n",
                    R"({"model":"m","prompt":"Once upon a time","max_tokens":7,"stream":true})");
  REQUIRE(asked.verdict.goes_on());
  const Intake& intake = asked.intake;
  CHECK(intake.inference());
  CHECK(intake.costs_work());
  CHECK(intake.target_model() == "m");
  CHECK_FALSE(intake.model_renamed());
  CHECK(intake.request().max_tokens == 7u);
  CHECK(intake.request().stream);
  CHECK(intake.pool_id() == 0u);
  CHECK(intake.prompt_tokens() > 0);
  CHECK(intake.head().request_id == "r");
  CHECK(intake.client_ip() == "10.0.0.9");
  CHECK(intake.kind().model == "m");
  CHECK(intake.kind().fairness_id == admission::default_flow);
  CHECK(intake.kind_number() != 0);
}

TEST_CASE("what cannot be served ends with an answer that says why") {
  Options options;
  options.body_bytes_max = 100;
  Scene scene(2, options);
  CHECK(Asked(scene, "TRACE /").error() == ErrorCode::method_not_supported);
  CHECK(Asked(scene, "GET /a%00b").error() == ErrorCode::malformed_request);
  CHECK(Asked(scene, "POST /shutdown").error() == ErrorCode::path_not_allowed);
  CHECK(scene.observer.limits == "paths ");
  scene.observer.limits.clear();

  const Asked announced(scene, "POST /v1/completions", "content-length: 101\r\n");
  CHECK(announced.error() == ErrorCode::body_too_large);
  CHECK(announced.verdict.own_answer()->message.find("(100 bytes)") != std::string::npos);
  const Asked longer(scene, "POST /v1/completions", "transfer-encoding: chunked\r\n", std::string(101, ' '));
  CHECK(longer.error() == ErrorCode::body_too_large);
  CHECK(scene.observer.limits == "body_bytes body_bytes ");

  const Asked text(scene, "POST /v1/completions", "", "hello");
  CHECK(text.error() == ErrorCode::invalid_body);
  const Asked packed(scene, "POST /v1/completions", "content-encoding: gzip\r\n", "hello");
  CHECK(packed.verdict.own_answer()->message.find("compressed") != std::string::npos);
  const Asked wrong(scene, "POST /v1/completions", "", R"({"model":1,"prompt":"p"})");
  CHECK(wrong.verdict.own_answer()->param == "model");
}

TEST_CASE("what is not known is forwarded unread") {
  Options options;
  options.paths.allow = {"/something/else"};
  Scene scene(2, options);
  const Asked asked(scene, "POST /something/else", "", R"({"model":"m"})");
  CHECK(asked.verdict.goes_on());
  CHECK_FALSE(asked.intake.inference());
  CHECK_FALSE(asked.intake.model_read());
  CHECK(asked.intake.target_model().empty());
  CHECK(asked.intake.kind_number() == 0);
}

TEST_CASE("an objective gives a priority, a header renames the model") {
  Scene scene;
  const std::vector<std::pair<std::string, int32_t>> objectives = {{"batch", -3}};
  scene.pool.objectives = std::make_shared<objects::Objectives>(objectives);
  scene.publish();
  const Asked asked(scene, "POST /v1/completions",
                    "x-gateway-inference-objective: batch\r\nx-gateway-model-name-rewrite: other\r\n"
                    "x-gateway-inference-fairness-id: team\r\n",
                    R"({"model":"m","prompt":"p"})");
  REQUIRE(asked.verdict.goes_on());
  CHECK(asked.intake.priority() == -3);
  CHECK(asked.intake.target_model() == "other");
  CHECK(asked.intake.model_renamed());
  CHECK(asked.intake.head().fields.get("accept-encoding") == "identity");
  CHECK(asked.intake.kind().fairness_id == "team");
}

TEST_CASE("the list of models is answered from what the endpoints list") {
  Scene scene;
  scene.pool.endpoints[0].models = {"a"};
  scene.pool.endpoints[1].models = {"b"};
  scene.publish();
  const Asked list(scene, "GET /v1/models");
  REQUIRE(list.verdict.own_answer() != nullptr);
  CHECK(list.verdict.own_answer()->error == ErrorCode::none);
  CHECK(list.verdict.own_answer()->body.find(R"("a")") != std::string::npos);
  CHECK(list.verdict.own_answer()->fields.get("content-length") ==
        std::to_string(list.verdict.own_answer()->body.size()));
  CHECK(Asked(scene, "GET /v1/models/c").error() == ErrorCode::model_not_found);
}

TEST_CASE("the next request finds the memory empty") {
  Scene scene;
  Intake::Kept kept;
  for (const bool again : {false, true}) {
    Intake intake(scene.context, kept);
    const Parsed head(http::Parser::Kind::request, "POST /v1/completions HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n");
    REQUIRE(intake.begin(scene.client, head.head()).goes_on());
    if (!again) REQUIRE(intake.take_body(R"({"model":"m","prompt":"p"})").goes_on());
    REQUIRE(intake.choose_rule().goes_on());
    REQUIRE(intake.parse().goes_on());
    CHECK(intake.request().model == (again ? "" : "m"));
    CHECK(intake.inference() != again);
    kept.recycle();
  }
}

}  // namespace
}  // namespace penstock::proxy
