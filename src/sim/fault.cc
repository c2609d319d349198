#include "sim/fault.h"

#include <charconv>
#include <string>

namespace penstock::sim {
namespace {

struct KindName {
  std::string_view name;
  Fault::Kind kind;
  bool has_value;
};
constexpr KindName kKinds[] = {
    {"refuse", Fault::Kind::refuse, false},          {"reset-after", Fault::Kind::reset_after, true},
    {"stall-after", Fault::Kind::stall_after, true}, {"status", Fault::Kind::status, true},
    {"slow-header", Fault::Kind::slow_header, true}, {"truncate-chunk", Fault::Kind::truncate_chunk, false},
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

}  // namespace

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
    if (kind.has_value != has_value) {
      return Message{"fault '" + whole + "': " + std::string(kind.name) +
                     (kind.has_value ? " needs =NUMBER" : " takes no value")};
    }
    if (has_value && !parse_number(value, fault.value))
      return Message{"fault '" + whole + "': the value must be a whole number"};
    fault.kind = kind.kind;
    if (fault.kind == Fault::Kind::status && (fault.value < 400 || fault.value > 599)) {
      return Message{"fault '" + whole + "': the status must be from 400 to 599"};
    }
    return fault;
  }
  return Message{
      "fault '" + whole +
      "': not one of refuse, reset-after=BYTES, stall-after=BYTES, status=CODE, slow-header=MS, truncate-chunk"};
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
    if (fault.kind != Fault::Kind::refuse && strikes(fault)) return fault;
  }
  return {};
}

}  // namespace penstock::sim
