#include "penstock/config/detect.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <climits>
#include <cmath>
#include <fstream>
#include <sstream>

namespace penstock::config {
namespace {

// Values at or above this are the kernel's way to say "no limit" (v1 writes the largest multiple of the page size).
constexpr uint64_t unlimited = uint64_t{1} << 60;

std::string read_first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// 0 when the text is no number ("max", "-1", "").
uint64_t to_number(std::string_view text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} ? value : 0;
}

void tighten(CgroupLimits& limits, uint64_t memory, double cpus) {
  if (memory > 0 && memory < unlimited) {
    limits.memory_bytes = limits.memory_bytes == 0 ? memory : std::min(limits.memory_bytes, memory);
  }
  if (cpus > 0) limits.cpus = limits.cpus == 0 ? cpus : std::min(limits.cpus, cpus);
}

double quota_cpus(std::string_view quota, std::string_view period) {
  const uint64_t allowed = to_number(quota), every = to_number(period);
  return allowed > 0 && every > 0 ? static_cast<double>(allowed) / static_cast<double>(every) : 0;
}

void read_v2_group(const std::string& directory, CgroupLimits& limits) {
  const std::string cpu_max = read_first_line(directory + "/cpu.max");  // "200000 100000" or "max 100000"
  const size_t space = cpu_max.find(' ');
  const double cpus = space == std::string::npos
                          ? 0
                          : quota_cpus(cpu_max.substr(0, space), std::string_view(cpu_max).substr(space + 1));
  tighten(limits, to_number(read_first_line(directory + "/memory.max")), cpus);
}

void read_v1_memory(const std::string& directory, CgroupLimits& limits) {
  tighten(limits, to_number(read_first_line(directory + "/memory.limit_in_bytes")), 0);
}

void read_v1_cpu(const std::string& directory, CgroupLimits& limits) {
  tighten(
      limits, 0,
      quota_cpus(read_first_line(directory + "/cpu.cfs_quota_us"), read_first_line(directory + "/cpu.cfs_period_us")));
}

// Every level from our group up to the mount: a limit anywhere above binds us too. Inside a container the path may
// name a group that is not mounted here; then only the mount itself is found, which is our group.
template <typename Read>
void for_each_level(const std::string& mount, std::string path, const Read& read) {
  while (path.size() > 1) {
    read(mount + path);
    path.resize(path.rfind('/'));
  }
  read(mount);
}

bool lists(std::string_view controllers, std::string_view wanted) {
  while (!controllers.empty()) {
    const size_t comma = controllers.find(',');
    if (controllers.substr(0, comma) == wanted) return true;
    controllers.remove_prefix(comma == std::string_view::npos ? controllers.size() : comma + 1);
  }
  return false;
}

// What the process may take in all, by the control group or the machine.
uint64_t usable_memory(const Machine& machine) {
  uint64_t memory = machine.physical_memory;
  if (machine.cgroup.memory_bytes > 0)
    memory = memory == 0 ? machine.cgroup.memory_bytes : std::min(memory, machine.cgroup.memory_bytes);
  return memory == 0 ? uint64_t{1} << 30 : memory;  // nothing known: a small machine
}

// How large a pool is shows only later, so the table begins small and grows with it: to an eighth of the memory, within
// what is room for the caches of 60 and of 2,100 endpoints of a million tokens each.
void resolve_prefix_index(Options& options, const Machine& machine) {
  constexpr uint64_t min = uint64_t{1} << 22, max = uint64_t{1} << 27, entry_bytes = 8;
  if (options.prefix_index_entries > 0) {
    options.prefix_index_max = options.prefix_index_entries;
    return;
  }
  options.prefix_index_entries = min;
  const uint64_t usable = std::min<uint64_t>(usable_memory(machine) / 8, options.limits.memory_bytes / 4);
  options.prefix_index_max = std::clamp(std::bit_floor(usable / entry_bytes), min, max);
}

// The process's own: rings, listeners, logs, scrapes, watches. About half are open from the start.
uint64_t own_descriptors(uint64_t open_files, uint32_t shards) {
  const uint64_t wanted = std::min<uint64_t>(std::max<uint64_t>(open_files / 4, 16 + 4 * uint64_t{shards}), 512);
  return std::min(wanted, open_files / 2);
}

// A body that the budget could not hold even with nothing else in it must be refused for good, not for now. It may
// need twice its size while it grows, and one over 1 MiB six times its size beside it while it is read
// (openai::RequestScanner); its answer needs something, too.
void resolve_body(Options& options, std::vector<std::string>& remarks) {
  constexpr size_t read_without_more = 1024 * 1024;
  const size_t memory = options.limits.memory_bytes;
  const size_t max = std::max(std::min(memory / 16 * 7, read_without_more), memory / 8);
  if (options.proxy.body_bytes_max <= max) return;
  remarks.push_back("limits.body_bytes: bodies of " + std::to_string(options.proxy.body_bytes_max) +
                    " bytes may not fit into limits.memory (" + std::to_string(options.limits.memory_bytes) +
                    " bytes): those of more than " + std::to_string(max) + " are refused");
  options.proxy.body_bytes_max = max;
}

// Of the other descriptors a client has one, and one more while its request is with an endpoint: most clients rest
// between requests.
void resolve_connections(Options& options, uint64_t open_files, std::vector<std::string>& remarks) {
  const uint64_t max = std::max<uint64_t>((open_files - own_descriptors(open_files, options.shards)) / 4 * 3, 1);
  size_t& connections = options.limits.connections;
  if (connections > max) {
    remarks.push_back("limits.connections: " + std::to_string(connections) +
                      " clients and their requests need more than " + std::to_string(open_files) +
                      " open files (ulimit -n): " + std::to_string(max) + " clients are accepted");
  }
  connections = connections == 0 ? static_cast<size_t>(max) : std::min<size_t>(connections, max);
}

}  // namespace

CgroupLimits detect_cgroup(const SystemPaths& paths) {
  CgroupLimits limits;
  std::ifstream in(paths.self_cgroup);
  for (std::string line; std::getline(in, line);) {  // "hierarchy:controllers:path"
    const size_t first = line.find(':'), second = line.find(':', first == std::string::npos ? first : first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') continue;
    if (controllers.empty()) {
      for_each_level(paths.cgroup_root, path, [&](const std::string& at) { read_v2_group(at, limits); });
      for_each_level(paths.cgroup_root + "/unified", path, [&](const std::string& at) { read_v2_group(at, limits); });
    }
    if (lists(controllers, "memory")) {
      for_each_level(paths.cgroup_root + "/memory", path, [&](const std::string& at) { read_v1_memory(at, limits); });
    }
    if (lists(controllers, "cpu")) {
      for_each_level(paths.cgroup_root + "/cpu", path, [&](const std::string& at) { read_v1_cpu(at, limits); });
    }
  }
  return limits;
}

uint64_t detect_physical_memory(const SystemPaths& paths) {
  std::ifstream in(paths.meminfo);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("MemTotal:")) continue;
    std::istringstream words(line.substr(9));
    uint64_t kibibytes = 0;
    words >> kibibytes;
    return kibibytes * 1024;
  }
  return 0;
}

std::vector<int> detect_cpus() {
  constexpr int most = 8192;
  cpu_set_t* const set = CPU_ALLOC(most);
  const size_t size = CPU_ALLOC_SIZE(most);
  std::vector<int> cpus;
  if (set != nullptr && sched_getaffinity(0, size, set) == 0) {
    for (int cpu = 0; cpu < most; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), size, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

uint64_t raise_open_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  // Root may raise the hard limit too: 64k clients and as many connections to endpoints.
  constexpr rlim_t wanted = 128 * 1024;
  const rlimit more{wanted, wanted};
  if (limit.rlim_max < wanted && setrlimit(RLIMIT_NOFILE, &more) == 0) return wanted;
  if (limit.rlim_cur < limit.rlim_max) {
    rlimit raised = limit;
    raised.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

Machine detect_machine(const SystemPaths& paths) {
  return {detect_cgroup(paths), detect_physical_memory(paths), detect_cpus(), raise_open_file_limit()};
}

std::vector<std::string> resolve_defaults(Options& options, const Machine& machine) {
  std::vector<std::string> remarks;
  if (options.shards == 0) {
    size_t shards = std::max<size_t>(machine.cpus.size(), 1);
    if (machine.cgroup.cpus > 0) shards = std::min(shards, static_cast<size_t>(std::ceil(machine.cgroup.cpus)));
    options.shards = static_cast<uint32_t>(std::clamp<size_t>(shards, 1, 1024));
  }
  if (options.limits.memory_bytes == 0) {
    options.limits.memory_bytes = static_cast<size_t>(usable_memory(machine) / 10 * 6);
  }
  resolve_prefix_index(options, machine);
  resolve_body(options, remarks);
  resolve_connections(options, machine.open_files, remarks);
  return remarks;
}

int descriptors_for_traffic(uint64_t open_files, uint32_t shards) {
  return static_cast<int>(std::min<uint64_t>(open_files - own_descriptors(open_files, shards) / 2, INT_MAX));
}

}  // namespace penstock::config
