#include "penstock/discovery/metrics_scanner.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <span>

namespace penstock::discovery {
namespace {

// No gauge, count or time in seconds of an engine is larger; sums of such numbers stay finite.
constexpr double believable_max = 1e15;

// The largest block, and the most tokens that the KV cache of one rank may hold. The largest machines have 14 TB of
// memory for it, and small models take 50 KB for a token.
constexpr double block_size_max = 65536, rank_tokens_max = 1 << 28;

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

void skip_blanks(std::string_view& text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
}

// The whole of `text` as a number: "+1e3", "NaN", "-Inf".
template <typename Number>
bool parse_number(std::string_view text, Number* out) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-' && text[1] != '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

std::string_view take_token(std::string_view& text) {
  size_t length = 0;
  while (length < text.size() && !is_blank(text[length])) ++length;
  const std::string_view token = text.substr(0, length);
  text.remove_prefix(length);
  skip_blanks(text);
  return token;
}

// The value after the labels. Behind it may stand a timestamp and an exemplar, which mean nothing to us.
bool parse_value(std::string_view text, double* value) {
  skip_blanks(text);
  if (!parse_number(take_token(text), value)) return false;
  if (text.empty() || text.front() == '#') return true;
  double timestamp = 0;
  if (!parse_number(take_token(text), &timestamp)) return false;
  return text.empty() || text.front() == '#';
}

std::string unescaped(std::string_view raw) {
  std::string text;
  text.reserve(raw.size());
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] == '\\' && i + 1 < raw.size()) {
      ++i;
      text += raw[i] == 'n' ? '\n' : raw[i];
    } else {
      text += raw[i];
    }
  }
  return text;
}

// "a, b" -> {"a", "b"}
void split_list(std::string_view raw, std::vector<std::string>& out) {
  out.clear();
  const std::string text = unescaped(raw);
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    std::string_view item = rest.substr(0, comma);
    skip_blanks(item);
    while (!item.empty() && is_blank(item.back())) item.remove_suffix(1);
    if (!item.empty()) out.emplace_back(item);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
}

}  // namespace

// The labels of one series, one at a time: the text after '{'. Tolerates blanks and a trailing comma.
class MetricsScanner::Labels {
 public:
  explicit Labels(std::string_view text) : rest_(text) {}

  // False at the closing brace, or when the text is not a list of labels: see ok().
  bool next() {
    skip_blanks(rest_);
    if (!rest_.empty() && rest_.front() == ',') {
      rest_.remove_prefix(1);
      skip_blanks(rest_);
    }
    if (rest_.empty()) return false;
    if (rest_.front() == '}') {
      rest_.remove_prefix(1);
      closed_ = true;
      return false;
    }
    size_t length = 0;
    while (length < rest_.size() && rest_[length] != '=' && !is_blank(rest_[length])) ++length;
    key = rest_.substr(0, length);
    rest_.remove_prefix(length);
    skip_blanks(rest_);
    if (key.empty() || rest_.empty() || rest_.front() != '=') return false;
    rest_.remove_prefix(1);
    skip_blanks(rest_);
    return take_quoted();
  }
  // Read to the closing brace; what follows it is rest().
  bool ok() const { return closed_; }
  std::string_view rest() const { return rest_; }
  // Before the first next().
  bool have_all(const EnginePreset::Labels& wanted) const {
    return std::all_of(wanted.begin(), wanted.end(), [this](const auto& one) {
      for (Labels label(*this); label.next();) {
        if (label.key == one.first && label.raw_value == one.second) return true;
      }
      return false;
    });
  }

  std::string_view key, raw_value;  // the value still with its escapes

 private:
  bool take_quoted() {
    if (rest_.empty() || rest_.front() != '"') return false;
    size_t at = 1;
    while (at < rest_.size() && rest_[at] != '"') at += rest_[at] == '\\' ? 2 : 1;
    if (at >= rest_.size()) return false;
    raw_value = rest_.substr(1, at - 1);
    rest_.remove_prefix(at + 1);
    return true;
  }

  std::string_view rest_;
  bool closed_ = false;
};

MetricsScanner::MetricsScanner(const EnginePreset& preset, CustomGauges custom)
    : preset_(&preset), custom_(custom ? std::move(custom) : std::make_shared<std::vector<CustomGauge>>()) {
  reset();
}

void MetricsScanner::reset() {
  custom_sums_.assign(custom_->size(), {});
  carry_.clear();
  skipping_ = false;
  sums_ = {};
  loras_found_ = false;
}

Signals MetricsScanner::scan(std::string_view text, endpoints::EngineMetrics& out) {
  reset();
  feed(text);
  return finish(out);
}

void MetricsScanner::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const void* newline = std::memchr(bytes.data(), '\n', bytes.size());
    const bool whole = newline != nullptr;
    const size_t length = whole ? static_cast<size_t>(static_cast<const char*>(newline) - bytes.data()) : bytes.size();
    const std::string_view part = bytes.substr(0, length);
    bytes.remove_prefix(whole ? length + 1 : length);

    if (skipping_) {
      skipping_ = !whole;
    } else if (carry_.empty() && whole) {
      line(part);
    } else if (carry_.size() + part.size() > line_bytes_max) {
      carry_.clear();
      skipping_ = !whole;
    } else {
      carry_ += part;
      if (whole) {
        line(carry_);
        carry_.clear();
      } else if (!may_be_wanted(carry_)) {
        carry_.clear();
        skipping_ = true;
      }
    }
  }
}

// The line may yet turn out to belong to a wanted family.
bool MetricsScanner::may_be_wanted(std::string_view start_of_line) const {
  skip_blanks(start_of_line);
  const auto may_be = [start_of_line](std::string_view begin) {
    const size_t length = std::min(start_of_line.size(), begin.size());
    return start_of_line.substr(0, length) == begin.substr(0, length);
  };
  return may_be(preset_->prefix) ||
         std::any_of(custom_->begin(), custom_->end(), [&](const CustomGauge& gauge) { return may_be(gauge.family); });
}

bool MetricsScanner::wanted(std::string_view family) const {
  return std::any_of(preset_->rules.begin(), preset_->rules.end(),
                     [family](const EnginePreset::Rule& rule) { return rule.family == family; }) ||
         std::any_of(custom_->begin(), custom_->end(),
                     [family](const CustomGauge& gauge) { return gauge.family == family; });
}

void MetricsScanner::line(std::string_view text) {
  skip_blanks(text);
  const bool of_preset = text.starts_with(preset_->prefix);
  if (!of_preset && (custom_->empty() || !may_be_wanted(text))) return;
  if (text.empty() || text.size() > line_bytes_max) return;
  if (text.back() == '\r') text.remove_suffix(1);
  size_t length = of_preset ? preset_->prefix.size() : 0;
  while (length < text.size() && text[length] != '{' && !is_blank(text[length])) ++length;
  const std::string_view family = text.substr(0, length);
  if (!wanted(family)) return;
  text.remove_prefix(length);
  skip_blanks(text);

  std::string_view labels;
  if (!text.empty() && text.front() == '{') {
    text.remove_prefix(1);
    labels = text;
    Labels walk(text);
    while (walk.next()) {
    }
    if (!walk.ok()) return;
    text = walk.rest();
  }
  double value = 0;
  if (!parse_value(text, &value)) return;
  for (const EnginePreset::Rule& rule : preset_->rules) {
    if (rule.family == family) sample(rule, labels, value);
  }
  custom_sample(family, labels, value);
}

void MetricsScanner::custom_sample(std::string_view family, std::string_view labels, double value) {
  if (!(std::abs(value) <= believable_max)) return;  // also NaN
  for (size_t i = 0; i < custom_->size(); ++i) {
    const CustomGauge& gauge = (*custom_)[i];
    if (gauge.family != family || !Labels(labels).have_all(gauge.labels)) continue;
    custom_sums_[i].total += value;
    ++custom_sums_[i].series;
  }
}

void MetricsScanner::sample(const EnginePreset::Rule& rule, std::string_view labels, double value) {
  if (!Labels(labels).have_all(rule.labels)) return;
  if (!(std::abs(value) <= believable_max)) return;  // also NaN
  if (rule.signal == Signal::loras) return lora_sample(labels, value);
  if (rule.signal == Signal::cache_config) return cache_config_sample(labels);
  Sum& sum = sums_[static_cast<size_t>(rule.signal)];
  sum.total += std::max(value, 0.0);
  ++sum.series;
}

// The value is the time when the line was last true: the latest wins.
void MetricsScanner::lora_sample(std::string_view labels, double value) {
  if (loras_found_ && value <= loras_value_) return;
  loras_found_ = true;
  loras_value_ = value;
  running_loras_.clear();
  waiting_loras_.clear();
  max_loras_ = 0;
  for (Labels label(labels); label.next();) {
    if (label.key == "running_lora_adapters") split_list(label.raw_value, running_loras_);
    if (label.key == "waiting_lora_adapters") split_list(label.raw_value, waiting_loras_);
    if (label.key == "max_lora") parse_number(label.raw_value, &max_loras_);
  }
}

// The facts are labels, of vLLM or SGLang; "None" and other words are unknown.
void MetricsScanner::cache_config_sample(std::string_view labels) {
  for (Labels label(labels); label.next();) {
    uint32_t number = 0;
    if (!parse_number(label.raw_value, &number) || number == 0) continue;
    if (label.key == "block_size" || label.key == "page_size") {
      Sum& sum = sums_[static_cast<size_t>(Signal::block_size)];
      sum.total += number;
      ++sum.series;
    } else if (label.key == "num_gpu_blocks" || label.key == "num_pages") {
      Sum& sum = sums_[static_cast<size_t>(Signal::kv_blocks)];
      sum.total += number;
      ++sum.series;
    }
  }
}

// Ranks have the same block size, and each its own blocks. What no engine has is not believed: the size of the prefix
// index follows from it. The size of the cache is then unknown, whatever was read before.
void MetricsScanner::cache_size(endpoints::EngineMetrics& out, Signals& found) const {
  const Sum block_size = sums_[static_cast<size_t>(Signal::block_size)];
  const Sum kv_blocks = sums_[static_cast<size_t>(Signal::kv_blocks)];
  const double tokens = block_size.series > 0 ? std::max(1.0, block_size.total / block_size.series) : 1.0;
  const double ranks = std::max(kv_blocks.series, 1u);
  found.implausible = tokens > block_size_max || kv_blocks.total * tokens > rank_tokens_max * ranks;
  if (found.implausible) {
    out.block_size = endpoints::EngineMetrics{}.block_size;
    out.kv_blocks = 0;
    return;
  }
  found.block_size = block_size.series > 0 && block_size.total >= block_size.series;
  if (found.block_size) out.block_size = static_cast<uint32_t>(tokens);
  found.kv_blocks = kv_blocks.total >= 1;
  if (found.kv_blocks) out.kv_blocks = static_cast<uint64_t>(kv_blocks.total);
}

Signals MetricsScanner::finish(endpoints::EngineMetrics& out) {
  if (!carry_.empty()) line(carry_);  // a last line without its newline
  carry_.clear();
  skipping_ = false;

  const auto sum = [this](Signal signal) { return sums_[static_cast<size_t>(signal)]; };
  const auto mean = [](const Sum& s) { return s.total / s.series; };
  out.custom.assign(custom_->size(), NAN);
  for (size_t i = 0; i < custom_->size(); ++i) {
    if (custom_sums_[i].series > 0) out.custom[i] = custom_sums_[i].total;
  }
  Signals found;
  if ((found.waiting = sum(Signal::waiting).series > 0)) out.waiting = sum(Signal::waiting).total;
  if ((found.running = sum(Signal::running).series > 0)) out.running = sum(Signal::running).total;
  const Sum kv_usage = sum(sum(Signal::kv_usage).series > 0 ? Signal::kv_usage : Signal::kv_usage_old);
  if ((found.kv_usage = kv_usage.series > 0)) out.kv_usage = std::min(mean(kv_usage), 1.0);
  cache_size(out, found);
  if ((found.loras = loras_found_)) {
    out.running_loras.swap(running_loras_);
    out.waiting_loras.swap(waiting_loras_);
    out.max_loras = max_loras_;
  }
  return found;
}

}  // namespace penstock::discovery
