// How the page of metrics is shared out between the tables of names.
#include "penstock/observability/shard_stats.h"

namespace penstock::observability {
namespace {

// Parts of PageLimits::bytes. What is left (FlowStats: page_share_of_flow) makes them add up to one.
constexpr double kind_share = 0.35, kind_share_beside_tenants = 0.2, tenant_share = 0.35;
constexpr double scheduled_share = 0.1, small_share = 0.05;
// Lines of a kind: ten histograms and their predictions by the older names; by the newer ones those of its crowd.
constexpr size_t kind_lines = 300, kind_line_bytes = 112;

size_t copies(EppNames names) {
  return names == EppNames::both ? 2 : 1;
}

NameRoom room_of_kinds(const PageLimits& page, const KnownModels& known) {
  const bool by_tenant = page.epp_names != EppNames::v1;
  const size_t lines = (page.epp_names == EppNames::llm_d ? 0 : kind_lines) + (by_tenant ? Tenants::lines : 0);
  return {.bytes = page.part(by_tenant ? kind_share_beside_tenants : kind_share),
          .lines = lines,
          .line_bytes = by_tenant ? Tenants::line_bytes : kind_line_bytes,
          .models = 2,
          .known = &known};
}

// Of a table whose names are one line each. `models`: see NameRoom.
NameRoom room_of_lines(const PageLimits& page, double share, size_t models = 0, const KnownModels* known = nullptr) {
  return {
      .bytes = page.part(share), .lines = copies(page.epp_names), .line_bytes = 180, .models = models, .known = known};
}

}  // namespace

Names::Names(const PageLimits& limits)
    : page(limits),
      kinds(1000, room_of_kinds(page, known)),
      scheduled(4000, room_of_lines(page, scheduled_share, 1, &known)),
      rewrites(1000, room_of_lines(page, small_share)),
      splits(4000, room_of_lines(page, small_share, 1, &known)),
      at_once(1000, room_of_lines(page, small_share)),
      tenants(by_tenant() ? page.part(tenant_share) : 0) {}

size_t Names::bytes_for_flow() const {
  return page.part(by_tenant() ? 0.2 : 0.4) / copies(page.epp_names);
}

}  // namespace penstock::observability
