#include "perf/common/posix.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace penstock::perf {

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

sockaddr_in loopback_address(std::string_view text) {
  std::string_view rest = text;
  if (rest.starts_with("http://")) rest.remove_prefix(7);
  while (rest.ends_with('/')) rest.remove_suffix(1);
  size_t colon = rest.rfind(':');
  std::string host(rest.substr(0, colon));
  if (host == "localhost") host = "127.0.0.1";
  uint16_t port = 0;
  if (colon != std::string_view::npos) std::from_chars(rest.data() + colon + 1, rest.data() + rest.size(), port);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  bool parsed = inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1;
  if (!parsed || port == 0 || (ntohl(address.sin_addr.s_addr) >> 24) != 127) {
    std::fprintf(stderr, "%.*s: want 127.0.0.1:PORT; only loopback addresses are allowed\n",
                 static_cast<int>(text.size()), text.data());
    std::exit(2);
  }
  return address;
}

void raise_descriptor_limit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void set_nodelay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int listen_on_loopback(uint16_t& port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, 4096) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::fprintf(stderr, "cannot listen on 127.0.0.1:%u: %s\n", port, std::strerror(errno));
    std::exit(1);
  }
  port = ntohs(address.sin_port);
  return fd;
}

int start_connect(const sockaddr_in& address) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  set_nodelay(fd);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EINPROGRESS) return fd;
  close(fd);
  return -1;
}

int accept_one(int listener) {
  int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) set_nodelay(fd);
  return fd;
}

int socket_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

int wait_until(int epoll, epoll_event* events, int capacity, uint64_t deadline_ns) {
  timespec timeout{};
  if (deadline_ns != 0) {
    uint64_t now = now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    timeout.tv_sec = static_cast<time_t>(left / 1'000'000'000u);
    timeout.tv_nsec = static_cast<long>(left % 1'000'000'000u);
  }
  int n = epoll_pwait2(epoll, events, capacity, &timeout, nullptr);
  return n < 0 ? 0 : n;
}

static uint64_t cpu_of(int pid) {
  std::string folder = "/proc/" + std::to_string(pid) + "/task";
  DIR* dir = opendir(folder.c_str());
  if (!dir) return 0;
  uint64_t total = 0;
  while (dirent* entry = readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    std::string path = folder + "/" + entry->d_name + "/schedstat";
    if (FILE* file = std::fopen(path.c_str(), "r")) {
      unsigned long long ns = 0;
      if (std::fscanf(file, "%llu", &ns) == 1) total += ns;
      std::fclose(file);
    }
  }
  closedir(dir);
  return total;
}

static uint64_t kib_line(const std::string& path, const char* key) {
  FILE* file = std::fopen(path.c_str(), "r");
  if (!file) return 0;
  char line[256];
  unsigned long long kib = 0;
  size_t length = std::strlen(key);
  while (std::fgets(line, sizeof line, file)) {
    if (std::strncmp(line, key, length) == 0 && std::sscanf(line + length, "%llu", &kib) == 1) break;
  }
  std::fclose(file);
  return kib;
}

ProcessSample sample_processes(const std::vector<int>& pids) {
  ProcessSample sample;
  for (int pid : pids) {
    std::string folder = "/proc/" + std::to_string(pid);
    sample.cpu_ns += cpu_of(pid);
    sample.rss_kib += kib_line(folder + "/status", "VmRSS:");
    sample.pss_kib += kib_line(folder + "/smaps_rollup", "Pss:");
  }
  return sample;
}

}  // namespace penstock::perf
