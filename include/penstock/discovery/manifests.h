// The same as a Cluster from YAML files, without an API server. Control thread.
#pragma once

#include <string>
#include <vector>

#include "penstock/objects/manifest.h"
#include "penstock/objects/resolve.h"

namespace penstock::discovery {

class ManifestFolder {
 public:
  // Routes without Gateway count (implicit_gateway is set here).
  explicit ManifestFolder(objects::ResolveOptions options);

  // Takes what was read, without problems, in place of what was taken before.
  void take(objects::Manifests manifests, int64_t now_seconds);
  // Changes with take() only; empty before the first.
  const objects::Desired& desired() const { return resolver_.desired(); }
  // Documents of kinds that mean nothing here, of the last take().
  const std::vector<objects::ManifestProblem>& skipped() const { return skipped_; }

 private:
  objects::Store store_;
  objects::Resolver resolver_;
  std::vector<objects::ManifestProblem> skipped_;
};

}  // namespace penstock::discovery
