#include "families.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>

#include "penstock/base/assert.h"

namespace penstock::observability {
namespace {

// Go's spelling of a number, which is how the bucket bounds of the Endpoint Picker are known to dashboards: from a
// million on with an exponent of at least two digits ("1.048576e+06").
void append_go_number(std::string& out, std::string_view text) {
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || value < 1e6) {
    out += text;
    return;
  }
  char spelled[32];
  const auto end = std::to_chars(spelled, spelled + sizeof spelled, value, std::chars_format::scientific).ptr;
  out.append(spelled, end);
}

// Copies the page, respelling the bounds. The two patterns cannot appear inside a label's value: there, a quote is
// written with a backslash.
void append_with_go_bounds(std::string& out, std::string_view page) {
  constexpr std::string_view marker = "le=\"";
  while (true) {
    const size_t at = page.find(marker);
    if (at == std::string_view::npos) break;
    const bool is_bound = at > 0 && (page[at - 1] == '{' || page[at - 1] == ',');
    out += page.substr(0, at + marker.size());
    page.remove_prefix(at + marker.size());
    if (!is_bound) continue;
    const size_t end = page.find('"');
    append_go_number(out, page.substr(0, end));
    page.remove_prefix(end);
  }
  out += page;
}

}  // namespace

void HistogramSum::keep_bounds(std::span<const double> kept) {
  std::vector<uint64_t> counts(kept.size() + 1);
  for (size_t i = 0, at = 0; i < counts_.size(); ++i) {
    while (at < kept.size() && (i >= bounds_.size() || kept[at] < bounds_[i])) ++at;
    counts[at] += counts_[i];
  }
  bounds_ = kept;
  counts_ = std::move(counts);
}

bool HistogramSum::empty() const {
  for (const uint64_t count : counts_) {
    if (count != 0) return false;
  }
  return true;
}

prometheus::ClientMetric::Histogram HistogramSum::to_metric() const {
  prometheus::ClientMetric::Histogram out;
  out.sample_sum = sum_;
  out.bucket.reserve(counts_.size());
  for (size_t i = 0; i < counts_.size(); ++i) {
    out.sample_count += counts_[i];
    const double bound = i < bounds_.size() ? bounds_[i] : std::numeric_limits<double>::infinity();
    out.bucket.push_back({out.sample_count, bound});
  }
  return out;
}

void Families::Family::add(double value, Labels labels) {
  prometheus::ClientMetric& metric = family_.metric.emplace_back();
  metric.label = std::move(labels);
  if (family_.type == prometheus::MetricType::Counter) metric.counter.value = value;
  else metric.gauge.value = value;
}

void Families::Family::add(const HistogramSum& histogram, Labels labels) {
  PENSTOCK_ASSERT(family_.type == prometheus::MetricType::Histogram);
  prometheus::ClientMetric& metric = family_.metric.emplace_back();
  metric.label = std::move(labels);
  metric.histogram = histogram.to_metric();
}

Families::Family Families::make(std::string_view name, std::string help, prometheus::MetricType type) {
  prometheus::MetricFamily& family = families_.emplace_back();
  family.name = name;
  family.help = std::move(help);
  family.type = type;
  return Family(family);
}

void Families::repeat(std::string_view name, std::string_view again, const std::function<void(Labels&)>& change) {
  const auto found = std::find_if(families_.begin(), families_.end(),
                                  [&](const prometheus::MetricFamily& family) { return family.name == name; });
  if (found == families_.end()) return;
  prometheus::MetricFamily copy = *found;
  copy.name = again;
  for (prometheus::ClientMetric& metric : copy.metric) change(metric.label);
  families_.push_back(std::move(copy));
}

void Families::remove(std::span<const std::string_view> prefixes) {
  std::erase_if(families_, [&](const prometheus::MetricFamily& family) {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](std::string_view prefix) { return family.name.starts_with(prefix); });
  });
}

void Families::write(std::string& out) {
  std::erase_if(families_, [](const prometheus::MetricFamily& family) { return family.metric.empty(); });
  std::ostringstream page;
  prometheus::TextSerializer().Serialize(page, families_);
  append_with_go_bounds(out, page.view());
}

}  // namespace penstock::observability
