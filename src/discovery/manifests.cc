#include "penstock/discovery/manifests.h"

#include "penstock/base/assert.h"

namespace penstock::discovery {
namespace {

objects::ResolveOptions without_gateway(objects::ResolveOptions options) {
  options.implicit_gateway = true;
  return options;
}

}  // namespace

ManifestFolder::ManifestFolder(objects::ResolveOptions options)
    : resolver_(store_, without_gateway(std::move(options))) {}

void ManifestFolder::take(objects::Manifests manifests, int64_t now_seconds) {
  PENSTOCK_ASSERT(manifests.ok());
  objects::apply_manifests(manifests, store_);
  skipped_ = std::move(manifests.skipped);
  resolver_.update(now_seconds);
}

}  // namespace penstock::discovery
