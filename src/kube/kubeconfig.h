// kubeconfig files: one or several, merged the way kubectl does it.
#pragma once

#include <string>
#include <vector>

#include "penstock/kube/config.h"

namespace penstock::kube {

// The first file that sets a cluster, user, context or the current context wins. Files that do not exist are skipped,
// but one must exist. `context` is empty for the current one.
Result<ClientConfig> load_kubeconfig(const std::vector<std::string>& files, const std::string& context);

}  // namespace penstock::kube
