#include "perf/common/load_client.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace penstock::perf {

namespace {
constexpr size_t receive_size = 256 * 1024;
constexpr uint32_t connecting_limit = 256;  // well below a listener's queue
constexpr uint64_t open_all_limit_ns = 20'000'000'000;
constexpr uint64_t connect_pause_ns = 10'000'000;
}  // namespace

struct LoadClient::Connection {
  int fd = -1;
  Framer framer{Framer::Kind::response};
  Job job;
  size_t sent = 0;
  bool busy = false;
  bool connecting = false;
  bool writable = false;
  bool sse = false;
  bool saw_done = false;
  uint64_t last_event_at = 0;
  Result result;
  std::string endpoint;
  std::string carry;  // a partial event, or the body of an answer whose usage is wanted
};

struct LoadClient::Reader {
  LoadClient* client;
  Connection* c;
  void head(std::string_view text) {
    c->result.status = c->framer.status();
    c->sse = header_value(text, "content-type").starts_with("text/event-stream");
    c->endpoint = header_value(text, "x-penstock-endpoint");
  }
  void body(std::string_view span) { client->take_body(c, span); }
};

LoadClient::LoadClient(const LoadOptions& options, JobSource& source)
    : options_(options), source_(source), buffer_(std::make_unique<char[]>(receive_size)) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  for (uint32_t i = 0; i < options_.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>());
    unopened_.push_back(connections_.back().get());
  }
}

LoadClient::~LoadClient() {
  for (auto& c : connections_) {
    if (c->fd >= 0) close(c->fd);
  }
  close(epoll_);
}

bool LoadClient::open_all() {
  uint64_t deadline = now_ns() + open_all_limit_ns;
  while ((!unopened_.empty() || connecting_ > 0) && now_ns() < deadline) {
    if (!unopened_.empty() && connecting_ < connecting_limit) {
      Connection* c = open_connection();
      if (!c) return false;
      idle_.push_back(c);
    } else {
      turn(now_ns() + 10'000'000);
    }
  }
  return idle_.size() == options_.connections && connecting_ == 0;
}

void LoadClient::run() {
  uint64_t start = now_ns();
  uint64_t record_at = start + static_cast<uint64_t>(options_.warmup * 1e9);
  uint64_t stop_at = record_at + static_cast<uint64_t>(options_.seconds * 1e9);
  uint64_t drain_until = stop_at + static_cast<uint64_t>(options_.drain * 1e9);
  bool stopped = false;
  for (;;) {
    uint64_t now = now_ns();
    if (!recording_ && !stopped && now >= record_at) begin_window(now);
    if (!stopped && (now >= stop_at || (source_.exhausted() && waiting_.empty()))) {
      stopped = true;
      if (!recording_) begin_window(now);
      if (options_.drain == 0) break;
    }
    if (stopped && (busy_ == 0 || now >= drain_until)) break;
    if (!stopped) start_jobs(now);
    source_.tick(now);
    uint64_t wake = stopped ? drain_until : std::min(stop_at, source_.next_due());
    if (!recording_) wake = std::min(wake, record_at);
    if (retry_at_ > now) wake = std::min(wake, retry_at_);
    turn(std::min(wake, now + 200'000'000));
  }
  end_window(now_ns());
  for (auto& c : connections_) {
    if (!c->busy) continue;
    if (options_.drain > 0) {
      finish(c.get(), Failure::unfinished);
    } else {
      ++report_.open_at_end;
    }
  }
}

void LoadClient::begin_window(uint64_t now) {
  recording_ = true;
  window_start_ = now;
  report_.in_flight_at_start = busy_;
  report_.before = sample_processes(options_.watch);
}

void LoadClient::end_window(uint64_t now) {
  report_.after = sample_processes(options_.watch);
  report_.window_s = static_cast<double>(now - window_start_) / 1e9;
}

void LoadClient::start_jobs(uint64_t now) {
  if (now < retry_at_) return;
  Job job;
  while (source_.next(now, job)) waiting_.push_back(std::move(job));
  while (!waiting_.empty()) {
    Connection* c = idle_connection();
    if (!c) return;
    assign(c, std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

LoadClient::Connection* LoadClient::idle_connection() {
  if (!idle_.empty()) {
    Connection* c = idle_.front();
    idle_.pop_front();
    return c;
  }
  return unopened_.empty() || connecting_ >= connecting_limit ? nullptr : open_connection();
}

LoadClient::Connection* LoadClient::open_connection() {
  Connection* c = unopened_.back();
  unopened_.pop_back();
  c->fd = start_connect(options_.targets[next_target_++ % options_.targets.size()]);
  if (c->fd < 0) {
    if (recording_) ++report_.failures[static_cast<size_t>(Failure::connect)];
    unopened_.push_back(c);
    return nullptr;
  }
  c->connecting = true;
  ++connecting_;
  c->writable = false;
  c->framer.reset();
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = c;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, c->fd, &event);
  return c;
}

void LoadClient::assign(Connection* c, Job job) {
  c->job = std::move(job);
  c->sent = 0;
  c->busy = true;
  c->sse = c->saw_done = false;
  c->last_event_at = 0;
  c->result = Result{};
  c->result.tag = c->job.tag;
  c->carry.clear();
  c->endpoint.clear();
  ++busy_;
  if (c->writable) send_more(c);
}

void LoadClient::hold(double seconds) {
  uint64_t until = now_ns() + static_cast<uint64_t>(seconds * 1e9);
  while (now_ns() < until) turn(until);
}

void LoadClient::turn(uint64_t wake_at) {
  epoll_event events[256];
  int n = wait_until(epoll_, events, 256, wake_at);
  for (int i = 0; i < n; ++i) handle(static_cast<Connection*>(events[i].data.ptr), events[i].events);
}

void LoadClient::handle(Connection* c, uint32_t events) {
  if (c->fd < 0) return;
  if (events & EPOLLOUT) {
    if (c->connecting && socket_error(c->fd) != 0) {
      finish(c, Failure::connect);
      return;
    }
    if (c->connecting) --connecting_;
    c->connecting = false;
    c->writable = true;
    if (c->busy) send_more(c);
  }
  if (c->fd >= 0 && (events & ~static_cast<uint32_t>(EPOLLOUT))) read_all(c);
}

void LoadClient::send_more(Connection* c) {
  size_t total = c->job.text.size() + c->job.shared.size();
  while (c->sent < total) {
    iovec parts[2];
    int count = 0;
    if (c->sent < c->job.text.size()) {
      parts[count++] = {c->job.text.data() + c->sent, c->job.text.size() - c->sent};
    }
    size_t shared_sent = c->sent > c->job.text.size() ? c->sent - c->job.text.size() : 0;
    if (shared_sent < c->job.shared.size()) {
      parts[count++] = {const_cast<char*>(c->job.shared.data()) + shared_sent, c->job.shared.size() - shared_sent};
    }
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = static_cast<size_t>(count);
    ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
    if (n < 0) {
      // A refused body may leave an answer behind (413): the read side tells.
      if (errno != EAGAIN) read_all(c);
      return;
    }
    c->sent += static_cast<size_t>(n);
  }
}

void LoadClient::read_all(Connection* c) {
  for (;;) {
    ssize_t n = recv(c->fd, buffer_.get(), receive_size, 0);
    if (n < 0 && errno == EAGAIN) return;
    read_at_ = now_ns();
    if (n <= 0) {
      if (!c->busy) {
        std::erase(idle_, c);
        drop(c);
      } else if (n == 0 && c->framer.until_close()) {
        finish(c, Failure::none);
      } else {
        finish(c, c->framer.started() ? Failure::truncated : c->connecting ? Failure::connect : Failure::reset);
      }
      return;
    }
    if (recording_) report_.bytes += static_cast<uint64_t>(n);
    if (!c->busy) {
      std::erase(idle_, c);
      drop(c);  // bytes that nobody asked for
      return;
    }
    c->framer.feed(std::string_view(buffer_.get(), static_cast<size_t>(n)), Reader{this, c});
    if (c->framer.done()) finish(c, Failure::none);
    if (c->fd < 0 || static_cast<size_t>(n) < receive_size) return;
  }
}

void LoadClient::take_body(Connection* c, std::string_view span) {
  if (!c->sse) {
    if (c->result.ttft_ns == 0) c->result.ttft_ns = read_at_ - c->job.due_ns;
    if (options_.read_usage && c->carry.size() < 64 * 1024) c->carry.append(span);
    return;
  }
  if (!c->carry.empty()) {
    c->carry.append(span);
    span = c->carry;
  }
  size_t at = 0;
  for (size_t end = span.find("\n\n"); end != std::string_view::npos; end = span.find("\n\n", at)) {
    take_event(c, span.substr(at, end - at));
    at = end + 2;
  }
  std::string rest(span.substr(at));
  c->carry = std::move(rest);
}

void LoadClient::take_event(Connection* c, std::string_view event) {
  if (!event.starts_with("data:")) return;
  if (event.substr(5).find("[DONE]") < 2) {
    c->saw_done = true;
    return;
  }
  ++c->result.events;
  if (c->last_event_at == 0) {
    c->result.ttft_ns = read_at_ - c->job.due_ns;
    if (recording_) report_.ttft.record(c->result.ttft_ns);
  } else if (recording_) {
    report_.gap.record(read_at_ - c->last_event_at);
  }
  c->last_event_at = read_at_;
  constexpr std::string_view key = "\"t_ns=";
  size_t at = event.find(key);
  if (at != std::string_view::npos && recording_) {
    uint64_t sent_at = 0;
    std::from_chars(event.data() + at + key.size(), event.data() + event.size(), sent_at);
    if (sent_at != 0 && sent_at <= read_at_) report_.added.record(read_at_ - sent_at);
  }
  if (recording_) ++report_.events;
  if (options_.read_usage) read_usage(c, event);
}

void LoadClient::read_usage(Connection* c, std::string_view text) {
  size_t usage = text.find("\"usage\":");
  if (usage == std::string_view::npos) return;
  text.remove_prefix(usage);
  auto number = [&](std::string_view key, uint32_t& out) {
    size_t at = text.find(key);
    if (at == std::string_view::npos) return;
    const char* digits = text.data() + at + key.size();
    const char* end = text.data() + text.size();
    while (digits < end && (*digits == ' ' || *digits == ':')) ++digits;
    std::from_chars(digits, end, out);
  };
  number("\"prompt_tokens\"", c->result.prompt_tokens);
  number("\"cached_tokens\"", c->result.cached_tokens);
  number("\"completion_tokens\"", c->result.completion_tokens);
}

void LoadClient::finish(Connection* c, Failure failure) {
  if (failure == Failure::connect) retry_at_ = now_ns() + connect_pause_ns;
  if (!c->busy) {
    std::erase(idle_, c);
  } else {
    Result& result = c->result;
    if (failure == Failure::none && result.status != 200) failure = Failure::status;
    if (failure == Failure::none && c->sse && !c->saw_done) failure = Failure::truncated;
    if (failure == Failure::none && !c->sse && options_.read_usage) read_usage(c, c->carry);
    result.failure = failure;
    result.streamed = c->sse;
    result.latency_ns = now_ns() - c->job.due_ns;
    result.endpoint = c->endpoint;
    if (recording_) {
      ++report_.requests;
      if (failure == Failure::none) {
        report_.latency.record(result.latency_ns);
      } else {
        ++report_.failures[static_cast<size_t>(failure)];
      }
    }
    source_.finished(result);
    c->busy = false;
    c->job = Job{};
    --busy_;
  }
  bool reusable = c->framer.done() && c->framer.keep_alive() && failure != Failure::unfinished;
  c->framer.reset();
  if (!reusable) {
    drop(c);
    return;
  }
  idle_.push_back(c);
}

void LoadClient::drop(Connection* c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
  if (c->connecting) --connecting_;
  c->connecting = c->writable = false;
  unopened_.push_back(c);
}

uint64_t LoadReport::errors() const {
  uint64_t sum = 0;
  for (uint64_t n : failures) sum += n;
  return sum;
}

namespace {

void add_number(std::string& out, const char* key, double value) {
  char text[96];
  std::snprintf(text, sizeof text, "%s\"%s\": %.12g", out.size() > 1 ? ", " : "", key, value);
  out += text;
}

void add_histogram(std::string& out, const char* key, const Histogram& h) {
  char text[320];
  auto us = [&](double q) { return static_cast<double>(h.quantile(q)) / 1e3; };
  std::snprintf(text, sizeof text,
                ", \"%s\": {\"count\": %llu, \"mean_us\": %.1f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, "
                "\"p999_us\": %.1f, \"max_us\": %.1f}",
                key, static_cast<unsigned long long>(h.count()), h.mean() / 1e3, us(0.5), us(0.9), us(0.99), us(0.999),
                static_cast<double>(h.max()) / 1e3);
  out += text;
}

void add_line(std::string& out, const char* key, const Histogram& h) {
  if (h.count() == 0) return;
  char text[200];
  auto ms = [&](double q) { return static_cast<double>(h.quantile(q)) / 1e6; };
  std::snprintf(text, sizeof text, "%-12s p50 %.3f ms  p90 %.3f  p99 %.3f  p99.9 %.3f  max %.3f  (%llu)\n", key,
                ms(0.5), ms(0.9), ms(0.99), ms(0.999), static_cast<double>(h.max()) / 1e6,
                static_cast<unsigned long long>(h.count()));
  out += text;
}

}  // namespace

std::string LoadReport::json(const std::string& extra) const {
  std::string out = "{";
  add_number(out, "window_s", window_s);
  add_number(out, "requests", static_cast<double>(requests));
  add_number(out, "events", static_cast<double>(events));
  add_number(out, "bytes", static_cast<double>(bytes));
  add_number(out, "requests_per_s", window_s > 0 ? static_cast<double>(requests) / window_s : 0);
  add_number(out, "events_per_s", window_s > 0 ? static_cast<double>(events) / window_s : 0);
  add_number(out, "errors", static_cast<double>(errors()));
  for (size_t i = 1; i < failure_count; ++i) {
    add_number(out, (std::string("errors_") + failure_names[i]).c_str(), static_cast<double>(failures[i]));
  }
  add_number(out, "in_flight_at_start", static_cast<double>(in_flight_at_start));
  add_number(out, "open_at_end", static_cast<double>(open_at_end));
  add_histogram(out, "latency", latency);
  add_histogram(out, "ttft", ttft);
  add_histogram(out, "gap", gap);
  add_histogram(out, "added", added);
  add_number(out, "cpu_us", static_cast<double>(after.cpu_ns - before.cpu_ns) / 1e3);
  add_number(out, "rss_kib_before", static_cast<double>(before.rss_kib));
  add_number(out, "rss_kib_after", static_cast<double>(after.rss_kib));
  add_number(out, "pss_kib_before", static_cast<double>(before.pss_kib));
  add_number(out, "pss_kib_after", static_cast<double>(after.pss_kib));
  return out + extra + "}\n";
}

std::string LoadReport::text() const {
  char line[256];
  std::snprintf(line, sizeof line, "%.2f s: %llu requests (%.0f/s), %llu events (%.0f/s), %.1f MB, %llu errors\n",
                window_s, static_cast<unsigned long long>(requests), static_cast<double>(requests) / window_s,
                static_cast<unsigned long long>(events), static_cast<double>(events) / window_s,
                static_cast<double>(bytes) / 1e6, static_cast<unsigned long long>(errors()));
  std::string out = line;
  for (size_t i = 1; i < failure_count; ++i) {
    if (failures[i] == 0) continue;
    out += std::string("  errors: ") + failure_names[i] + " " + std::to_string(failures[i]) + "\n";
  }
  add_line(out, "latency", latency);
  add_line(out, "first token", ttft);
  add_line(out, "inter-event", gap);
  add_line(out, "added", added);
  if (after.cpu_ns > before.cpu_ns) {
    double cpu = static_cast<double>(after.cpu_ns - before.cpu_ns) / 1e3;
    std::snprintf(line, sizeof line, "watched CPU  %.0f us: %.2f us a request, %.2f us an event\n", cpu,
                  requests ? cpu / static_cast<double>(requests) : 0, events ? cpu / static_cast<double>(events) : 0);
    out += line;
  }
  return out;
}

}  // namespace penstock::perf
