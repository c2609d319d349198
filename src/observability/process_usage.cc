// Some 30 us: three small files of /proc, and one system call for each of the others.
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <string_view>

#include "penstock/base/file.h"
#include "penstock/observability/metrics.h"

namespace penstock::observability {
namespace {

// The word of /proc/self/stat with this number, as proc_pid_stat(5) counts them; negative when it is no number. The
// second one, the program's name in parentheses, may have spaces.
double word_of(std::string_view stat, size_t number) {
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string_view::npos) return -1;
  stat.remove_prefix(std::min(name_end + 2, stat.size()));
  for (size_t i = 3; i < number; ++i) stat.remove_prefix(std::min(stat.find(' ') + 1, stat.size()));
  double value = -1;
  std::from_chars(stat.data(), stat.data() + stat.size(), value);
  return value;
}

double open_files() {
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return -1;
  double count = 0;
  while (const dirent* const entry = readdir(folder)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(folder);
  return count - 1;  // without the one that reads the folder
}

}  // namespace

ProcessUsage process_usage() {
  constexpr size_t threads = 20, virtual_bytes = 23, resident_pages = 24;
  ProcessUsage out;
  if (const auto stat = read_file("/proc/self/stat"); stat.ok()) {
    out.threads = word_of(*stat, threads);
    out.virtual_bytes = word_of(*stat, virtual_bytes);
    const double pages = word_of(*stat, resident_pages);
    if (pages >= 0) out.resident_bytes = pages * static_cast<double>(sysconf(_SC_PAGESIZE));
  }
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    out.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) out.open_files_max = static_cast<double>(files.rlim_cur);
  out.open_files = open_files();
  return out;
}

}  // namespace penstock::observability
