#include <doctest/doctest.h>

#include <algorithm>

#include "penstock/epp/scheduling.h"
#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::routing;
using namespace penstock::routing::test;
using namespace penstock::epp;

namespace {

using Scores = std::vector<double>;

struct Media {
  PoolBuilder builder;
  std::unique_ptr<Scorer> scorer;
  Random random{1};

  explicit Media(size_t count, const MediaSpec& media = {})
      : builder(count),
        scorer(make_scorer({.name = "m", .info = find_plugin_type("mm-embeddings-cache-scorer"), .parameters = {}},
                           {.media = media})) {}

  Scores score(std::span<const uint64_t> media) {
    std::vector<Candidate> all;
    for (const auto& view : builder.pool.endpoints) all.push_back({&view});
    Scores scores(all.size(), -7);
    Features features;
    features.media = media;
    scorer->score({features, at_ms(0), random}, all, scores);
    return scores;
  }
  void picked(std::span<const uint64_t> media, Decision decision) {
    Features features;
    features.media = media;
    scorer->picked(features, decision, at_ms(0));
  }
  void picked(std::span<const uint64_t> media, size_t i) {
    Decision decision;
    decision.endpoint = &builder.state(i);
    picked(media, decision);
  }
};

}  // namespace

TEST_CASE("mm-embeddings-cache-scorer: the share of the request's media that an endpoint got before") {
  Media media(3);
  const auto all = hashes(4);
  CHECK(media.score({}) == Scores{0, 0, 0});
  CHECK(media.score(all) == Scores{0, 0, 0});
  media.picked(all, 1);
  media.picked(std::span(all).first(1), 2);
  CHECK(media.score(all) == Scores{0, 1, 0.25});
  CHECK(media.score(std::span(all).last(1)) == Scores{0, 1, 0});
  CHECK(media.score(hashes(4, 99)) == Scores{0, 0, 0});
  CHECK(media.score({}) == Scores{0, 0, 0});
}

TEST_CASE("mm-embeddings-cache-scorer: another pod in the slot, or one that restarted, has nothing encoded") {
  Media media(2);
  const auto all = hashes(2);
  media.picked(all, 0);
  media.picked(all, 1);
  media.scorer->caches_lost(media.builder.state(0));
  CHECK(media.score(all) == Scores{0, 1});
  media.builder.state(1).incarnation = 99;
  CHECK(media.score(all) == Scores{0, 0});
  media.picked(all, 1);
  CHECK(media.score(all) == Scores{0, 1});
}

TEST_CASE(
    "mm-embeddings-cache-scorer remembers as many items of each endpoint as its cache has, about, the last used ones") {
  Media media(2, {.items = 100});
  const auto all = hashes(210);
  const std::span<const uint64_t> early = std::span(all).first(50), middle = std::span(all).subspan(50, 50),
                                  late = std::span(all).subspan(100, 50), last = std::span(all).last(60);
  media.picked(early, 0);
  media.picked(middle, 0);
  media.picked(early, 0);  // used again, so that the middle is the oldest
  media.picked(late, 0);
  media.picked(middle, 1);
  CHECK(media.score(early)[0] > 0.95);
  CHECK(media.score(late)[0] > 0.95);
  media.picked(last, 0);
  CHECK(media.score(last)[0] > 0.95);
  CHECK(media.score(middle)[0] < 0.05);
  CHECK(media.score(middle)[1] > 0.95);  // each has its own
}

TEST_CASE("mm-embeddings-cache-scorer remembers who encodes: the encode stage, else who computes the prompt") {
  Media media(4);
  const auto all = hashes(3);
  Decision decision;
  decision.endpoint = &media.builder.state(0);
  decision.prefill = &media.builder.state(1);
  media.picked(std::span(all).first(1), decision);
  endpoints::EndpointState* const encoders[] = {&media.builder.state(2), &media.builder.state(3)};
  decision.encode = encoders;
  media.picked(std::span(all).subspan(1, 1), decision);
  CHECK(media.score(std::span(all).first(1)) == Scores{0, 1, 0, 0});
  CHECK(media.score(std::span(all).subspan(1, 1)) == Scores{0, 0, 1, 1});
}

TEST_CASE("a router sends media back to where they were encoded, by stage") {
  PoolBuilder builder(4);
  PrefixIndex index(64);
  const char* const roles[] = {"decode", "decode", "encode", "encode"};
  for (size_t i = 0; i < 4; ++i) {
    builder.view(i).labels = std::make_shared<objects::Labels>(objects::Labels{{"llm-d.ai/role", roles[i]}});
  }
  const auto use = [](std::string_view type) {
    return ProfileSpec::Use{{.name = std::string(type), .info = find_plugin_type(type)}};
  };
  SchedulingSpec spec;
  spec.primary = {"decode", {use("decode-filter"), use("active-request-scorer")}};
  spec.encode = ProfileSpec{"encode", {use("encode-filter"), use("mm-embeddings-cache-scorer")}};
  spec.encode_rule.when = StageRule::When::multimodal;
  const auto profile = make_profile(spec);
  CHECK(profile->uses_media);
  Router router(*profile, index, 1);
  Features features;
  features.multimodal = true;
  const auto all = hashes(16);
  std::vector<const endpoints::EndpointState*> first;
  for (size_t i = 0; i < all.size(); ++i) {
    features.media = std::span(all).subspan(i, 1);
    const Decision decision = router.decide(features, builder.pool, at_ms(0), {});
    REQUIRE(decision.encode.size() == 1);
    first.push_back(decision.encode[0]);
    router.picked(features, decision, at_ms(0));
  }
  CHECK(std::count(first.begin(), first.end(), first[0]) < 16);  // equals are drawn at random
  for (size_t i = 0; i < all.size(); ++i) {
    features.media = std::span(all).subspan(i, 1);
    CHECK(router.decide(features, builder.pool, at_ms(0), {}).encode[0] == first[i]);
  }
}

TEST_CASE("a profile says whether any part of it looks at media") {
  const auto use = [](std::string_view type) {
    return ProfileSpec::Use{{.name = std::string(type), .info = find_plugin_type(type)}};
  };
  const ProfileSpec plain{"plain", {use("queue-scorer")}}, media{"media", {use("mm-embeddings-cache-scorer")}};
  const auto uses = [](const SchedulingSpec& spec) { return make_profile(spec)->uses_media; };
  SchedulingSpec spec;
  spec.primary = plain;
  CHECK(!uses(spec));
  spec.by_header = {plain};
  CHECK(!uses(spec));
  spec.by_header = {plain, media};
  CHECK(uses(spec));
  SchedulingSpec primary, staged;
  primary.primary = media;
  CHECK(uses(primary));
  staged.primary = plain;
  staged.prefill = media;
  CHECK(uses(staged));
  CHECK(!make_profile(Policy::expected_cost)->uses_media);
}
