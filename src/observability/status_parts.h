// Parts of what /status answers that have a file of their own.
#pragma once

#include "json_writer.h"
#include "penstock/discovery/cluster.h"

namespace penstock::observability {

// "kubernetes": what is watched and written, and how that goes (status_kube.cc).
void write_cluster(Json& json, const discovery::ClusterStatus& cluster);

// "problems": what stands against objects, of a cluster or in files.
void write_problems(Json& json, const std::vector<objects::Notice>& problems);

}  // namespace penstock::observability
