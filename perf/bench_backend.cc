// The fastest fixed model server that we can write, for benchmarks: it must never be what limits them.
// One thread serves several ports. POST answers a fixed JSON body, or with "stream":true a fixed number of
// events of equal size, one each step, each carrying the CLOCK_MONOTONIC nanosecond at which it was due: a gateway that
// keeps this program from sending (they may share a core with the load) cannot hide the delay.

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "perf/common/flags.h"
#include "perf/common/framing.h"
#include "perf/common/posix.h"

namespace penstock::perf {
namespace {

constexpr const char* usage =
    "bench_backend: a fixed, fast stand-in for model servers on loopback\n"
    "  --port N            first port (0, the default, picks free ones); prints one 'listening on' line a port\n"
    "  --ports N           how many ports to serve (1)\n"
    "  --answer-bytes N    body size of an answer that is not streamed (1024)\n"
    "  --events N          events of a stream when the request has no max_tokens (100)\n"
    "  --event-bytes N     size of one event (200)\n"
    "  --step-ms T         time between the events of a stream (50); 0 sends all of them at once\n"
    "  --staggered         spread the streams over the step; by default all streams of a port step together\n";

struct Options {
  uint16_t port = 0;
  uint32_t ports = 1;
  uint32_t answer_bytes = 1024;
  uint32_t events = 100;
  uint32_t event_bytes = 200;
  double step_ms = 50;
  bool staggered = false;
};

enum class Path : uint8_t { metrics, models, health };

struct Connection {
  explicit Connection(int descriptor, uint32_t port) : fd(descriptor), port_index(port) {}

  Framer framer{Framer::Kind::request};
  std::string pending;
  std::string carry;  // end of the last body span: a key may be cut in two
  int fd;
  uint32_t port_index;
  uint32_t events_left = 0;
  uint32_t max_tokens = 0;
  uint32_t slot = 0;
  uint32_t slot_position = 0;
  char method = 'G';
  Path path = Path::health;
  bool streaming = false;
  bool stream_asked = false;
  bool dead = false;
};

// A step is cut into slots; each slot holds the streams that send at its moment.
class Wheel {
 public:
  static constexpr uint32_t size = 256;

  void add(Connection* c, uint32_t slot) {
    c->slot = slot;
    c->slot_position = static_cast<uint32_t>(slots_[slot].size());
    slots_[slot].push_back(c);
    ++count_;
  }

  void remove(Connection* c) {
    std::vector<Connection*>& slot = slots_[c->slot];
    slot[c->slot_position] = slot.back();
    slot[c->slot_position]->slot_position = c->slot_position;
    slot.pop_back();
    --count_;
  }

  std::vector<Connection*>& at(uint32_t slot) { return slots_[slot]; }
  bool empty() const { return count_ == 0; }

 private:
  std::vector<Connection*> slots_[size];
  size_t count_ = 0;
};

// Text that is sent again and again, built once.
struct Texts {
  explicit Texts(const Options& options);

  std::string answer;
  std::string stream_head;
  std::string event;  // one chunk; the timestamp goes to event_time_at
  std::string last;   // finish, usage, [DONE] and the last chunk
  std::string metrics;
  std::string models;
  std::string health;
  size_t event_time_at = 0;
};

constexpr size_t time_digits = 19;

std::string with_head(const char* type, const std::string& body) {
  return std::string("HTTP/1.1 200 OK\r\nContent-Type: ") + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string chunk(const std::string& data) {
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", data.size());
  return size + data + "\r\n";
}

Texts::Texts(const Options& options) {
  const std::string usage_text =
      R"("usage":{"prompt_tokens":100,"completion_tokens":100,"total_tokens":200,"prompt_tokens_details":{"cached_tokens":0}})";
  const std::string id =
      R"({"id":"cmpl-bench","object":"text_completion","created":1700000000,"model":"bench","choices":[{"index":0,)";
  std::string tail = R"(","finish_reason":"length"}],)" + usage_text + "}";
  std::string start = id + R"("text":")";
  size_t fixed = start.size() + tail.size();
  answer = with_head("application/json",
                     start + std::string(options.answer_bytes > fixed ? options.answer_bytes - fixed : 0, 'x') + tail);

  stream_head =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
  // The time is part of the text, so that events are those of a model server.
  std::string event_start = "data: " + id + R"("text":"t_ns=)";
  std::string event_middle(time_digits, '0');
  std::string event_end = "\",\"finish_reason\":null}]}\n\n";
  fixed = event_start.size() + event_middle.size() + event_end.size();
  size_t fill = options.event_bytes > fixed ? options.event_bytes - fixed : 1;
  event = chunk(event_start + event_middle + std::string(fill, 't') + event_end);
  event_time_at = event.find(event_start) + event_start.size();
  last = chunk("data: " + id + R"("text":"","finish_reason":"length"}]})" + "\n\n") +
         chunk(R"(data: {"id":"cmpl-bench","object":"text_completion","model":"bench","choices":[],)" + usage_text +
               "}\n\n") +
         chunk("data: [DONE]\n\n") + "0\r\n\r\n";

  metrics = with_head("text/plain; version=0.0.4",
                      "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"bench\"} 1\n"
                      "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"bench\"} 0\n"
                      "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{model_name=\"bench\"} 0.1\n"
                      "# TYPE vllm:cache_config_info gauge\n"
                      "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"20000\"} 1\n");
  models =
      with_head("application/json", R"({"object":"list","data":[{"id":"bench","object":"model","owned_by":"bench"}]})");
  health = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
}

class Backend {
 public:
  explicit Backend(const Options& options) : options_(options), texts_(options) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    slot_ns_ = static_cast<uint64_t>(options.step_ms * 1e6) / Wheel::size;
    for (uint32_t i = 0; i < options.ports; ++i) {
      uint16_t port = options.port == 0 ? uint16_t{0} : static_cast<uint16_t>(options.port + i);
      listeners_.push_back(listen_on_loopback(port));
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = i;  // below the lowest address, so it cannot be a connection
      epoll_ctl(epoll_, EPOLL_CTL_ADD, listeners_.back(), &event);
      std::printf("listening on 127.0.0.1:%u\n", port);
    }
    std::fflush(stdout);
  }

  [[noreturn]] void run() {
    epoll_event events[256];
    next_slot_at_ = now_ns();
    for (;;) {
      bool stepping = !wheel_.empty() && slot_ns_ != 0;
      int n = stepping ? wait_until(epoll_, events, 256, next_busy_slot_at()) : epoll_wait(epoll_, events, 256, -1);
      if (!stepping) next_slot_at_ = now_ns();
      for (int i = 0; i < n; ++i) handle(events[i]);
      if (slot_ns_ != 0) run_slots();
      for (Connection* c : graveyard_) delete c;
      graveyard_.clear();
    }
  }

 private:
  void handle(const epoll_event& event) {
    if (event.data.u64 < listeners_.size()) {
      uint32_t index = static_cast<uint32_t>(event.data.u64);
      for (int fd = accept_one(listeners_[index]); fd >= 0; fd = accept_one(listeners_[index])) watch(fd, index);
      return;
    }
    Connection* c = static_cast<Connection*>(event.data.ptr);
    if (!c->dead && (event.events & EPOLLOUT) && !c->pending.empty()) flush(c);
    if (!c->dead && (event.events & ~static_cast<uint32_t>(EPOLLOUT))) read_all(c);
  }

  void watch(int fd, uint32_t port_index) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = new Connection(fd, port_index);
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void read_all(Connection* c) {
    for (;;) {
      ssize_t n = recv(c->fd, buffer_, sizeof buffer_, 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) {
        kill(c);
        return;
      }
      std::string_view data(buffer_, static_cast<size_t>(n));
      while (!data.empty() && !c->dead) data.remove_prefix(take(c, data));
      if (c->dead || static_cast<size_t>(n) < sizeof buffer_) return;
    }
  }

  struct Request {
    Connection* c;
    void head(std::string_view text) {
      c->method = text[0];
      std::string_view path = text.substr(text.find(' ') + 1, 8);
      c->path = path == "/metrics" ? Path::metrics : path.starts_with("/v1/mod") ? Path::models : Path::health;
      c->stream_asked = false;
      c->max_tokens = 0;
      c->carry.clear();
    }
    // Looks for the two keys that matter in each span, and in the seam between two spans.
    void body(std::string_view span) {
      look(c->carry.append(span.substr(0, 32)));
      look(span);
      c->carry.assign(span.size() > 32 ? span.substr(span.size() - 32) : span);
    }
    void look(std::string_view text) {
      size_t at = text.find("\"stream\":");
      if (at != std::string_view::npos && text.substr(at, 14).find("true") != std::string_view::npos) {
        c->stream_asked = true;
      }
      at = text.find("\"max_tokens\":");
      if (at == std::string_view::npos) return;
      const char* digits = text.data() + at + 13;
      if (*digits == ' ') ++digits;
      std::from_chars(digits, text.data() + text.size(), c->max_tokens);
    }
  };

  size_t take(Connection* c, std::string_view data) {
    size_t used = c->framer.feed(data, Request{c});
    if (used == 0) {
      kill(c);
      return data.size();
    }
    if (!c->framer.done()) return used;
    c->framer.reset();
    if (c->streaming) {
      kill(c);  // a request on top of a running stream
    } else {
      answer(c);
    }
    return used;
  }

  void answer(Connection* c) {
    if (c->method == 'G') {
      write(c, c->path == Path::metrics ? texts_.metrics : c->path == Path::models ? texts_.models : texts_.health);
    } else if (!c->stream_asked) {
      write(c, texts_.answer);
    } else {
      start_stream(c);
    }
  }

  void start_stream(Connection* c) {
    write(c, texts_.stream_head);
    if (c->dead) return;
    c->events_left = c->max_tokens != 0 ? c->max_tokens : options_.events;
    c->streaming = true;
    if (slot_ns_ == 0) {
      std::string all;
      for (; c->events_left > 0; --c->events_left) all += stamped(now_ns());
      end_stream(c, all);
      return;
    }
    uint32_t slot = options_.staggered ? next_stagger_++ % Wheel::size : c->port_index * Wheel::size / options_.ports;
    wheel_.add(c, slot);
  }

  const std::string& stamped(uint64_t now) {
    char digits[24];
    std::snprintf(digits, sizeof digits, "%019llu", static_cast<unsigned long long>(now));
    std::memcpy(texts_.event.data() + texts_.event_time_at, digits, time_digits);
    return texts_.event;
  }

  uint64_t next_busy_slot_at() {
    uint32_t ahead = 0;
    while (ahead < Wheel::size && wheel_.at((slot_ + ahead) % Wheel::size).empty()) ++ahead;
    return next_slot_at_ + slot_ns_ * ahead;
  }

  // Runs every slot whose moment has come; falling far behind skips time instead of bunching steps.
  void run_slots() {
    uint64_t now = now_ns();
    if (now > next_slot_at_ + slot_ns_ * Wheel::size * 2) next_slot_at_ = now;
    while (next_slot_at_ <= now && !wheel_.empty()) {
      std::vector<Connection*>& slot = wheel_.at(slot_);
      for (size_t i = slot.size(); i > 0; --i) step(slot[i - 1]);
      slot_ = (slot_ + 1) % Wheel::size;
      next_slot_at_ += slot_ns_;
    }
  }

  void step(Connection* c) {
    if (c->events_left > 1) {
      --c->events_left;
      write(c, stamped(next_slot_at_));
      return;
    }
    wheel_.remove(c);
    std::string end = stamped(next_slot_at_);
    end_stream(c, end);
  }

  void end_stream(Connection* c, std::string& text) {
    c->streaming = false;
    text += texts_.last;
    write(c, text);
  }

  void write(Connection* c, std::string_view data) {
    if (c->dead) return;
    if (c->pending.empty()) {
      ssize_t n = send(c->fd, data.data(), data.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) {
        kill(c);
        return;
      }
      if (n > 0) data.remove_prefix(static_cast<size_t>(n));
    }
    if (!data.empty()) c->pending.append(data);
  }

  void flush(Connection* c) {
    ssize_t n = send(c->fd, c->pending.data(), c->pending.size(), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
      kill(c);
    } else if (n > 0) {
      c->pending.erase(0, static_cast<size_t>(n));
    }
  }

  void kill(Connection* c) {
    if (c->dead) return;
    c->dead = true;
    if (c->streaming && slot_ns_ != 0) wheel_.remove(c);
    close(c->fd);
    graveyard_.push_back(c);
  }

  Options options_;
  Texts texts_;
  Wheel wheel_;
  std::vector<int> listeners_;
  std::vector<Connection*> graveyard_;
  uint64_t slot_ns_ = 0;
  uint64_t next_slot_at_ = 0;
  uint32_t slot_ = 0;
  uint32_t next_stagger_ = 0;
  int epoll_ = -1;
  char buffer_[256 * 1024];
};

}  // namespace
}  // namespace penstock::perf

int main(int argc, char** argv) {
  using namespace penstock::perf;
  Flags flags(argc, argv, usage);
  Options options;
  options.port = static_cast<uint16_t>(flags.number("--port", options.port));
  options.ports = static_cast<uint32_t>(std::max<uint64_t>(1, flags.number("--ports", options.ports)));
  options.answer_bytes = static_cast<uint32_t>(flags.number("--answer-bytes", options.answer_bytes));
  options.events = static_cast<uint32_t>(std::max<uint64_t>(1, flags.number("--events", options.events)));
  options.event_bytes = static_cast<uint32_t>(flags.number("--event-bytes", options.event_bytes));
  options.step_ms = flags.real("--step-ms", options.step_ms);
  options.staggered = flags.on("--staggered");
  flags.finish();
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  auto backend = std::make_unique<Backend>(options);
  backend->run();
}
