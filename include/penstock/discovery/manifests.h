// The same as a Cluster from a folder of YAML files, without an API server. Control thread; reading blocks (start-up
// and reload).
#pragma once

#include <string>
#include <vector>

#include "penstock/objects/manifest.h"
#include "penstock/objects/resolve.h"

namespace penstock::discovery {

class ManifestFolder {
 public:
  // `path`: a folder or one file. Routes without Gateway count (implicit_gateway is set here).
  ManifestFolder(std::string path, objects::ResolveOptions options, std::string default_namespace = "default");

  // Reads everything again. With problems (returned) nothing of it is used and what was read before stays.
  std::vector<objects::ManifestProblem> load(int64_t now_seconds);
  // Changes with load() only; empty before the first good one.
  const objects::Desired& desired() const { return resolver_.desired(); }
  // Documents of kinds that mean nothing here, of the last load.
  const std::vector<objects::ManifestProblem>& skipped() const { return skipped_; }

 private:
  std::string path_, default_namespace_;
  objects::Store store_;
  objects::Resolver resolver_;
  std::vector<objects::ManifestProblem> skipped_;
};

}  // namespace penstock::discovery
