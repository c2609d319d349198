#include "curl_transport.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <vector>

#include "encoding.h"
#include "penstock/base/text.h"

namespace penstock::kube {
namespace {

constexpr long receive_size = 64 * 1024;
constexpr long idle_connections_max = 16;

long ms(Duration duration) {
  return static_cast<long>(to_ms(duration));
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

// What curl's result means; `connected`: the connection (and TLS) had been there.
Failure failure_of(CURLcode code, bool connected) {
  switch (code) {
    case CURLE_OK:
      return Failure::none;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
      return Failure::connect;
    case CURLE_OPERATION_TIMEDOUT:
      return connected ? Failure::timeout : Failure::connect;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
      return Failure::tls;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
      return Failure::protocol;
    default:
      return Failure::cut;
  }
}

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using List = std::unique_ptr<curl_slist, FreeList>;

void add(List& list, const std::string& text) {
  curl_slist* longer = curl_slist_append(list.get(), text.c_str());
  if (longer == nullptr) return;
  static_cast<void>(list.release());
  list.reset(longer);
}

}  // namespace

const char* name(Failure failure) {
  constexpr const char* names[] = {"none", "connect", "tls", "cut", "timeout", "credentials", "protocol"};
  return names[static_cast<size_t>(failure)];
}

struct CurlTransport::Running {
  Running(CurlTransport& transport, CallId number, Call wanted, CallEvents& told)
      : owner(transport), id(number), call(std::move(wanted)), events(&told) {}
  ~Running() { curl_easy_cleanup(easy); }

  CurlTransport& owner;
  const CallId id;
  Call call;
  CallEvents* events;  // nullptr: cancelled
  CURL* easy = nullptr;
  bool added = false;  // to the multi handle
  List headers, connect_to;
  bool head_told = false;
  std::optional<Duration> retry_after;
  char error[CURL_ERROR_SIZE] = {};
};

struct CurlTransport::Callbacks {
  static size_t head(char* data, size_t, size_t size, void* context) {
    auto& running = *static_cast<Running*>(context);
    running.owner.on_head(running, {data, size});
    return running.events == nullptr ? size + 1 : size;  // any other number ends the transfer
  }
  static size_t body(char* data, size_t, size_t size, void* context) {
    auto& running = *static_cast<Running*>(context);
    if (running.events != nullptr) running.events->on_bytes({data, size});
    return running.events == nullptr ? size + 1 : size;
  }
  static int socket(CURL*, curl_socket_t fd, int what, void* context, void* known) {
    static_cast<CurlTransport*>(context)->watch_socket(fd, what, known != nullptr);
    return 0;
  }
  static int timer(CURLM*, long wait_ms, void* context) {
    auto& transport = *static_cast<CurlTransport*>(context);
    if (wait_ms < 0) transport.timer_.cancel();
    else transport.loop_.arm(transport.timer_, milliseconds(wait_ms));
    return 0;
  }
  static curl_socket_t open(void*, curlsocktype, curl_sockaddr* address) {
    return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);  // not for plugins
  }
  // What curl has no option for.
  static int options(void* context, curl_socket_t fd, curlsocktype) {
    const CurlLimits& limits = static_cast<Running*>(context)->owner.limits_;
    const auto user_timeout = static_cast<unsigned>(to_ms(limits.user_timeout));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &limits.keepalive_probes, sizeof limits.keepalive_probes);
    return CURL_SOCKOPT_OK;
  }
};

CurlTransport::CurlTransport(net::EventLoop& loop, ClientConfig config, ServerAddress server, const CurlLimits& limits)
    : loop_(loop),
      config_(std::move(config)),
      server_(std::move(server)),
      limits_(limits),
      credentials_(loop, config_, limits_, [this] { loop_.arm(pump_, Duration{0}); }),
      timer_(net::Timer::of<&CurlTransport::on_timer>(this)),
      pump_(net::Timer::of<&CurlTransport::pump>(this)) {}

std::string CurlTransport::open() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  multi_ = curl_multi_init();
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (multi_ == nullptr || epoll_ < 0) return "cannot set up libcurl";
  const Result<net::SocketId, int> watch = loop_.ring().watch(epoll_, *this);
  if (!watch.ok()) return "the ring cannot watch an epoll set: errno " + std::to_string(watch.error());
  watch_ = watch.value();
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Callbacks::socket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Callbacks::timer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, idle_connections_max);
  return {};
}

CurlTransport::~CurlTransport() {
  PENSTOCK_ASSERT(!inside_);
  for (auto& [id, running] : calls_) {
    if (running->added) curl_multi_remove_handle(multi_, running->easy);
  }
  calls_.clear();
  if (multi_ != nullptr) curl_multi_cleanup(multi_);
  if (watch_) loop_.ring().unwatch(watch_);
  if (epoll_ >= 0) ::close(epoll_);
}

CallId CurlTransport::start(Call call, CallEvents& events) {
  const CallId id = ++last_id_;
  calls_.emplace(id, std::make_unique<Running>(*this, id, std::move(call), events));
  loop_.arm(pump_, Duration{0});
  return id;
}

void CurlTransport::cancel(CallId id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  found->second->events = nullptr;
  loop_.arm(pump_, Duration{0});
}

// Begins what waits and removes what was cancelled. Never on libcurl's stack.
void CurlTransport::pump() {
  PENSTOCK_ASSERT(!inside_);
  std::vector<CallId> waiting, cancelled;
  for (const auto& [id, running] : calls_) {
    if (running->events == nullptr) cancelled.push_back(id);
    else if (!running->added) waiting.push_back(id);
  }
  for (const CallId id : cancelled) end(id, Failure::none, {});
  for (const CallId id : waiting) {
    // Events of the others may have cancelled it.
    const auto found = calls_.find(id);
    if (found != calls_.end() && found->second->events != nullptr) begin(*found->second);
  }
}

void CurlTransport::begin(Running& running) {
  const std::optional<Result<Credentials>> credentials = credentials_.current();
  if (!credentials) return;  // pump() comes again when the plugin has ended
  if (!credentials->ok()) return end(running.id, Failure::credentials, credentials->error().text);
  running.easy = curl_easy_init();
  if (running.easy == nullptr || !prepare(running, credentials->value())) {
    return end(running.id, Failure::protocol, "libcurl does not take the options of a call");
  }
  running.added = true;
  inside_ = true;
  const CURLMcode code = curl_multi_add_handle(multi_, running.easy);
  inside_ = false;
  if (code == CURLM_OK) return;
  running.added = false;
  end(running.id, Failure::protocol, curl_multi_strerror(code));
}

bool CurlTransport::prepare(Running& running, const Credentials& credentials) {
  CURL* const easy = running.easy;
  std::string url = config_.server;
  if (!config_.tls_server_name.empty() && server_.tls) {
    // libcurl verifies the URL's host: let it be the name wanted, and lead the connection elsewhere.
    url = "https://" + config_.tls_server_name + ":" + server_.port + server_.prefix;
    add(running.connect_to, "::" + server_.host + ":" + server_.port);
    add(running.headers, "Host: " + server_.host + ":" + server_.port);
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, running.connect_to.get());
  }
  url += running.call.path;
  bool good = curl_easy_setopt(easy, CURLOPT_URL, url.c_str()) == CURLE_OK;
  good = good && curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &running);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, running.error);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, receive_size);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "penstock");
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Callbacks::head);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &running);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Callbacks::body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &running);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &Callbacks::open);
  curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, &Callbacks::options);
  curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, &running);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE,
                   static_cast<long>(duration_cast<seconds>(limits_.keepalive_idle).count()));
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL,
                   static_cast<long>(duration_cast<seconds>(limits_.keepalive_interval).count()));
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, ms(limits_.connect_timeout));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, ms(running.call.timeout));
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN,
                   static_cast<long>(duration_cast<seconds>(limits_.idle_connection).count()));
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, running.call.fresh_connection ? 1L : 0L);
  if (!config_.proxy_url.empty())
    good = good && curl_easy_setopt(easy, CURLOPT_PROXY, config_.proxy_url.c_str()) == CURLE_OK;
  else if (!config_.use_environment_proxy || is_loopback(server_.host)) curl_easy_setopt(easy, CURLOPT_PROXY, "");
  add(running.headers, "Accept: application/json");
  if (!credentials.token.empty()) add(running.headers, "Authorization: Bearer " + credentials.token);
  set_body(running);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, running.headers.get());
  if (server_.tls) set_tls(running, credentials);
  return good;
}

void CurlTransport::set_tls(Running& running, const Credentials& credentials) {
  CURL* const easy = running.easy;
  const auto set_blob = [&](CURLoption option, const std::string& text) {
    curl_blob blob{const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
    curl_easy_setopt(easy, option, &blob);
  };
  const long verify = config_.insecure_skip_tls_verify ? 0 : 1;
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, verify * 2);
  if (!credentials.ca_pem.empty()) {
    // Only this authority: the system's roots must not count beside it.
    curl_easy_setopt(easy, CURLOPT_CAINFO, nullptr);
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
    set_blob(CURLOPT_CAINFO_BLOB, credentials.ca_pem);
  }
  if (credentials.certificate_pem.empty()) return;
  curl_easy_setopt(easy, CURLOPT_SSLCERTTYPE, "PEM");
  curl_easy_setopt(easy, CURLOPT_SSLKEYTYPE, "PEM");
  set_blob(CURLOPT_SSLCERT_BLOB, credentials.certificate_pem);
  set_blob(CURLOPT_SSLKEY_BLOB, credentials.key_pem);
}

void CurlTransport::set_body(Running& running) {
  const Call& call = running.call;
  if (!call.content_type.empty()) {
    add(running.headers, "Content-Type: " + call.content_type);
    add(running.headers, "Expect:");
    curl_easy_setopt(running.easy, CURLOPT_POSTFIELDS, call.body.data());
    curl_easy_setopt(running.easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.body.size()));
  }
  if (call.method != "GET") curl_easy_setopt(running.easy, CURLOPT_CUSTOMREQUEST, call.method.c_str());
}

// ---- libcurl's sockets and time ----

void CurlTransport::watch_socket(int fd, int what, bool known) {
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    if (known) curl_multi_assign(multi_, fd, nullptr);
    return;
  }
  epoll_event event{};
  if (what & CURL_POLL_IN) event.events |= EPOLLIN;
  if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
  event.data.fd = fd;
  // Its number may be that of a socket that was closed behind our back: then it is not in the set any more.
  if (epoll_ctl(epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0) {
    epoll_ctl(epoll_, errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
  }
  if (!known) curl_multi_assign(multi_, fd, this);  // anything but null
}

void CurlTransport::on_ready() {
  epoll_event events[32];
  const int count = epoll_wait(epoll_, events, std::size(events), 0);
  for (int i = 0; i < count; ++i) {
    int what = 0;
    if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) what |= CURL_CSELECT_IN;
    if (events[i].events & EPOLLOUT) what |= CURL_CSELECT_OUT;
    if (events[i].events & EPOLLERR) what |= CURL_CSELECT_ERR;
    act(events[i].data.fd, what);
  }
  collect();
}

void CurlTransport::on_timer() {
  act(CURL_SOCKET_TIMEOUT, 0);
  collect();
}

void CurlTransport::act(int fd, int what) {
  int running = 0;
  inside_ = true;
  curl_multi_socket_action(multi_, fd, what, &running);
  inside_ = false;
}

// ---- ends ----

void CurlTransport::collect() {
  int left = 0;
  while (const CURLMsg* const message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    Running* running = nullptr;
    curl_off_t connected_us = 0;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &running);
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
    const char* const why = running->error[0] != 0 ? running->error : curl_easy_strerror(code);
    end(running->id, failure_of(code, connected_us > 0), code == CURLE_OK ? "" : why);
  }
}

// The event is the last thing: it may start or cancel others.
void CurlTransport::end(CallId id, Failure failure, const std::string& text) {
  const auto found = calls_.find(id);
  const std::unique_ptr<Running> running = std::move(found->second);
  calls_.erase(found);
  if (running->added) {
    inside_ = true;
    curl_multi_remove_handle(multi_, running->easy);
    inside_ = false;
  }
  if (running->events != nullptr) running->events->on_done(failure, text);
}

void CurlTransport::on_head(Running& running, std::string_view line) {
  line = trimmed(line);
  if (line.starts_with("HTTP/")) {
    running.retry_after.reset();
    return;
  }
  if (!line.empty()) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || !same_ignoring_case(line.substr(0, colon), "retry-after")) return;
    const std::string_view value = trimmed(line.substr(colon + 1));
    uint32_t after = 0;  // seconds; the API server sends no dates
    const auto [end, wrong] = std::from_chars(value.data(), value.data() + value.size(), after);
    if (wrong == std::errc() && end == value.data() + value.size()) running.retry_after = seconds(after);
    return;
  }
  long status = 0;
  curl_easy_getinfo(running.easy, CURLINFO_RESPONSE_CODE, &status);
  if (status < 200 || running.head_told || running.events == nullptr) return;  // else trailers end here
  running.head_told = true;
  running.events->on_status(static_cast<int>(status), running.retry_after);
}

Result<std::unique_ptr<Transport>> make_curl_transport(net::EventLoop& loop, ClientConfig config,
                                                       const CurlLimits& limits) {
  Result<ServerAddress> server = parse_server(config.server);
  if (!server.ok()) return server.error();
  auto transport = std::make_unique<CurlTransport>(loop, std::move(config), std::move(*server), limits);
  if (std::string wrong = transport->open(); !wrong.empty()) return Message{std::move(wrong)};
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace penstock::kube
