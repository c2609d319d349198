// The TLS form of a stream: what the ring knows in place of the owner. OpenSSL reads ciphertext directly from the
// receive buffer, and what it writes goes to the socket in one send; what the socket does not take waits in a queue
// that counts against the memory budget.
#pragma once

#include <array>
#include <string>

#include "penstock/net/stream.h"

struct ssl_st;
struct bio_method_st;

namespace penstock::net {

class TlsLayer final : public SocketEvents, public ListNode<TlsWaitingTag> {
 public:
  TlsLayer(Stream& stream, SocketEvents& owner, const TlsAccept& tls);
  TlsLayer(Stream& stream, SocketEvents& owner, const TlsConnect& tls, const Address& to);
  ~TlsLayer();

  ssize_t send(std::span<const iovec> pieces);
  size_t unsent(size_t in_socket) const;
  void pause_recv(bool on);
  void shutdown_send();
  void say_goodbye();  // the stream closes
  TlsInfo info() const;
  std::string_view failure() const { return failure_; }
  void move_to(Stream& stream, SocketEvents& owner) { stream_ = &stream, owner_ = &owner; }
  void handshake_step();  // in its order among those of the loop

  // For OpenSSL's callbacks.
  size_t take_input(char* into, size_t most);
  void put_output(const char* bytes, size_t size) { runtime_.sealed_.append(bytes, size); }
  void refuse_name() { name_refused_ = true; }
  bool keep_session(ssl_session_st* session);

 private:
  // While more bytes than this wait for a handshake's turn, receiving pauses.
  static constexpr size_t kWaitingMax = 32 * 1024;
  static constexpr size_t kUnreadMax = 256 * 1024;  // of answers to control records, for a peer that does not read them
  static constexpr size_t kRecord = 16 * 1024, kChunk = 4 * kRecord;

  class Guard;
  class Cursor;

  void on_connected() override;
  void on_bytes(std::span<char> bytes) override;
  void on_eof() override;
  void on_hang_up() override { owner_->on_hang_up(); }
  void on_writable() override;
  void on_error(int error) override;
  void on_timeout();

  void begin(Duration handshake_timeout);
  void established();
  void read();
  int fill(size_t& filled);
  bool encrypt(Cursor& from, size_t& taken);
  int send_output();
  int send_held();
  void receive_again();
  void end_of_input();
  void handshake_failed(TlsFailure why);
  void fail(int error);
  TlsFailure reason() const;
  bool accept_peer();
  TlsStats& stats() { return server_ != nullptr ? runtime_.server_stats_ : runtime_.client_stats_; }

  Stream* stream_;
  SocketEvents* owner_;
  TlsRuntime& runtime_;
  std::shared_ptr<const TlsServerContext> server_;  // one of the two
  std::shared_ptr<const TlsClientContext> client_;
  std::shared_ptr<TlsSession> session_;
  std::string server_name_;
  ssl_st* ssl_ = nullptr;
  Timer timeout_;
  OutQueue waiting_input_;  // while the handshake waits for its turn
  std::string_view input_;  // of the event that is being handled
  OutQueue held_;           // ciphertext that the socket has not taken
  size_t credit_ = 0;       // of the bytes that send() has not reported as taken: so many are in held_ already
  std::string identity_, failure_;
  bool* gone_ = nullptr;  // on the stack of whoever calls the owner: set by the destructor
  int broken_ = 0;        // errno; nothing more can be sent
  bool paused_by_owner_ = false, paused_by_us_ = false;
  bool established_ = false, writable_wanted_ = false, shutdown_wanted_ = false;
  bool fin_ = false, eof_told_ = false, failed_ = false, name_refused_ = false;
  uint8_t first_size_ = 0;
  std::array<char, 4> first_{};  // bytes of the peer; they tell HTTP without TLS
};

}  // namespace penstock::net
