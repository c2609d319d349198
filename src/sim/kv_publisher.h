// Publishes what the simulated engine's cache holds, as vLLM's ZMQ event publisher does: batches of events with a
// number, on a PUB socket, and again for those who ask on a ROUTER socket. One thread, its loop's.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "penstock/kvevents/zmtp_connection.h"
#include "sim/catalog.h"
#include "sim/engine_names.h"
#include "sim/options.h"

namespace penstock::sim {

class KvPublisher final : public BlockEvents {
 public:
  KvPublisher(net::EventLoop& loop, net::BlockPool& pool, const Catalog& catalog, const KvEventsOptions& options,
              uint32_t block_size);
  ~KvPublisher();

  std::string listen(const std::string& host);  // "" or what is wrong
  const net::Address& address() const { return publish_.address; }
  const net::Address& replay_address() const { return replay_.address; }  // empty: there is none
  // Publishes what happened since the last time, as one batch.
  void flush();

 private:
  // A listening socket and who came through it.
  struct Door final : net::AcceptEvents {
    explicit Door(KvPublisher& publisher) : owner(publisher) {}
    void on_accept(int fd) override { owner.accept(*this, fd); }
    void on_accept_error(int) override {}
    KvPublisher& owner;
    net::Address address;
    net::SocketId listener;
  };
  struct Peer final : kvevents::ZmtpEvents {
    Peer(KvPublisher& publisher, bool replays);
    void on_zmtp_ready() override {}
    void on_zmtp_message(std::span<const std::string_view> frames) override;
    void on_zmtp_command(std::string_view name, std::string_view data) override;
    void on_zmtp_end(const std::string&) override {}
    bool wants(std::string_view topic) const;

    KvPublisher& owner;
    const bool replays;
    kvevents::ZmtpConnection connection;
    std::vector<std::string> topics;  // subscribed to, by prefix
  };
  struct Stored {
    std::vector<uint64_t> keys;
    bool has_parent = false;
    uint64_t parent = 0;
    std::string bytes;  // of its tokens
    int32_t lora = -1;
  };
  struct Event {
    enum class Type : uint8_t { stored, removed, cleared } type;
    Stored blocks;
  };

  void on_stored(const Sequence& sequence, size_t i, uint64_t key, const uint64_t* parent) override;
  void on_removed(uint64_t key) override;
  void on_cleared() override;
  std::string open(Door& door, const std::string& host, uint16_t port);
  void accept(Door& door, int fd);
  void replay(Peer& peer, uint64_t from);
  void append_event(std::string& out, const Event& event) const;

  net::EventLoop& loop_;
  net::BlockPool& pool_;
  const Catalog& catalog_;
  KvEventsOptions options_;
  uint32_t block_size_;
  Door publish_, replay_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<Event> events_;  // since the last batch
  uint64_t next_ = 0;          // number of the next batch
  std::deque<std::pair<uint64_t, std::string>> buffer_;
};

}  // namespace penstock::sim
