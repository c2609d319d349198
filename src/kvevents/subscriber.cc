#include "subscriber.h"

#include <algorithm>

#include "penstock/base/log.h"
#include "penstock/base/text.h"

namespace penstock::kvevents {
namespace {

constexpr uint64_t end_mark = UINT64_MAX;  // in place of a number: a replay is over

std::string number_bytes(uint64_t number) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
  return out;
}

bool read_number(std::string_view bytes, uint64_t* out) {
  if (bytes.size() != 8) return false;
  *out = 0;
  for (const char c : bytes) *out = *out << 8 | static_cast<uint8_t>(c);
  return true;
}

// Adds the time until its end.
class Stopwatch {
 public:
  Stopwatch(net::Clock& clock, Duration& sum) : clock_(clock), sum_(sum), began_(clock.now()) {}
  ~Stopwatch() { sum_ += clock_.now() - began_; }

 private:
  net::Clock& clock_;
  Duration& sum_;
  Instant began_;
};

}  // namespace

Subscriber::Subscriber(Listener& listener, const Source& source, uint32_t rank)
    : listener_(listener),
      source_(source),
      rank_(rank),
      live_events_(*this),
      replay_events_(*this),
      stream_(listener.index_, source.slot, rank, source.replay_port != 0, listener.scratch_, *this),
      live_(listener.loop_, listener.pool_, "SUB", "PUB", live_events_),
      replay_(listener.loop_, listener.pool_, "DEALER", "ROUTER", replay_events_),
      deadline_(net::Timer::of<&Subscriber::on_deadline>(this)),
      replay_timer_(net::Timer::of<&Subscriber::start_replay>(this)) {
  connect();
}

Subscriber::~Subscriber() = default;

net::Address Subscriber::address(uint16_t port) const {
  const auto parsed = net::Address::parse(authority_of(source_.ip, static_cast<uint16_t>(port + rank_)));
  return parsed.ok() ? *parsed : net::Address{};
}

void Subscriber::check() {
  if (!live_.ready()) return;  // it is being connected to anyway
  leave_stream();
  connect();
}

// ---- the live connection ----

void Subscriber::connect() {
  live_.close();
  if (!live_.connect(address(source_.port))) return on_live_end("no socket could be made");
  listener_.loop_.arm(deadline_, listener_.options_.connect_timeout);
}

void Subscriber::on_deadline() {
  if (live_.open()) {
    live_.close(/*reset=*/true);
    return on_live_end("it did not become ready in time");
  }
  connect();
}

void Subscriber::on_live_ready() {
  deadline_.cancel();
  std::string subscription(1, '\x01');
  subscription += listener_.options_.topic;
  if (!live_.send({subscription})) return on_live_end("cannot be written to");
  ++connects_;
  ready_at_ = listener_.loop_.now();
  log::info("KV events: connected",
            {{"endpoint", source_.name}, {"rank", rank_}, {"address", address(source_.port).to_string()}});
  stream_.connected();
  replay_if_wanted();
}

// topic, number, batch
void Subscriber::on_live_message(std::span<const std::string_view> frames) {
  const Stopwatch stopwatch(listener_.loop_.clock(), listener_.time_spent_);
  uint64_t number = 0;
  if (frames.size() != 3 || !read_number(frames[1], &number) || number == end_mark) {
    live_.close(/*reset=*/true);
    return on_live_end("what it publishes are not KV events");
  }
  last_error_.clear();
  stream_.on_batch(number, frames[2]);
  replay_if_wanted();
}

void Subscriber::on_live_end(const std::string& why) {
  // A server that starts or goes refuses for a while: told once.
  if (last_error_ != why) {
    log::info(
        "KV events: no connection",
        {{"endpoint", source_.name}, {"rank", rank_}, {"address", address(source_.port).to_string()}, {"why", why}});
  }
  last_error_ = why;
  leave_stream();
  const ListenerOptions& options = listener_.options_;
  // One that is ready and ends at once is no better than one that refuses.
  if (ready_at_ != Instant{} && listener_.loop_.now() - ready_at_ >= options.backoff_max) failures_ = 0;
  ready_at_ = {};
  const Duration longest =
      std::min(options.backoff_min * (int64_t{1} << std::min(failures_, 16u)), options.backoff_max);
  if (failures_ < 16) ++failures_;
  // Half of it at least, so that those that were lost together do not come back together.
  listener_.loop_.arm(deadline_, longest / 2 + from_seconds(to_seconds(longest / 2) * listener_.random_.unit()));
}

void Subscriber::leave_stream() {
  replay_.close();
  replay_timer_.cancel();
  stream_.disconnected();
}

// ---- replays ----

void Subscriber::replay_if_wanted() {
  if (stream_.replay_from() && !replay_timer_.armed()) listener_.loop_.arm(replay_timer_, Duration{0});
}

// The timer's: to begin, or the time for the next piece is over.
void Subscriber::start_replay() {
  if (stream_.replaying()) {
    replay_.close(/*reset=*/true);
    return on_replay_end("nothing more came in time");
  }
  if (!stream_.replay_from()) return;
  ++replays_;
  replay_.close();
  listener_.loop_.arm(replay_timer_, listener_.options_.replay_timeout);
  const bool connecting = replay_.connect(address(source_.replay_port));
  stream_.replay_began();
  if (!connecting) on_replay_end("no socket could be made");
}

void Subscriber::on_replay_ready() {
  if (!replay_.send({"", number_bytes(stream_.replay_start())})) on_replay_end("cannot be written to");
}

// Number and batch, behind an empty frame. Later versions of vLLM put the topic between, as in what they publish.
void Subscriber::on_replay_message(std::span<const std::string_view> frames) {
  const Stopwatch stopwatch(listener_.loop_.clock(), listener_.time_spent_);
  uint64_t number = 0;
  const bool sane = frames.size() >= 2 && frames.size() <= 4 && read_number(frames[frames.size() - 2], &number);
  if (!sane) {
    replay_.close(/*reset=*/true);
    return on_replay_end("what it replays are not KV events");
  }
  if (number == end_mark) {
    replay_.close();
    return end_replay(/*whole=*/true);
  }
  stream_.on_replayed(number, frames.back());
  listener_.loop_.arm(replay_timer_, listener_.options_.replay_timeout);
}

void Subscriber::on_replay_end(const std::string& why) {
  ++replay_failures_;
  log::warn("KV events: no replay", {{"endpoint", source_.name},
                                     {"rank", rank_},
                                     {"address", address(source_.replay_port).to_string()},
                                     {"why", why}});
  end_replay(/*whole=*/false);
}

void Subscriber::end_replay(bool whole) {
  replay_timer_.cancel();
  stream_.replay_ended(whole);
  replay_if_wanted();
}

RankStatus Subscriber::status() const {
  return {.endpoint = source_.name,
          .rank = rank_,
          .connected = live_.ready(),
          .complete = stream_.complete(),
          .blocks = stream_.blocks().blocks(),
          .connects = connects_,
          .replays = replays_,
          .replay_failures = replay_failures_,
          .stream = stream_.counts(),
          .events = stream_.blocks().counts(),
          .last_error = last_error_};
}

}  // namespace penstock::kvevents
