#include "penstock/config/detect.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

using namespace penstock;
using namespace penstock::config;
namespace fs = std::filesystem;

namespace {

// A directory that looks like /proc and /sys/fs/cgroup, removed at the end.
class FakeSystem {
 public:
  FakeSystem() {
    std::string pattern = (fs::temp_directory_path() / "penstock-detect-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  ~FakeSystem() { fs::remove_all(root_); }
  FakeSystem(const FakeSystem&) = delete;

  void write(const std::string& name, const std::string& text) {
    const fs::path path = root_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  SystemPaths paths() const {
    return {(root_ / "cgroup").string(), (root_ / "fs").string(), (root_ / "meminfo").string()};
  }

 private:
  fs::path root_;
};

}  // namespace

TEST_CASE("cgroup v2: the tightest limit of all levels holds") {
  FakeSystem system;
  system.write("cgroup", "0::/kube/pod/container");
  system.write("fs/kube/pod/container/memory.max", "max");
  system.write("fs/kube/pod/container/cpu.max", "max 100000");
  system.write("fs/kube/pod/memory.max", "1073741824");
  system.write("fs/kube/pod/cpu.max", "250000 100000");
  system.write("fs/kube/memory.max", "8589934592");
  const CgroupLimits limits = detect_cgroup(system.paths());
  CHECK(limits.memory_bytes == 1073741824);
  CHECK(limits.cpus == doctest::Approx(2.5));
}

TEST_CASE("cgroup v2 in a container: the mount itself is our group, whatever path the kernel names") {
  FakeSystem system;
  system.write("cgroup", "0::/docker/0123456789");
  system.write("fs/memory.max", "536870912");
  system.write("fs/cpu.max", "50000 100000");
  const CgroupLimits limits = detect_cgroup(system.paths());
  CHECK(limits.memory_bytes == 536870912);
  CHECK(limits.cpus == doctest::Approx(0.5));
}

TEST_CASE("cgroup v1: memory and cpu hierarchies, and the kernel's word for no limit") {
  FakeSystem system;
  system.write("cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n1:name=systemd:/job");
  system.write("fs/memory/job/memory.limit_in_bytes", "268435456");
  system.write("fs/memory/memory.limit_in_bytes", "9223372036854771712");
  system.write("fs/cpu/job/cpu.cfs_quota_us", "-1");
  system.write("fs/cpu/job/cpu.cfs_period_us", "100000");
  system.write("fs/cpu/cpu.cfs_quota_us", "150000");
  system.write("fs/cpu/cpu.cfs_period_us", "100000");
  const CgroupLimits limits = detect_cgroup(system.paths());
  CHECK(limits.memory_bytes == 268435456);
  CHECK(limits.cpus == doctest::Approx(1.5));
}

TEST_CASE("nothing to read means no limit, and nonsense is ignored") {
  FakeSystem system;
  CHECK(detect_cgroup(system.paths()).memory_bytes == 0);
  CHECK(detect_physical_memory(system.paths()) == 0);
  system.write("cgroup", "nonsense\n0::\n0::/x");
  system.write("fs/x/memory.max", "lots");
  system.write("fs/x/cpu.max", "12");
  const CgroupLimits limits = detect_cgroup(system.paths());
  CHECK(limits.memory_bytes == 0);
  CHECK(limits.cpus == 0);
}

TEST_CASE("zeros become what the machine allows, and numbers stay") {
  FakeSystem system;
  system.write("meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB");
  CHECK(detect_physical_memory(system.paths()) == 16384 * 1024);
  Machine machine{.cgroup = {.memory_bytes = 1000'000'000, .cpus = 2.5},
                  .physical_memory = 16'000'000'000,
                  .cpus = {0, 1, 2, 3, 4, 5, 6, 7},
                  .open_files = 20512};
  Options options;
  resolve_defaults(options, machine);
  CHECK(options.shards == 3);
  CHECK(options.limits.memory_bytes == 600'000'000);
  CHECK(options.limits.connections == 15000);

  machine.cpus = {4, 5};
  machine.cgroup = {};
  machine.open_files = 1024;
  options = Options{};
  resolve_defaults(options, machine);
  CHECK(options.shards == 2);
  CHECK(options.limits.memory_bytes == 9'600'000'000);
  CHECK(options.limits.connections == 576);

  options = Options{.shards = 7};
  options.limits.memory_bytes = 5;
  options.limits.connections = 6;
  resolve_defaults(options, machine);
  CHECK(options.shards == 7);
  CHECK(options.limits.memory_bytes == 5);
  CHECK(options.limits.connections == 6);
}

TEST_CASE("the prefix index may take an eighth of the memory and a quarter of the budget, or what is asked for") {
  const auto most = [](uint64_t memory) {
    Options options;
    resolve_defaults(options,
                     {.cgroup = {.memory_bytes = memory}, .physical_memory = uint64_t{1} << 40, .open_files = 1024});
    CHECK(options.prefix_index_entries == 1 << 22);
    return options.prefix_index_max * 8;
  };
  CHECK(most(uint64_t{64} << 20) == 32 << 20);
  CHECK(most(uint64_t{2} << 30) == 256 << 20);
  CHECK(most((uint64_t{2} << 30) - 1) == 128 << 20);
  CHECK(most(uint64_t{100} << 30) == 1 << 30);
  Options small;
  small.limits.memory_bytes = size_t{512} << 20;
  resolve_defaults(small, {.physical_memory = uint64_t{1} << 40, .open_files = 1024});
  CHECK(small.prefix_index_max * 8 == 128 << 20);  // a quarter of what was asked for
  Options asked;
  asked.prefix_index_entries = 5000;
  resolve_defaults(asked, {.physical_memory = uint64_t{1} << 40, .open_files = 1024});
  CHECK(asked.prefix_index_entries == 5000);
  CHECK(asked.prefix_index_max == 5000);
}

TEST_CASE("a body that the memory could never hold is not waited for") {
  Options options;
  const Machine small{.cgroup = {.memory_bytes = 100 << 20}, .open_files = 1024};
  REQUIRE(resolve_defaults(options, small).size() == 1);
  CHECK(options.proxy.body_bytes_max == options.limits.memory_bytes / 8);
  const Machine tiny{.cgroup = {.memory_bytes = 4 << 20}, .open_files = 1024};
  options = Options{};
  REQUIRE(resolve_defaults(options, tiny).size() == 1);
  CHECK(options.proxy.body_bytes_max == 1u << 20);  // larger ones need memory to be read
  const Machine larger{.cgroup = {.memory_bytes = 1 << 30}, .open_files = 1024};
  options = Options{};
  CHECK(resolve_defaults(options, larger).empty());
  CHECK(options.proxy.body_bytes_max == 64u << 20);
}

TEST_CASE("clients never take the descriptors that everything else needs") {
  for (const uint64_t open_files : {64, 100, 1024, 20000, 128 * 1024}) {
    for (const uint32_t shards : {1u, 2u, 64u}) {
      CAPTURE(open_files);
      CAPTURE(shards);
      Options options{.shards = shards};
      CHECK(resolve_defaults(options, {.open_files = open_files}).empty());
      const auto most = options.limits.connections;
      const auto traffic = static_cast<uint64_t>(descriptors_for_traffic(open_files, shards));
      CHECK(most > 0);
      CHECK(traffic < open_files);
      CHECK(most + most / 4 < traffic);
      options.limits.connections = most + 1;
      CHECK(resolve_defaults(options, {.open_files = open_files}).size() == 1);
      CHECK(options.limits.connections == most);
    }
  }
}

TEST_CASE("this machine has at least one CPU, some memory and some descriptors") {
  const Machine machine = detect_machine();
  CHECK(machine.cpus.size() >= 1);
  CHECK(machine.physical_memory > 0);
  CHECK(machine.open_files >= 64);
}
