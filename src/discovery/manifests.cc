#include "penstock/discovery/manifests.h"

namespace penstock::discovery {
namespace {

objects::ResolveOptions without_gateway(objects::ResolveOptions options) {
  options.implicit_gateway = true;
  return options;
}

}  // namespace

ManifestFolder::ManifestFolder(std::string path, objects::ResolveOptions options, std::string default_namespace)
    : path_(std::move(path)),
      default_namespace_(std::move(default_namespace)),
      resolver_(store_, without_gateway(std::move(options))) {}

std::vector<objects::ManifestProblem> ManifestFolder::load(int64_t now_seconds) {
  objects::Manifests manifests = objects::read_manifest_path(path_, default_namespace_);
  if (!manifests.ok()) return std::move(manifests.problems);
  objects::apply_manifests(manifests, store_);
  skipped_ = std::move(manifests.skipped);
  resolver_.update(now_seconds);
  return {};
}

}  // namespace penstock::discovery
