#include "penstock/kvevents/zmtp.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace penstock;
using namespace penstock::kvevents;

namespace {

struct Heard final : ZmtpSink {
  bool on_greeting() override {
    log.push_back("greeting");
    return true;
  }
  bool on_command(std::string_view name, std::string_view data) override {
    log.push_back("command " + std::string(name) + ' ' + std::string(ready_property(data, "socket-type")));
    return true;
  }
  bool on_message(std::span<const std::string_view> frames) override {
    std::string line = "message";
    for (const std::string_view frame : frames) {
      line += ' ' + (frame.size() > 20 ? std::to_string(frame.size()) : std::string(frame)) + '|';
    }
    log.push_back(line);
    return go_on;
  }
  std::vector<std::string> log;
  bool go_on = true;
};

struct Reading {
  MemoryBudget budget{size_t{64} << 20};
  Heard heard;
  ZmtpReader reader{budget, heard};
};

std::string greeting() {
  std::string out;
  append_greeting(out);
  return out;
}

}  // namespace

// As libzmq 4.3 sends it (it says 3.1): greeting, READY with socket type and identity, one message of two frames.
const std::string recorded = std::string("\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32) +
                             std::string(32, '\0') + std::string("\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB", 27) +
                             std::string("\x01\x02kv\x00\x05hello", 11);

TEST_CASE("what libzmq sends is understood, however it is cut") {
  for (size_t step = 1; step <= recorded.size(); ++step) {
    Reading in;
    for (size_t at = 0; at < recorded.size(); at += step) {
      REQUIRE(in.reader.feed(std::string_view(recorded).substr(at, step)) == ZmtpError::none);
    }
    CHECK(in.heard.log == std::vector<std::string>{"greeting", "command READY PUB", "message kv| hello|"});
    CHECK(in.budget.used() == 0);
  }
}

TEST_CASE("what we send is what the protocol says") {
  CHECK(greeting().size() == 64);
  CHECK(greeting().substr(0, 16) == std::string("\xff\0\0\0\0\0\0\0\0\x7f\x03\0NULL", 16));
  std::string out;
  append_ready(out, "SUB");
  CHECK(out == std::string("\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB", 27));
  out.clear();
  append_message(out, {"", "12345678"});
  CHECK(out == std::string("\x01\0\0\x08"
                           "12345678",
                           12));
  out.clear();
  append_message(out, {std::string(256, 'x')});
  CHECK(out.substr(0, 9) == std::string("\x02\0\0\0\0\0\0\x01\0", 9));
  Reading in;
  REQUIRE(in.reader.feed(greeting() + out) == ZmtpError::none);
  CHECK(in.heard.log.back() == "message 256|");
}

TEST_CASE("who does not speak ZMTP 3 with NULL is known at once") {
  CHECK(Reading().reader.feed("HTTP/1.1 400 Bad Request\r\n") == ZmtpError::not_zmtp);
  CHECK(Reading().reader.feed(std::string("\xff\0\0\0\0\0\0\0\x01\x7f\x01", 11)) == ZmtpError::not_zmtp);  // 2.x
  std::string curve = greeting();
  curve.replace(12, 5, "CURVE");
  CHECK(Reading().reader.feed(curve) == ZmtpError::mechanism);
}

TEST_CASE("limits and broken frames end a connection, and nothing that is only announced is held") {
  const auto after_greeting = [](std::string_view bytes) {
    return Reading().reader.feed(greeting() + std::string(bytes));
  };
  CHECK(after_greeting("\x02\x7f\xff\xff\xff\xff\xff\xff\xff") == ZmtpError::too_large);
  CHECK(after_greeting(std::string_view("\x06\0\0\0\0\0\x01\0\0", 9)) == ZmtpError::too_large);  // a command
  CHECK(after_greeting("\x08") == ZmtpError::bad_frame);                         // a flag that there is not
  CHECK(after_greeting(std::string_view("\x05\0", 2)) == ZmtpError::bad_frame);  // half a command
  CHECK(after_greeting(std::string_view("\x01\0\x04\x02\x01x", 6)) == ZmtpError::bad_frame);  // within a message
  CHECK(after_greeting(std::string_view("\x04\x02\x05x", 4)) == ZmtpError::bad_frame);  // its name is not all there
  std::string many;
  for (size_t i = 0; i <= ZmtpReader::frames_max; ++i) many += std::string("\x01\0", 2);
  CHECK(after_greeting(many) == ZmtpError::too_many_frames);
  Reading in;
  in.reader.feed(greeting() + std::string("\x02\0\0\0\0\0\x7f\0\0", 9) + "begin");
  CHECK(in.budget.used() < 1024 * 1024);
  MemoryBudget none(16);
  Heard heard;
  ZmtpReader poor(none, heard);
  CHECK(poor.feed(greeting() + std::string("\x00\x05hello", 7)) == ZmtpError::memory);
}

TEST_CASE("a sink can stop it") {
  Reading in;
  in.heard.go_on = false;
  CHECK(in.reader.feed(greeting() + std::string("\x00\x01x\x00\x01y", 6)) == ZmtpError::stopped);
  CHECK(in.heard.log.size() == 2);
  in.reader.reset();
  in.heard.go_on = true;
  CHECK(in.reader.feed(greeting() + std::string("\x00\x01z", 3)) == ZmtpError::none);
  CHECK(in.heard.log.back() == "message z|");
}

TEST_CASE("properties are found by name, in any case, and not in broken data") {
  const std::string data("\x08Identity\0\0\0\0\x0bSOCKET-TYPE\0\0\0\x06ROUTER", 35);
  CHECK(ready_property(data, "Socket-Type") == "ROUTER");
  CHECK(ready_property(data, "Resource") == "");
  CHECK(ready_property(data, "Socket\rType") == "");
  for (size_t cut = 0; cut < data.size(); ++cut) CHECK(ready_property(data.substr(0, cut), "Socket-Type") == "");
}
