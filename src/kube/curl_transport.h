// The real Transport. See make_curl_transport() in penstock/kube/transport.h.
//
// libcurl calls us (head, bytes, sockets, timer) from inside curl_multi_socket_action() and forbids most calls back
// into it from there. So start() only queues, and what is cancelled from inside an event is taken out afterwards, in
// pump().
#pragma once

#include <map>
#include <memory>
#include <string>

#include "credentials.h"
#include "penstock/kube/transport.h"

namespace penstock::kube {

class CurlTransport final : public Transport, net::ReadyEvents {
 public:
  CurlTransport(net::EventLoop& loop, ClientConfig config, ServerAddress server, const CurlLimits& limits);
  ~CurlTransport() override;
  // Empty when all went well.
  std::string open();

  CallId start(Call call, CallEvents& events) override;
  void cancel(CallId id) override;
  void refresh_credentials() override { credentials_.refresh(); }

 private:
  struct Running;
  struct Callbacks;  // what libcurl calls

  void on_ready() override;
  void on_timer();
  void pump();
  void begin(Running& running);
  bool prepare(Running& running, const Credentials& credentials);
  void set_tls(Running& running, const Credentials& credentials);
  void set_body(Running& running);
  void act(int fd, int what);
  void collect();
  void end(CallId id, Failure failure, const std::string& text);
  void on_head(Running& running, std::string_view line);
  void watch_socket(int fd, int what, bool known);

  net::EventLoop& loop_;
  const ClientConfig config_;
  const ServerAddress server_;
  const CurlLimits limits_;
  CredentialSource credentials_;
  void* multi_ = nullptr;  // CURLM
  int epoll_ = -1;
  net::SocketId watch_;
  bool inside_ = false;  // libcurl is on the stack
  CallId last_id_ = 0;
  std::map<CallId, std::unique_ptr<Running>> calls_;
  net::Timer timer_, pump_;
};

}  // namespace penstock::kube
