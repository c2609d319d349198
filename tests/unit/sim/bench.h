// A simulated server over real sockets, driven turn by turn from the test's own thread, and the clients that ask it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/server.h"

namespace penstock::sim {

// A client that writes bytes and keeps what comes back.
struct Client {
  explicit Client(const net::Address& to);
  ~Client() { hang_up(); }
  void hang_up();
  void send(std::string_view bytes);
  void post(std::string_view path, std::string_view body, std::string_view headers = "");
  void poll();
  bool ended() const { return eof || reset; }
  size_t body_at() const { return received.find("\r\n\r\n") + 4; }
  std::string status() const { return received.substr(0, received.find("\r\n")); }
  // The answer of known length is complete.
  bool whole() const;
  bool stream_ended() const { return received.ends_with("\r\n0\r\n\r\n"); }

  int fd = -1;
  std::string received;
  bool eof = false, reset = false;
};

// What an answer says, read by another reader of JSON than the one that wrote it.
struct Said {
  int status = 0;
  bool done = false;               // [DONE]
  bool error = false;              // an event, or a body, with an error
  std::string role, text, finish;  // of choice 0
  std::string stop_reason;
  std::string other_text;           // of choice 1
  std::vector<std::string> pieces;  // of a stream, where they have text
  uint64_t prompt_tokens = 0, completion_tokens = 0;
  std::vector<uint32_t> tokens;  // of /tokenize
  std::string prompt;            // of /detokenize
};

struct Bench {
  explicit Bench(net::RingKind kind, const Options& options = instant());
  static Options instant();
  // Turns until `done` or, after ten seconds, failure.
  void until(Client& client, const std::function<bool()>& done);
  bool engine_empty();
  void until_empty();
  // Posts and reads the answer to its end, whatever that is.
  Said ask(std::string_view path, std::string_view body, std::string_view headers = "");
  // The ids that /tokenize gives for a body of its fields.
  std::vector<uint32_t> ids_of(std::string_view fields);

  std::unique_ptr<net::Ring> ring;
  MemoryBudget budget{size_t{1} << 28};
  net::BlockPool pool{budget};
  net::EventLoop loop;
  SimServer server;
  net::Address address;
};

Said read_answer(const std::string& received);
// "[1,2,3]"
std::string json_of(const std::vector<uint32_t>& ids);

}  // namespace penstock::sim
