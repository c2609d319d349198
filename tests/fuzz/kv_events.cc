// What a publisher of KV events sends, as anything: the ZMTP reader says the same however the bytes are cut, and holds
// nothing in the end; batches are read without fault, into a map that never holds more than it was told.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "penstock/kvevents/event_stream.h"
#include "penstock/kvevents/zmtp.h"

namespace {

using namespace penstock;
using namespace penstock::kvevents;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

struct Nobody final : StreamEvents {
  void on_cache_emptied() override {}
};

struct Heard final : ZmtpSink {
  bool on_greeting() override { return true; }
  bool on_command(std::string_view name, std::string_view data) override {
    log.append(name).append(ready_property(data, "Socket-Type")) += '\n';
    return true;
  }
  bool on_message(std::span<const std::string_view> frames) override {
    for (const std::string_view frame : frames) log.append(frame) += '|';
    log += '\n';
    return true;
  }
  std::string log;
};

std::string heard(std::string_view bytes, size_t step) {
  MemoryBudget budget(size_t{64} << 20);
  Heard sink;
  std::string log;
  {
    ZmtpReader reader(budget, sink);
    ZmtpError error = ZmtpError::none;
    for (size_t at = 0; at < bytes.size() && error == ZmtpError::none; at += step) {
      error = reader.feed(bytes.substr(at, step));
    }
    log = sink.log + to_string(error);
  }
  require(budget.used() == 0, "all memory is given back");
  return log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = heard(bytes, size + 1);
  require(heard(bytes, 1) == whole && heard(bytes, 7) == whole, "what is heard does not depend on the cuts");

  static routing::ToldIndex index(1 << 12, 1);
  Nobody nobody;
  StoredBlocks scratch;
  EventStream stream(index, 0, 0, /*can_replay=*/false, scratch, nobody);
  stream.connected();
  // Twice: the second time everything is known already.
  for (uint64_t number = 0; number < 2; ++number) stream.on_batch(number, bytes);
  require(stream.counts().batches == 2, "every batch counts");
  require(stream.blocks().blocks() <= size, "no more blocks than bytes");
  return 0;
}
