// A byte stream: the one way to a socket for everything above the rings, plain or TLS. Plain, it is the ring's socket
// and nothing more: the owner is registered at the ring itself. TLS, a layer in between encrypts what the owner sends
// and decrypts what it receives; the owner sees the same events, with these differences:
// - on_connected() comes after the handshake. What a server's owner sends before it waits, as if the socket were full.
// - on_eof() means that the peer has closed the TLS stream (close_notify). If its connection ends without that, bytes
// may
//   have been cut off by anybody: on_error(ECONNABORTED). An owner whose messages say where they end can ignore it.
// - on_error(EPROTO) is a handshake that failed or a broken record, on_error(ETIMEDOUT) a handshake that took too long;
//   failure() has the words.
// Thread: its loop's. Lifetime: part of its owner.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "penstock/net/event_loop.h"
#include "penstock/net/tls.h"

namespace penstock::net {

class Stream {
 public:
  explicit Stream(EventLoop& loop);
  ~Stream();
  Stream(const Stream&) = delete;

  EventLoop& loop() const { return loop_; }
  bool open() const { return static_cast<bool>(socket_); }

  // As of the ring. `owner` gets the events until close(). `tls`: null for a plain stream.
  void adopt(int fd, SocketEvents& owner, const TlsAccept* tls = nullptr);
  // errno when no socket could be made, else 0.
  int connect(const Address& to, SocketEvents& owner, const TlsConnect* tls = nullptr);
  // Goes on with the socket of `from`, and its TLS: the events go to `owner` from now on, also from inside one of them.
  void take_over(Stream& from, SocketEvents& owner);
  // As of the ring, with one more rule: after a call that took less than everything, the next one must begin with the
  // bytes that were not taken (they may be encrypted already). -ENOBUFS: the memory budget has no room for what the
  // socket did not take of them.
  ssize_t send(std::span<const iovec> pieces) {
    return tls_ == nullptr ? loop_.ring().send(socket_, pieces) : send_tls(pieces);
  }
  // Bytes taken by send() that the peer's host has not acknowledged, about. A system call.
  size_t unsent() const;
  void pause_recv();
  void resume_recv();
  void delay_acks(bool on) { loop_.ring().delay_acks(socket_, on); }
  // FIN after what was sent; TLS: after a close_notify.
  void shutdown_send();
  // Ends the stream without waiting. TLS: with a close_notify unless `reset` is set or sent bytes are still held back.
  void close(bool reset = false);

  bool secure() const { return tls_ != nullptr; }
  TlsInfo tls_info() const;          // empty unless the stream is TLS and established
  std::string_view failure() const;  // inside on_error(): why TLS failed; "": it did not

 private:
  friend class TlsLayer;
  ssize_t send_tls(std::span<const iovec> pieces);

  EventLoop& loop_;
  SocketId socket_;
  std::unique_ptr<TlsLayer> tls_;  // null: plain
};

}  // namespace penstock::net
