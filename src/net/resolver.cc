#include "penstock/net/resolver.h"

#include <ares.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <utility>

#include "penstock/base/text.h"

namespace penstock::net {
namespace {

// c-ares waits this part of the whole time for the first server's first answer, twice as long for the second one, and
// so on: a lost packet or a dead server leaves time for another try.
constexpr int kTimeParts = 5, kTries = 3;
constexpr Duration kLeastWait = milliseconds(50);

bool names_a_host(const Address& address) {
  if (address.family() == AF_INET) {
    const uint32_t ip = ntohl(reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr.s_addr);
    return ip >> 24 != 0 && ip >> 28 != 0xe && ip != INADDR_BROADCAST;
  }
  if (address.family() != AF_INET6) return false;
  const in6_addr& ip = reinterpret_cast<const sockaddr_in6*>(address.data())->sin6_addr;
  return !IN6_IS_ADDR_UNSPECIFIED(&ip) && !IN6_IS_ADDR_MULTICAST(&ip) && !IN6_IS_ADDR_LINKLOCAL(&ip);
}

HostAddresses addresses_of(const ares_addrinfo& found) {
  HostAddresses out;
  std::optional<int> ttl;
  const auto expires = [&](int of_record) { ttl = std::min(ttl.value_or(of_record), of_record); };
  for (const auto* cname = found.cnames; cname != nullptr; cname = cname->next) expires(cname->ttl);
  for (const auto* node = found.nodes; node != nullptr; node = node->ai_next) {
    const Address address(node->ai_addr, static_cast<socklen_t>(node->ai_addrlen));
    const bool known = std::find(out.addresses.begin(), out.addresses.end(), address) != out.addresses.end();
    if (known || !names_a_host(address)) continue;
    expires(node->ai_ttl);
    out.addresses.push_back(address);
  }
  out.ttl = seconds(std::max(ttl.value_or(0), 0));
  return out;
}

// A channel of its own for each lookup: c-ares can only withdraw all questions of a channel, and reads the system's
// configuration when it makes one. Its sockets are in an epoll set, which the ring watches.
class DnsLookup final : public Lookup, public ReadyEvents {
 public:
  DnsLookup(EventLoop& loop, const DnsOptions& options, Resolver::Answer answer)
      : loop_(loop),
        options_(options),
        answer_(std::move(answer)),
        retry_(Timer::of<&DnsLookup::on_retry>(this)),
        deadline_(Timer::of<&DnsLookup::on_deadline>(this)),
        done_(Timer::of<&DnsLookup::finish>(this)) {}
  ~DnsLookup() override {
    if (channel_ != nullptr) ares_destroy(channel_);
    if (watch_) loop_.ring().unwatch(watch_);
    if (epoll_ >= 0) ::close(epoll_);
  }

  void start(const std::string& host) {
    if (std::string wrong = open(); !wrong.empty()) {
      result_ = Message{std::move(wrong)};
      return loop_.arm(done_, Duration{0});
    }
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;  // else each address comes once for each type
    ares_getaddrinfo(channel_, host.c_str(), nullptr, &hints, &DnsLookup::on_answer, this);
    loop_.arm(deadline_, options_.timeout);
    look_on();
  }

 private:
  // "" when all went well.
  std::string open() {
    static std::once_flag once;
    std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) return "no descriptor left for a lookup";
    const auto watch = loop_.ring().watch(epoll_, *this);
    if (!watch.ok()) return "the ring cannot watch an epoll set: errno " + std::to_string(watch.error());
    watch_ = *watch;
    ares_options options{};
    char lookups[] = "fb";  // the file, then the servers
    options.lookups = lookups;
    options.tries = kTries;
    options.timeout = static_cast<int>(to_ms(std::max(options_.timeout / kTimeParts, kLeastWait)));
    options.sock_state_cb = &DnsLookup::on_socket;
    options.sock_state_cb_data = this;
    const int mask = ARES_OPT_LOOKUPS | ARES_OPT_TRIES | ARES_OPT_TIMEOUTMS | ARES_OPT_SOCK_STATE_CB;
    int code = ares_init_options(&channel_, &options, mask);
    if (code == ARES_SUCCESS && !options_.servers.empty()) {
      code = ares_set_servers_ports_csv(channel_, joined(options_.servers, ",").c_str());
    }
    return code == ARES_SUCCESS ? "" : ares_strerror(code);
  }

  static void on_answer(void* context, int code, int /*timeouts*/, ares_addrinfo* found) {
    if (code == ARES_EDESTRUCTION) return;
    auto& lookup = *static_cast<DnsLookup*>(context);
    HostAddresses addresses;
    if (found != nullptr) addresses = addresses_of(*found);
    ares_freeaddrinfo(found);
    if (code != ARES_SUCCESS) lookup.result_ = Message{ares_strerror(code)};
    else if (addresses.addresses.empty()) lookup.result_ = Message{"the answer has no usable address"};
    else lookup.result_ = std::move(addresses);
  }

  static void on_socket(void* context, ares_socket_t fd, int readable, int writable) {
    auto& lookup = *static_cast<DnsLookup*>(context);
    epoll_event event{};
    event.data.fd = fd;
    if (readable) event.events |= EPOLLIN;
    if (writable) event.events |= EPOLLOUT;
    if (event.events == 0) {
      epoll_ctl(lookup.epoll_, EPOLL_CTL_DEL, fd, nullptr);
    } else if (epoll_ctl(lookup.epoll_, EPOLL_CTL_MOD, fd, &event) != 0) {
      epoll_ctl(lookup.epoll_, EPOLL_CTL_ADD, fd, &event);
    }
  }

  void on_ready() override {
    epoll_event events[8];
    const int count = epoll_wait(epoll_, events, std::size(events), 0);
    for (int i = 0; i < count; ++i) {
      const bool in = (events[i].events & ~EPOLLOUT) != 0, out = (events[i].events & EPOLLOUT) != 0;
      const ares_socket_t fd = events[i].data.fd;
      ares_process_fd(channel_, in ? fd : ARES_SOCKET_BAD, out ? fd : ARES_SOCKET_BAD);
    }
    look_on();
  }

  void on_retry() {
    ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    look_on();
  }

  void on_deadline() {
    if (!result_) result_ = Message{"no answer in time"};
    finish();
  }

  // Off c-ares' stack, where the answer may destroy us.
  void look_on() {
    if (result_) return loop_.arm(done_, Duration{0});
    timeval next{};
    if (ares_timeout(channel_, nullptr, &next) == nullptr) return;
    loop_.arm(retry_, seconds(next.tv_sec) + microseconds(next.tv_usec));
  }

  void finish() {
    if (answer_ == nullptr) return;  // it was given
    retry_.cancel();
    deadline_.cancel();
    done_.cancel();
    const Resolver::Answer answer = std::exchange(answer_, nullptr);
    const Result<HostAddresses> result = std::move(*result_);
    answer(result);  // the last thing: it may destroy us
  }

  EventLoop& loop_;
  const DnsOptions options_;
  Resolver::Answer answer_;
  std::optional<Result<HostAddresses>> result_;
  ares_channel channel_ = nullptr;
  int epoll_ = -1;
  SocketId watch_;
  Timer retry_, deadline_, done_;
};

}  // namespace

std::unique_ptr<Lookup> DnsResolver::look_up(const std::string& host, Answer answer) {
  auto lookup = std::make_unique<DnsLookup>(loop_, options_, std::move(answer));
  lookup->start(host);
  return lookup;
}

}  // namespace penstock::net
