#include "sim/fault.h"

#include <charconv>
#include <string>

namespace penstock::sim {
namespace {

enum class Takes : uint8_t { nothing, number, place };
struct KindName {
  std::string_view name;
  Fault::Kind kind;
  Takes takes;
};
constexpr KindName kKinds[] = {
    {"refuse", Fault::Kind::refuse, Takes::nothing},
    {"reset-after", Fault::Kind::reset_after, Takes::place},
    {"stall-after", Fault::Kind::stall_after, Takes::place},
    {"status", Fault::Kind::status, Takes::number},
    {"slow-header", Fault::Kind::slow_header, Takes::number},
    {"truncate-chunk", Fault::Kind::truncate_chunk, Takes::nothing},
    {"reset-after-tokens", Fault::Kind::reset_after_tokens, Takes::place},
    {"end-after-tokens", Fault::Kind::end_after_tokens, Takes::place},
    {"error-after-tokens", Fault::Kind::error_after_tokens, Takes::place},
    {"abort-after-tokens", Fault::Kind::abort_after_tokens, Takes::place},
    {"stall-after-tokens", Fault::Kind::stall_after_tokens, Takes::place},
};

template <typename Number>
bool parse_number(std::string_view text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

// Cuts what follows the last `mark` off `text`; empty when there is no mark.
std::string_view cut_after(std::string_view& text, char mark) {
  const size_t at = text.rfind(mark);
  if (at == std::string_view::npos) return {};
  const std::string_view tail = text.substr(at + 1);
  text = text.substr(0, at);
  return tail;
}

// A number, or where it `may_be_range` two of them: "LEAST..MOST".
bool parse_value(std::string_view text, bool may_be_range, Fault& out) {
  const size_t dots = may_be_range ? text.find("..") : std::string_view::npos;
  if (!parse_number(text.substr(0, dots), out.value)) return false;
  out.value_max = out.value;
  if (dots == std::string_view::npos) return true;
  return parse_number(text.substr(dots + 2), out.value_max) && out.value <= out.value_max;
}

}  // namespace

bool strikes_at_token(Fault::Kind kind) {
  return kind >= Fault::Kind::reset_after_tokens && kind <= Fault::Kind::stall_after_tokens;
}

Result<Fault> parse_fault(std::string_view text) {
  const std::string whole(text);
  Fault fault;
  // "xN" stands behind everything else, but no kind's name has an x followed by digits.
  const size_t x = text.rfind('x');
  if (x != std::string_view::npos && parse_number(text.substr(x + 1), fault.count)) text = text.substr(0, x);
  if (text.find('@') != std::string_view::npos) {
    if (!parse_number(cut_after(text, '@'), fault.probability) || !(fault.probability >= 0 && fault.probability <= 1)) {
      return Message{"fault '" + whole + "': the probability behind @ must be a number from 0 to 1"};
    }
  }
  const bool has_value = text.find('=') != std::string_view::npos;
  const std::string_view value = has_value ? cut_after(text, '=') : std::string_view();
  for (const KindName& kind : kKinds) {
    if (text != kind.name) continue;
    if ((kind.takes != Takes::nothing) != has_value) {
      return Message{"fault '" + whole + "': " + std::string(kind.name) +
                     (has_value ? " takes no value" : " needs =NUMBER")};
    }
    if (has_value && !parse_value(value, kind.takes == Takes::place, fault)) {
      return Message{"fault '" + whole + "': the value must be a whole number" +
                     (kind.takes == Takes::place ? ", or two as LEAST..MOST" : "")};
    }
    fault.kind = kind.kind;
    if (fault.kind == Fault::Kind::status && (fault.value < 400 || fault.value > 599)) {
      return Message{"fault '" + whole + "': the status must be from 400 to 599"};
    }
    return fault;
  }
  std::string names;
  for (const KindName& kind : kKinds) {
    names.append(names.empty() ? "" : ", ").append(kind.name).append(kind.takes == Takes::nothing ? "" : "=NUMBER");
  }
  return Message{"fault '" + whole + "': not one of " + names};
}

bool FaultPlan::strikes(Fault& fault) {
  if (fault.count == 0 || !random_.chance(fault.probability)) return false;
  if (fault.count != UINT64_MAX) --fault.count;
  return true;
}

bool FaultPlan::refuse_connection() {
  for (Fault& fault : faults_) {
    if (fault.kind == Fault::Kind::refuse && strikes(fault)) return true;
  }
  return false;
}

Fault FaultPlan::next_request() {
  for (Fault& fault : faults_) {
    if (fault.kind != Fault::Kind::refuse && strikes(fault)) return drawn(fault);
  }
  return {};
}

Fault FaultPlan::drawn(Fault fault) {
  // Nothing is drawn where there is nothing to choose: what else the seed decides stays as it is.
  if (fault.value < fault.value_max) fault.value += random_.below(fault.value_max - fault.value + 1);
  fault.value_max = fault.value;
  return fault;
}

}  // namespace penstock::sim
