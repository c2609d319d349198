// A byte connection on a stream: gathers what is written in a turn and sends it at the turn's end (large writes at
// once), queues what the kernel does not take, tells when the queue has drained. Base of the connections on the client
// side. Thread: its loop's. Lifetime: owned by its derived class's owner; close() ends all events.
#pragma once

#include <span>
#include <string_view>

#include "penstock/net/buffer.h"
#include "penstock/net/event_loop.h"
#include "penstock/net/stream.h"

namespace penstock::net {

class Connection : public SocketEvents, private Flushable {
 public:
  // Writes are gathered up to this many bytes; copying more would cost more than the system call that it saves.
  static constexpr size_t gather_max = 16 * 1024;
  // Above `high_mark` queued bytes the source of those bytes should pause (see congested()), and earlier in a small or
  // full budget (see mark()).
  static constexpr size_t high_mark = 256 * 1024, low_mark = 64 * 1024;

  Connection(EventLoop& loop, BlockPool& pool) : stream_(loop), queue_(pool) {}
  Connection(const Connection&) = delete;

  EventLoop& loop() { return stream_.loop(); }
  bool open() const { return stream_.open(); }
  const Stream& stream() const { return stream_; }
  BlockPool& pool() const { return queue_.pool(); }
  size_t queued() const { return queue_.size(); }  // whether the kernel refused them or the turn's end will send them
  bool blocked() const { return blocked_; }        // the kernel has refused some; on_flushed() ends it
  // A queue of more than this is congested (high_mark, or less as the memory budget fills).
  static size_t mark(const MemoryBudget& budget);
  // True while the source should not produce: the queue passed the high mark (or less, as the memory budget
  // fills: see mark()) and has not yet fallen to a quarter of that, or half of the lesser one. on_drained() ends it.
  bool congested() const { return congested_; }
  // The last write() that failed did so because the budget refused to queue.
  bool starved() const { return starved_; }

  // Takes all pieces, in order. False: the connection is dead or the budget refused to queue; the caller must close it.
  // Never calls back. Not after finish_sending(). That it is dead may also come out at the turn's end, as on_error().
  [[nodiscard]] bool write(std::span<const iovec> pieces);
  [[nodiscard]] bool write(std::string_view bytes);
  // FIN once everything queued has gone out.
  void finish_sending();
  void pause_recv();
  void resume_recv();
  bool recv_paused() const { return recv_paused_; }
  // Ends the socket now; queued bytes are dropped. Idempotent.
  void close(bool reset = false);

 protected:
  ~Connection();
  // Goes on with a stream of another kind of owner, which has nothing left to send.
  void take_over(Stream& from);
  // `tls`: null for a plain connection.
  void adopt(int fd, const TlsAccept* tls = nullptr);
  // Goes on with the stream of `from` and with what it has left to send: its events come here from now on.
  void take_over(Connection& from);
  // errno when no socket could be made, else 0.
  int connect(const Address& to, const TlsConnect* tls = nullptr);

  // The queue fell below the low mark after congested() was true.
  virtual void on_drained() = 0;
  // At the turn's end the kernel did not take everything that was written.
  virtual void on_blocked() {}
  // The last queued byte has gone out, and FIN if finish_sending() asked for it. After congestion on_drained
  // comes first. Not called for large writes that the kernel took at once. Default: nothing.
  virtual void on_flushed() {}

  void on_writable() final;

 private:
  void flush() final;
  bool write_now(std::span<const iovec> pieces, size_t skip);
  ssize_t send(std::span<const iovec> pieces);
  bool send_or_queue(std::string_view bytes);
  size_t queue(std::span<const iovec> pieces);
  void note_congestion();
  void all_sent();
  int send_queued();  // errno of a dead socket, else 0
  bool enqueue(std::string_view bytes);
  void opened();

  Stream stream_;
  OutQueue queue_;
  bool* destroyed_ = nullptr;  // on the stack of on_writable(): set by the destructor
  bool congested_ = false, recv_paused_ = false, blocked_ = false, starved_ = false;
  bool finish_when_flushed_ = false;  // finish_sending() was called; once the queue is empty: FIN was sent
};

}  // namespace penstock::net
