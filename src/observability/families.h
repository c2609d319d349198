// Builds the metric families of one page from counters and histograms, on prometheus-cpp's model.
#pragma once

#include <prometheus/metric_family.h>

#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/stats.h"

namespace penstock::observability {

using Label = prometheus::ClientMetric::Label;
using Labels = std::vector<Label>;

// Adds up one histogram over shards.
class HistogramSum {
 public:
  template <const auto& Bounds>
  void add(const Histogram<Bounds>& histogram) {
    bounds_ = Histogram<Bounds>::bounds();
    counts_.resize(Histogram<Bounds>::bound_count + 1);
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += histogram.bucket(i);
    sum_ += histogram.sum();
  }
  // Counts by these upper bounds alone, which must be some of those that it has.
  void keep_bounds(std::span<const double> kept);
  bool empty() const;
  prometheus::ClientMetric::Histogram to_metric() const;

 private:
  std::span<const double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0;
};

// One family under construction: kept when it has at least one series.
class Families {
 public:
  class Family {
   public:
    explicit Family(prometheus::MetricFamily& family) : family_(family) {}
    void add(double value, Labels labels = {});
    void add(const HistogramSum& histogram, Labels labels = {});

   private:
    prometheus::MetricFamily& family_;
  };

  // The reference is valid until the next call.
  Family counter(std::string_view name, std::string help) {
    return make(name, std::move(help), prometheus::MetricType::Counter);
  }
  Family gauge(std::string_view name, std::string help) {
    return make(name, std::move(help), prometheus::MetricType::Gauge);
  }
  Family histogram(std::string_view name, std::string help) {
    return make(name, std::move(help), prometheus::MetricType::Histogram);
  }

  // The family of this name once more, under another name; `change` gets the labels of each series. Nothing happens
  // when there is none.
  void repeat(std::string_view name, std::string_view again, const std::function<void(Labels&)>& change);

  // Removes the families whose names begin with one of these.
  void remove(std::span<const std::string_view> prefixes);

  // Appends the text of all families that have series.
  void write(std::string& out);

 private:
  Family make(std::string_view name, std::string help, prometheus::MetricType type);
  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace penstock::observability
