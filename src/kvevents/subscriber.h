// Listens to one rank: a SUB socket for its events, and a DEALER while a replay is under way.
#pragma once

#include "penstock/kvevents/listener.h"
#include "penstock/kvevents/zmtp_connection.h"

namespace penstock::kvevents {

class Subscriber final : private StreamEvents {
 public:
  Subscriber(Listener& listener, const Source& source, uint32_t rank);
  ~Subscriber();

  const Source& source() const { return source_; }
  void check();
  RankStatus status() const;

 private:
  struct Live final : ZmtpEvents {
    explicit Live(Subscriber& subscriber) : owner(subscriber) {}
    void on_zmtp_ready() override { owner.on_live_ready(); }
    void on_zmtp_message(std::span<const std::string_view> frames) override { owner.on_live_message(frames); }
    void on_zmtp_end(const std::string& why) override { owner.on_live_end(why); }
    Subscriber& owner;
  };
  struct Replay final : ZmtpEvents {
    explicit Replay(Subscriber& subscriber) : owner(subscriber) {}
    void on_zmtp_ready() override { owner.on_replay_ready(); }
    void on_zmtp_message(std::span<const std::string_view> frames) override { owner.on_replay_message(frames); }
    void on_zmtp_end(const std::string& why) override { owner.on_replay_end(why); }
    Subscriber& owner;
  };

  void connect();
  void on_deadline();
  void on_live_ready();
  void on_live_message(std::span<const std::string_view> frames);
  void on_live_end(const std::string& why);
  void leave_stream();
  void on_cache_emptied() override { listener_.emptied_(source_.slot); }
  void replay_if_wanted();
  void start_replay();
  void on_replay_ready();
  void on_replay_message(std::span<const std::string_view> frames);
  void on_replay_end(const std::string& why);
  void end_replay(bool whole);
  net::Address address(uint16_t port) const;

  Listener& listener_;
  Source source_;
  uint32_t rank_;
  Live live_events_;
  Replay replay_events_;
  EventStream stream_;
  ZmtpConnection live_, replay_;
  net::Timer deadline_;      // to be ready, or to connect again
  net::Timer replay_timer_;  // to begin a replay, or for its next piece
  uint32_t failures_ = 0;    // to connect and stay, in a row
  Instant ready_at_{};
  uint64_t connects_ = 0, replays_ = 0, replay_failures_ = 0;
  std::string last_error_;
};

}  // namespace penstock::kvevents
