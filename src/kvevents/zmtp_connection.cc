#include "penstock/kvevents/zmtp_connection.h"

#include <cstring>

namespace penstock::kvevents {

ZmtpConnection::ZmtpConnection(net::EventLoop& loop, net::BlockPool& pool, std::string_view type, std::string_view peer,
                               ZmtpEvents& events)
    : net::Connection(loop, pool), type_(type), peer_(peer), events_(events), reader_(pool.budget(), *this) {}

bool ZmtpConnection::connect(const net::Address& to) {
  begin();
  return net::Connection::connect(to) == 0;
}

void ZmtpConnection::adopt(int fd) {
  begin();
  net::Connection::adopt(fd);
  on_connected();
}

void ZmtpConnection::begin() {
  reader_.reset();
  ready_ = false;
}

bool ZmtpConnection::send(std::span<const std::string_view> frames) {
  out_.clear();
  append_message(out_, frames);
  if (write(out_)) return true;
  close(/*reset=*/true);
  return false;
}

void ZmtpConnection::on_connected() {
  out_.clear();
  append_greeting(out_);
  if (!write(out_)) end("cannot be written to");
}

void ZmtpConnection::on_bytes(std::span<char> bytes) {
  const ZmtpError error = reader_.feed({bytes.data(), bytes.size()});
  if (error != ZmtpError::none && error != ZmtpError::stopped) end(to_string(error));
}

void ZmtpConnection::on_error(int error) {
  end(std::strerror(error));
}

bool ZmtpConnection::on_greeting() {
  out_.clear();
  append_ready(out_, type_);
  if (write(out_)) return true;
  end("cannot be written to");
  return false;
}

bool ZmtpConnection::on_command(std::string_view name, std::string_view data) {
  if (name == "READY") return accept_peer(data);
  if (name == "ERROR") {
    end("the peer refused");
  } else if (name == "PING" && data.size() >= 2) {
    out_.clear();
    append_command(out_, "PONG", data.substr(2));  // behind the time to live, what it wants back
    if (congested()) end("it pings and does not read");
    else if (!write(out_)) end("cannot be written to");
  } else if (name != "PONG") {
    events_.on_zmtp_command(name, data);
  }
  return open();
}

bool ZmtpConnection::accept_peer(std::string_view data) {
  const std::string_view type = ready_property(data, "Socket-Type");
  if (!type.ends_with(peer_) || ready_) {
    end("the peer is not a " + std::string(peer_) + " socket");
    return false;
  }
  ready_ = true;
  events_.on_zmtp_ready();
  return open();
}

bool ZmtpConnection::on_message(std::span<const std::string_view> frames) {
  if (!ready_) {
    end("a message came before the peer was ready");
    return false;
  }
  events_.on_zmtp_message(frames);
  return open();
}

void ZmtpConnection::end(const std::string& why) {
  if (!open()) return;
  close();
  events_.on_zmtp_end(why);
}

}  // namespace penstock::kvevents
