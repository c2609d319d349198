// A socket that speaks ZMTP: greets, says which type of socket it is, and then carries messages. Both ways round: it
// connects, or adopts what was accepted. Thread: its loop's. Lifetime: its owner's; it may be closed, but not
// destroyed, inside its events, and connected again later.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "penstock/kvevents/zmtp.h"
#include "penstock/net/connection.h"

namespace penstock::kvevents {

class ZmtpEvents {
 public:
  // Both sides are ready; messages may be sent.
  virtual void on_zmtp_ready() = 0;
  virtual void on_zmtp_message(std::span<const std::string_view> frames) = 0;
  // It has ended, not by our close(), and is closed.
  virtual void on_zmtp_end(const std::string& why) = 0;
  // Commands other than READY, PING and PONG.
  virtual void on_zmtp_command(std::string_view name, std::string_view data) {}

 protected:
  ~ZmtpEvents() = default;
};

class ZmtpConnection final : public net::Connection, private ZmtpSink {
 public:
  // `type`: of our socket. `peer`: of the one at the other end, as a suffix ("PUB" is also XPUB).
  ZmtpConnection(net::EventLoop& loop, net::BlockPool& pool, std::string_view type, std::string_view peer,
                 ZmtpEvents& events);

  // What fails comes as on_zmtp_end(), in a later event. False: not even a socket could be had.
  [[nodiscard]] bool connect(const net::Address& to);
  void adopt(int fd);
  // False: it is dead, and closed; no event follows.
  bool send(std::span<const std::string_view> frames);
  bool send(std::initializer_list<std::string_view> frames) { return send(std::span(frames.begin(), frames.size())); }
  bool ready() const { return ready_ && open(); }

 private:
  void on_connected() override;
  void on_bytes(std::span<char> bytes) override;
  void on_eof() override { end("closed by the peer"); }
  void on_error(int error) override;
  void on_drained() override {}
  bool on_greeting() override;
  bool on_command(std::string_view name, std::string_view data) override;
  bool on_message(std::span<const std::string_view> frames) override;
  bool accept_peer(std::string_view data);
  void begin();
  void end(const std::string& why);

  std::string_view type_, peer_;  // literals
  ZmtpEvents& events_;
  ZmtpReader reader_;
  bool ready_ = false;
  std::string out_;  // scratch
};

}  // namespace penstock::kvevents
