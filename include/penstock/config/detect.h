// What this process may use: CPUs, memory, descriptors. Read once at start; turns the options that say "as much as I
// may" (zero) into numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "penstock/config/options.h"

namespace penstock::config {

struct SystemPaths {  // tests point these at directories of their own
  std::string self_cgroup = "/proc/self/cgroup";
  std::string cgroup_root = "/sys/fs/cgroup";
  std::string meminfo = "/proc/meminfo";
};

// The limits that the kernel enforces on our control group, the tightest of all levels. Understands v1, v2 and hybrid.
struct CgroupLimits {
  uint64_t memory_bytes = 0;  // 0: no limit
  double cpus = 0;            // quota in CPUs; 0: no limit
};
CgroupLimits detect_cgroup(const SystemPaths& paths = {});
uint64_t detect_physical_memory(const SystemPaths& paths = {});  // bytes; 0: unknown
std::vector<int> detect_cpus();  // CPUs this process may run on (affinity and cpuset), ascending
// Raises the soft limit on open files to the hard one, and that one too where the process may, and returns what holds
// now.
uint64_t raise_open_file_limit();

struct Machine {
  CgroupLimits cgroup;
  uint64_t physical_memory = 0;
  std::vector<int> cpus;
  uint64_t open_files = 0;
};
Machine detect_machine(const SystemPaths& paths = {});

// Replaces zeros by what the machine allows: shards, limits.memory, limits.connections, routing.prefix_index_entries
// (by what it begins with; prefix_index_max by the most it may take); and lowers what it does not allow. Returns what
// the operator should know of that, a sentence each.
std::vector<std::string> resolve_defaults(Options& options, const Machine& machine);

// Traffic (clients and connections to endpoints) takes no descriptor of this number or above: those are left for
// scrapes, watches, admin pages and logs. The kernel gives out the lowest number that is free.
int descriptors_for_traffic(uint64_t open_files, uint32_t shards);

}  // namespace penstock::config
