#pragma once
// Where an HTTP/1.1 message ends, with the least work: the head up to its empty line, then Content-Length,
// chunks, or the end of the connection. No validation: both sides of a benchmark are ours.

#include <strings.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace penstock::perf {

struct IgnoreMessage {
  void head(std::string_view) {}
  void body(std::string_view) {}
};

// Value of a header in a head (case-insensitive name), or an empty view.
inline std::string_view header_value(std::string_view head, std::string_view name) {
  size_t at = head.find("\r\n");
  while (at != std::string_view::npos && at + 2 < head.size()) {
    size_t start = at + 2;
    size_t end = head.find("\r\n", start);
    if (end == std::string_view::npos) end = head.size();
    std::string_view line = head.substr(start, end - start);
    if (line.size() > name.size() && line[name.size()] == ':' &&
        strncasecmp(line.data(), name.data(), name.size()) == 0) {
      line.remove_prefix(name.size() + 1);
      while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
      return line;
    }
    at = end;
  }
  return {};
}

class Framer {
 public:
  enum class Kind : uint8_t { request, response };
  explicit Framer(Kind kind) : kind_(kind) {}

  // Takes bytes up to the end of the message and returns how many; what is left belongs to the next one.
  template <typename Sink>
  size_t feed(std::string_view data, Sink&& sink) {
    size_t used = 0;
    while (used < data.size() && state_ != State::done) {
      std::string_view rest = data.substr(used);
      switch (state_) {
        case State::head:
          used += take_head(rest, sink);
          break;
        case State::length:
        case State::chunk_data: {
          size_t n = rest.size() < remaining_ ? rest.size() : static_cast<size_t>(remaining_);
          sink.body(rest.substr(0, n));
          remaining_ -= n;
          used += n;
          if (remaining_ == 0) state_ = state_ == State::length ? State::done : State::chunk_end;
          break;
        }
        case State::until_close:
          sink.body(rest);
          used += rest.size();
          break;
        default:
          used += take_chunk_line(rest);
          break;
      }
    }
    return used;
  }

  bool done() const { return state_ == State::done; }
  bool started() const { return state_ != State::head || !partial_.empty(); }
  bool until_close() const { return state_ == State::until_close; }
  bool keep_alive() const { return keep_alive_; }
  int status() const { return status_; }

  void reset() {
    state_ = State::head;
    partial_.clear();
    remaining_ = 0;
    keep_alive_ = true;
    status_ = 0;
  }

 private:
  enum class State : uint8_t { head, length, until_close, chunk_size, chunk_data, chunk_end, trailer, done };

  template <typename Sink>
  size_t take_head(std::string_view rest, Sink& sink) {
    if (partial_.empty()) {
      size_t end = rest.find("\r\n\r\n");
      if (end == std::string_view::npos) {
        partial_ = rest;
        return rest.size();
      }
      finish_head(rest.substr(0, end + 4), sink);
      return end + 4;
    }
    size_t before = partial_.size();
    partial_.append(rest);
    size_t end = partial_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
    if (end == std::string::npos) return rest.size();
    std::string head = partial_.substr(0, end + 4);
    partial_.clear();
    finish_head(head, sink);
    return end + 4 - before;
  }

  template <typename Sink>
  void finish_head(std::string_view head, Sink& sink) {
    read_head(head);
    if (kind_ == Kind::response && status_ >= 100 && status_ < 200) {
      state_ = State::head;  // an interim answer; the real one follows
      return;
    }
    sink.head(head);
  }

  void read_head(std::string_view head) {
    bool has_length = false;
    bool chunked = false;
    keep_alive_ = true;
    remaining_ = 0;
    if (kind_ == Kind::response) status_ = (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
    size_t at = head.find('\n') + 1;
    while (at < head.size()) {
      const char* line = head.data() + at;
      size_t left = head.size() - at;
      if ((line[0] | 32) == 'c' && left > 16 && strncasecmp(line, "content-length:", 15) == 0) {
        has_length = true;
        for (const char* p = line + 15; *p != '\r'; ++p) {
          if (*p != ' ') remaining_ = remaining_ * 10 + static_cast<uint64_t>(*p - '0');
        }
      } else if ((line[0] | 32) == 't' && left > 26 && strncasecmp(line, "transfer-encoding: chunked", 26) == 0) {
        chunked = true;
      } else if ((line[0] | 32) == 'c' && left > 17 && strncasecmp(line, "connection: close", 17) == 0) {
        keep_alive_ = false;
      }
      at = head.find('\n', at) + 1;
    }
    bool empty = kind_ == Kind::response && (status_ == 204 || status_ == 304);
    if (chunked) {
      state_ = State::chunk_size;
    } else if (has_length || kind_ == Kind::request || empty) {
      state_ = remaining_ == 0 ? State::done : State::length;
    } else {
      state_ = State::until_close;
    }
  }

  size_t take_chunk_line(std::string_view rest) {
    size_t used = 0;
    while (used < rest.size()) {
      char c = rest[used++];
      if (state_ == State::chunk_size) {
        if (c == '\n') {
          state_ = remaining_ == 0 ? State::trailer : State::chunk_data;
          line_length_ = 0;
          extension_ = false;
          return used;
        }
        take_size_digit(c);
      } else if (state_ == State::chunk_end) {
        if (c == '\n') {
          state_ = State::chunk_size;
          remaining_ = 0;
        }
      } else if (c == '\n') {
        if (line_length_ == 0) {
          state_ = State::done;
          return used;
        }
        line_length_ = 0;
      } else if (c != '\r') {
        ++line_length_;
      }
    }
    return used;
  }

  void take_size_digit(char c) {
    if (c == ';') extension_ = true;
    if (extension_ || c == '\r' || c == ' ') return;
    uint64_t digit = c <= '9' ? static_cast<uint64_t>(c - '0') : static_cast<uint64_t>((c | 32) - 'a') + 10;
    remaining_ = remaining_ * 16 + digit;
  }

  std::string partial_;
  uint64_t remaining_ = 0;
  uint32_t line_length_ = 0;
  int status_ = 0;
  State state_ = State::head;
  Kind kind_;
  bool keep_alive_ = true;
  bool extension_ = false;
};

}  // namespace penstock::perf
