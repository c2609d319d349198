#include "readiness.h"

#include <algorithm>

namespace penstock::app {
namespace {

constexpr size_t kNamed = 3;  // a line has to be read by somebody in a hurry

// "3 endpoints are not ready (a: GET /health: connection refused; b: ...; ...)"
class Group {
 public:
  Group(std::string one, std::string several) : one_(std::move(one)), several_(std::move(several)) {}
  void add(const std::string& who, const std::string& why) {
    if (++count_ > kNamed) return;
    reasons_.append(reasons_.empty() ? "" : "; ").append(who);
    if (!why.empty()) reasons_.append(": ").append(why);
  }
  void append_to(std::string& out) const {
    if (count_ == 0) return;
    out.append(out.empty() ? "" : ", ").append(std::to_string(count_)).append(count_ == 1 ? one_ : several_);
    out.append(" (").append(reasons_).append(count_ > kNamed ? "; ...)" : ")");
  }

 private:
  std::string one_, several_, reasons_;
  size_t count_ = 0;
};

}  // namespace

bool any_usable(const endpoints::Snapshot& snapshot) {
  using endpoints::Readiness;
  const auto usable = [](const endpoints::EndpointView& view) {
    return view.readiness == Readiness::ready || (view.readiness == Readiness::draining && view.last_resort);
  };
  return std::any_of(snapshot.pools.begin(), snapshot.pools.end(), [&](const endpoints::Pool& pool) {
    return std::any_of(pool.endpoints.begin(), pool.endpoints.end(), usable);
  });
}

std::string why_none_usable(const std::vector<discovery::PollStatus>& polls,
                            const std::vector<discovery::NameStatus>& names) {
  Group endpoints(" endpoint is not ready", " endpoints are not ready");
  for (const discovery::PollStatus& poll : polls) endpoints.add(poll.endpoint, poll.health.text);
  Group unresolved(" name does not resolve", " names do not resolve");
  for (const discovery::NameStatus& name : names) {
    if (name.addresses.empty()) unresolved.add(name.host, name.error);
  }
  std::string out;
  endpoints.append_to(out);
  unresolved.append_to(out);
  return "no endpoint can be used: " + (out.empty() ? "there is none" : out);
}

}  // namespace penstock::app
