// expected-cost-scorer: what it would cost, in seconds, to send this request to each candidate. The formula and where
// it comes from are in docs/ROUTING.md.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "penstock/routing/router.h"
#include "penstock/routing/scorers.h"

namespace penstock::routing {

struct ExpectedCostOptions {
  double later_weight = 0.25;  // of our prefill once more: for so long it keeps requests waiting that come later
  double stall_weight = 0.2;   // of the time that our prefill stalls each decoding sequence
  double decode_weight = 0.1;  // of the time that the tokens held add to our decode steps
  double kv_reserve = 0.1;     // share of the KV cache whose use is priced
  ColdStart cold_start = ColdStart::defaults;
};

// Scores are the costs mapped to [0,1], the cheapest 1. Until answers have taught something, the pace is an assumed
// one: what counts is then how the terms compare, and prefills waiting, to come and stalling compare at any pace.
class ExpectedCostScorer final : public Scorer {
 public:
  explicit ExpectedCostScorer(const ExpectedCostOptions& options = {}) : options_(options) {}
  std::string_view type() const override { return "expected-cost-scorer"; }
  void score(const Inputs& in, std::span<const Candidate> candidates, std::span<double> scores) const override;
  std::span<const std::string_view> term_names() const override;
  void terms(const Inputs& in, std::span<const Candidate> candidates, std::span<double> values) const override;
  // The costs themselves, in seconds. False while too little is learnt: then these are seconds of an assumed pace.
  bool costs(const Inputs& in, std::span<const Candidate> candidates, std::span<double> out) const;

 private:
  ExpectedCostOptions options_;
};

// Fills Candidate::predicted of each, from what is learnt of all of them: how long the request would take there.
void predict(const Inputs& in, std::span<Candidate> candidates);

}  // namespace penstock::routing
