#pragma once
// Sockets, clocks and /proc for the load tools. They stand on POSIX and epoll alone, so that they measure
// Penstock without sharing a line with it.

#include <netinet/in.h>
#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::perf {

// CLOCK_MONOTONIC in nanoseconds: one clock for all processes of the machine, which is what lets a client
// subtract a back end's send time from its own read time.
uint64_t now_ns();

// "127.0.0.1:8080" or "localhost:8080" or "http://..." of these. Anything but loopback ends the program:
// these tools make load, and must never be pointed at somebody's service.
sockaddr_in loopback_address(std::string_view text);

// Raises the soft limit of descriptors to the hard one.
void raise_descriptor_limit();

// A non-blocking listener on 127.0.0.1; port 0 picks one, which is stored back. Ends the program on failure.
int listen_on_loopback(uint16_t& port);

// Starts a non-blocking connect; -1 when it failed at once.
int start_connect(const sockaddr_in& address);

// A non-blocking accepted descriptor with TCP_NODELAY, or -1.
int accept_one(int listener);

// Why a non-blocking connect failed; 0 when it did not.
int socket_error(int fd);

// epoll_wait that sleeps until a CLOCK_MONOTONIC time (0: does not sleep), to better than a millisecond.
int wait_until(int epoll, epoll_event* events, int capacity, uint64_t deadline_ns);

// What the kernel says about a running process.
struct ProcessSample {
  uint64_t cpu_ns = 0;   // all threads, from schedstat
  uint64_t rss_kib = 0;  // VmRSS
  uint64_t pss_kib = 0;  // proportional share, from smaps_rollup
};
ProcessSample sample_processes(const std::vector<int>& pids);

}  // namespace penstock::perf
