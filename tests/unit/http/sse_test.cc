#include "penstock/http/sse.h"

#include <doctest/doctest.h>

#include <string>

#include "sse_log.h"

using namespace penstock::http;

namespace {

std::string whole(std::string_view bytes) {
  return SseLog().run(bytes, [](size_t left) { return left; });
}

struct Collector final : SseEvents {
  void on_sse_event(std::string_view name, std::string_view data) override {
    last_name = name;
    last_data = data;
    begin = data.data();
  }
  std::string last_name, last_data;
  const char* begin = nullptr;
};

// Every way that lines can end, fields can look and events can be cut.
const std::string kTricky =
    "\xef\xbb\xbf"
    "data: first\n\n"
    ": keep-alive\r\n\r\n"
    "event: named\r\ndata: one\r\ndata:two\r\n\r\n"
    "data: cr only\r\r"
    "id: 7\nretry: 100\ndata\n\n"
    "event: no data\n\n"
    "data:\ndata:\n\n"
    "data:  two spaces\r\n\n"
    "DATA: other field\nunknown: x\n\n"
    "data: \xef\xbb\xbfnot a mark\n\n"
    "data: {\"choices\":[]}\n\ndata: [DONE]\n\n"
    "data: never finished";

}  // namespace

TEST_CASE("a tricky stream is read as the specification says") {
  CHECK(whole(kTricky) == sse_events_by_the_book(kTricky) + "comments 1 cut 0 inside\n");
  CHECK(sse_events_by_the_book(kTricky).substr(0, 29) == "[] 5 first\n[named] 7 one\ntwo\n");
}

TEST_CASE("every cut of a stream in two and in three gives the same events") {
  const std::string expected = whole(kTricky);
  for (size_t first = 1; first < kTricky.size(); ++first) {
    for (size_t second = 1; second <= 4; ++second) {
      CAPTURE(first);
      CAPTURE(second);
      int piece = 0;
      const std::string cut = SseLog().run(kTricky, [&](size_t left) {
        const size_t size = piece == 0 ? first : piece == 1 ? second : left;
        ++piece;
        return std::min(size, left);
      });
      CHECK(cut == expected);
    }
  }
}

TEST_CASE("pieces of every size give the same events") {
  const std::string expected = whole(kTricky);
  for (size_t size = 1; size <= kTricky.size(); ++size) {
    CAPTURE(size);
    CHECK(SseLog().run(kTricky, [&](size_t left) { return std::min(size, left); }) == expected);
  }
}

TEST_CASE("an event that is whole in one read is not copied") {
  Collector events;
  SseScanner scanner(events);
  const std::string bytes = "event: x\ndata: abc\n\n";
  scanner.feed(bytes);
  CHECK(events.last_data == "abc");
  CHECK(events.begin == bytes.data() + bytes.find("abc"));
}

TEST_CASE("data of a read that is gone is not looked at any more") {
  Collector events;
  SseScanner scanner(events);
  std::string bytes = "data: abc\n";
  scanner.feed(bytes);
  bytes.assign(bytes.size(), '#');
  scanner.feed("\n");
  CHECK(events.last_data == "abc");
}

TEST_CASE("at_boundary is true only behind whole events") {
  Collector events;
  SseScanner scanner(events);
  const auto after = [&](std::string_view bytes) {
    scanner.feed(bytes);
    return scanner.at_boundary();
  };
  CHECK(scanner.at_boundary());
  CHECK_FALSE(after("da"));
  CHECK_FALSE(after("ta: x\n"));
  CHECK(after("\n"));
  CHECK(after(": comment\n"));
  CHECK_FALSE(after("event: e\n"));
  CHECK(after("\n"));
  CHECK(after("data: cr\r\r"));
  CHECK(after("\n"));  // belonged to the CR: from now on a CR may be half of a line end
  CHECK_FALSE(after("data: crlf\r\n\r"));
  CHECK(after("\n"));
}

TEST_CASE("a line beyond the limit is cut, counted and does not disturb the next") {
  const size_t limit = SseScanner::carry_bytes_max;
  const std::string bytes = "data: " + std::string(limit, 'x') + "y\n\ndata: next\n\n";
  const std::string expected =
      SseLog::entry("", std::string(limit - 6, 'x')) + SseLog::entry("", "next") + "comments 0 cut 1 at a boundary\n";
  CHECK(whole(bytes) == expected);
  for (const size_t size : {1000, 4096, 65535, 65536, 65537}) {
    CAPTURE(size);
    CHECK(SseLog().run(bytes, [&](size_t left) { return std::min(size, left); }) == expected);
  }
  const std::string fits = "data: " + std::string(limit - 6, 'x') + "\n\n";
  CHECK(whole(fits).find("cut 0 at") != std::string::npos);
}

TEST_CASE("data of many lines is bounded as a whole") {
  const size_t limit = SseScanner::carry_bytes_max;
  std::string bytes;
  for (int i = 0; i < 100; ++i) bytes += "data: " + std::string(1023, 'x') + "\n";
  bytes += "\ndata: next\n\n";
  const std::string log = whole(bytes);
  CHECK(log.substr(0, 9) == "[] " + std::to_string(limit) + " ");
  CHECK(log.find(SseLog::entry("", "next")) != std::string::npos);
  CHECK(log.find("cut 36 ") != std::string::npos);
  CHECK(SseLog().run(bytes, [](size_t left) { return std::min<size_t>(left, 777); }) == log);
}

TEST_CASE("reset forgets everything") {
  Collector events;
  SseScanner scanner(events);
  scanner.feed("event: e\ndata: x\ndat");
  scanner.reset();
  CHECK(scanner.at_boundary());
  scanner.feed(
      "\xef\xbb\xbf"
      "data: y\n\n");
  CHECK(events.last_name.empty());
  CHECK(events.last_data == "y");
  CHECK(scanner.events() == 1);
}

// Stops at the first event whose data is "stop".
class Stopper final : public SseEvents {
 public:
  SseScanner scanner{*this};
  int events = 0;
  bool stopped = false;

 private:
  void on_sse_event(std::string_view, std::string_view data) override {
    ++events;
    if (data != "stop") return;
    stopped = true;
    scanner.stop();
  }
};

TEST_CASE("a scanner that is stopped says where the event lies, wherever the bytes are cut") {
  for (const std::string& nl : {std::string("\n"), std::string("\r\n"), std::string("\r")}) {
    const std::string before = "data: a" + nl + nl + ": ping" + nl + nl,
                      event = "event: e" + nl + "data: stop" + nl + nl;
    const std::string bytes = before + event + "data: [DONE]" + nl + nl;
    for (size_t cut = 0; cut <= bytes.size(); ++cut) {
      CAPTURE(nl.size());
      CAPTURE(cut);
      Stopper stopper;
      size_t offset = 0;
      for (const std::string& piece : {bytes.substr(0, cut), bytes.substr(cut)}) {
        stopper.scanner.feed(piece);
        if (stopper.stopped) break;
        offset += piece.size();
      }
      REQUIRE(stopper.stopped);
      CHECK(stopper.events == 2);
      const SseScanner::Place place = stopper.scanner.stopped_at();
      CHECK(place.whole == (offset <= before.size()));
      if (place.whole) CHECK(offset + place.begin == before.size());
      else CHECK(place.begin == 0);
      // A line feed that belongs to the last line end may still be to come.
      const size_t end = offset + place.end, expected = before.size() + event.size();
      CHECK((end == expected || (nl == "\r\n" && cut == expected - 1 && end == cut)));
    }
  }
  Stopper plain;
  plain.scanner.feed("data: stop\n\n");
  CHECK((plain.scanner.stopped_at().whole && plain.scanner.stopped_at().end == 12));
}
