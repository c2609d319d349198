#include "sim/kv_publisher.h"

#include <algorithm>
#include <bit>

namespace penstock::sim {
namespace {

// A subscriber that leaves this much unread loses batches, as at ZeroMQ's high-water mark.
constexpr size_t unread_max = 64 * 1024 * 1024;

std::string big_endian(uint64_t number) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
  return out;
}

// ---- MessagePack ----

void put_number(std::string& out, uint64_t value) {
  if (value < 0x80) {
    out += static_cast<char>(value);
    return;
  }
  const int bytes = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
  out += static_cast<char>(0xcc + std::countr_zero(static_cast<unsigned>(bytes)));
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

void put_count(std::string& out, uint8_t small, uint8_t wide, size_t count) {
  if (count < 16) {
    out += static_cast<char>(small | count);
    return;
  }
  out += static_cast<char>(wide);
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(count >> shift);
}
void put_array(std::string& out, size_t count) {
  put_count(out, 0x90, 0xdd, count);
}
void put_map(std::string& out, size_t count) {
  put_count(out, 0x80, 0xdf, count);
}

void put_text(std::string& out, std::string_view text) {
  out += static_cast<char>(0xd9);
  out += static_cast<char>(std::min<size_t>(text.size(), 255));
  out += text.substr(0, 255);
}

void put_nil(std::string& out) {
  out += static_cast<char>(0xc0);
}

void put_real(std::string& out, double value) {
  out += static_cast<char>(0xcb);
  out += big_endian(std::bit_cast<uint64_t>(value));
}

void put_numbers(std::string& out, const std::vector<uint64_t>& numbers) {
  put_array(out, numbers.size());
  for (const uint64_t number : numbers) put_number(out, number);
}

void put_token_ids(std::string& out, std::string_view bytes) {
  put_array(out, bytes.size() / bytes_per_token);
  for (; bytes.size() >= bytes_per_token; bytes.remove_prefix(bytes_per_token)) {
    uint32_t id = 0;  // little endian
    for (size_t i = bytes_per_token; i-- > 0;) id = id << 8 | static_cast<uint8_t>(bytes[i]);
    put_number(out, id);
  }
}

}  // namespace

KvPublisher::KvPublisher(net::EventLoop& loop, net::BlockPool& pool, const Catalog& catalog,
                         const KvEventsOptions& options, uint32_t block_size)
    : loop_(loop),
      pool_(pool),
      catalog_(catalog),
      options_(options),
      block_size_(block_size),
      publish_(*this),
      replay_(*this) {}

KvPublisher::~KvPublisher() {
  for (Door* const door : {&publish_, &replay_}) {
    if (door->listener) loop_.ring().close_listener(door->listener);
  }
}

std::string KvPublisher::listen(const std::string& host) {
  std::string problem = open(publish_, host, *options_.port);
  if (problem.empty() && options_.replay_port) problem = open(replay_, host, *options_.replay_port);
  return problem;
}

std::string KvPublisher::open(Door& door, const std::string& host, uint16_t port) {
  const auto at = net::Address::resolve(host, port);
  if (!at.ok()) return at.error().text;
  const auto listener = loop_.ring().listen(*at, /*reuse_port=*/false, door, &door.address);
  if (!listener.ok()) return listener.error().text;
  door.listener = *listener;
  return "";
}

// ---- who listens ----

KvPublisher::Peer::Peer(KvPublisher& publisher, bool replays_)
    : owner(publisher),
      replays(replays_),
      connection(publisher.loop_, publisher.pool_, replays_ ? "ROUTER" : "PUB", replays_ ? "DEALER" : "SUB", *this) {}

void KvPublisher::accept(Door& door, int fd) {
  std::erase_if(peers_, [](const auto& peer) { return !peer->connection.open(); });
  peers_.push_back(std::make_unique<Peer>(*this, &door == &replay_));
  peers_.back()->connection.adopt(fd);
}

// Of subscribers: 1 or 0 and a prefix. Of those who want a replay: an empty frame and the number to begin with.
void KvPublisher::Peer::on_zmtp_message(std::span<const std::string_view> frames) {
  if (!replays) {
    if (frames.size() != 1 || frames[0].empty()) return;
    const std::string topic(frames[0].substr(1));
    if (frames[0][0] == 1) topics.push_back(topic);
    else if (const auto at = std::find(topics.begin(), topics.end(), topic); at != topics.end()) topics.erase(at);
    return;
  }
  if (frames.size() != 2 || !frames[0].empty() || frames[1].size() != 8) return;
  uint64_t from = 0;
  for (const char c : frames[1]) from = from << 8 | static_cast<uint8_t>(c);
  owner.replay(*this, from);
}

void KvPublisher::Peer::on_zmtp_command(std::string_view name, std::string_view data) {
  if (name == "SUBSCRIBE" && !replays) topics.emplace_back(data);
}

bool KvPublisher::Peer::wants(std::string_view topic) const {
  return std::any_of(topics.begin(), topics.end(), [topic](const auto& prefix) { return topic.starts_with(prefix); });
}

// The end has an empty topic, whatever the batches have.
void KvPublisher::replay(Peer& peer, uint64_t from) {
  const auto send = [&](std::string_view topic, uint64_t number, std::string_view batch) {
    const std::string bytes = big_endian(number);
    return options_.older ? peer.connection.send({"", bytes, batch}) : peer.connection.send({"", topic, bytes, batch});
  };
  for (const auto& [number, batch] : buffer_) {
    if (number >= from && !send(options_.topic, number, batch)) return;
  }
  send("", UINT64_MAX, "");
}

// ---- what happens in the cache ----

void KvPublisher::on_stored(const Sequence& sequence, size_t i, uint64_t key, const uint64_t* parent) {
  const bool goes_on = parent != nullptr && !events_.empty() && events_.back().type == Event::Type::stored &&
                       events_.back().blocks.keys.back() == *parent;
  if (!goes_on) {
    Stored blocks;
    blocks.has_parent = parent != nullptr;
    blocks.parent = parent == nullptr ? 0 : *parent;
    blocks.lora = sequence.lora;
    events_.push_back({Event::Type::stored, std::move(blocks)});
  }
  events_.back().blocks.keys.push_back(key);
  events_.back().blocks.bytes += sequence.stream.block(i);
}

void KvPublisher::on_removed(uint64_t key) {
  if (events_.empty() || events_.back().type != Event::Type::removed) events_.push_back({Event::Type::removed, {}});
  events_.back().blocks.keys.push_back(key);
}

void KvPublisher::on_cleared() {
  events_.push_back({Event::Type::cleared, {}});
}

// Arrays of the fields in their order, behind the event's name; or maps with the names of all of them.
void KvPublisher::append_event(std::string& out, const Event& event) const {
  const bool maps = !options_.older;
  const auto begin = [&](std::string_view type, size_t fields) {
    if (maps) put_map(out, fields + 1);
    else put_array(out, fields + 1);
    if (maps) put_text(out, "type");
    put_text(out, type);
  };
  const auto field = [&](std::string_view name) {
    if (maps) put_text(out, name);
  };
  if (event.type == Event::Type::cleared) return begin("AllBlocksCleared", 0);
  const Stored& blocks = event.blocks;
  const bool stored = event.type == Event::Type::stored;
  begin(stored ? "BlockStored" : "BlockRemoved", stored ? 7 : 2);
  field("block_hashes");
  put_numbers(out, blocks.keys);
  if (stored) {
    field("parent_block_hash");
    if (blocks.has_parent) put_number(out, blocks.parent);
    else put_nil(out);
    field("token_ids");
    put_token_ids(out, blocks.bytes);
    field("block_size");
    put_number(out, block_size_);
    field("lora_id");
    if (blocks.lora >= 0) put_number(out, static_cast<uint64_t>(blocks.lora) + 1);
    else put_nil(out);
  }
  field("medium");
  put_text(out, "GPU");
  if (!stored) return;
  field("lora_name");
  if (blocks.lora >= 0) put_text(out, catalog_.lora_name(static_cast<size_t>(blocks.lora)));
  else put_nil(out);
}

void KvPublisher::flush() {
  if (events_.empty()) return;
  std::string batch;
  const bool maps = !options_.older;
  if (maps) put_map(batch, 3);
  else put_array(batch, 3);
  if (maps) put_text(batch, "ts");
  put_real(batch, static_cast<double>(loop_.clock().wall_time_us()) / 1e6);
  if (maps) put_text(batch, "events");
  put_array(batch, events_.size());
  for (const Event& event : events_) append_event(batch, event);
  if (maps) put_text(batch, "data_parallel_rank");
  put_number(batch, 0);
  events_.clear();

  const uint64_t number = next_++;
  const bool dropped = std::find(options_.dropped.begin(), options_.dropped.end(), number) != options_.dropped.end();
  for (const auto& peer : peers_) {
    if (dropped || peer->replays || !peer->connection.ready() || !peer->wants(options_.topic)) continue;
    if (peer->connection.queued() < unread_max) peer->connection.send({options_.topic, big_endian(number), batch});
  }
  buffer_.emplace_back(number, std::move(batch));
  if (buffer_.size() > options_.buffer_batches) buffer_.pop_front();
}

}  // namespace penstock::sim
