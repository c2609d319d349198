#include <csignal>
#include <cstdio>

#include "penstock/base/log.h"
#include "sim/server.h"

using namespace penstock;

namespace {

volatile std::sig_atomic_t signals_seen = 0;
net::Ring* ring_to_wake = nullptr;  // set before the handler is

void on_signal(int) {
  signals_seen = signals_seen + 1;
  ring_to_wake->wake();
}

int fail(const std::string& what) {
  log::error(what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  sim::Options options;
  if (const auto code = sim::parse_command_line(argc, argv, options)) return *code;
  std::signal(SIGPIPE, SIG_IGN);

  auto ring = net::make_ring({.kind = options.ring}, net::probe_rings());
  if (!ring.ok()) return fail(ring.error().text);
  MemoryBudget budget(size_t{1} << 30);
  net::BlockPool pool(budget);
  net::EventLoop loop(**ring, net::system_clock());
  sim::SimServer server(loop, pool, options);

  int handled = 0;
  loop.set_turn_hook([&] {
    for (; handled < signals_seen; ++handled) server.shut_down();
  });
  ring_to_wake = ring->get();
  std::signal(SIGTERM, on_signal);
  std::signal(SIGINT, on_signal);

  const auto bound = server.listen();
  if (!bound.ok()) return fail(bound.error().text);
  std::string where = bound->to_string();
  if (const sim::KvPublisher* const publisher = server.kv_publisher()) {
    where += ", KV events on " + publisher->address().to_string();
    if (!publisher->replay_address().empty()) where += ", replays on " + publisher->replay_address().to_string();
  }
  std::printf("listening on %s\n", where.c_str());
  std::fflush(stdout);
  log::info("penstock-sim is serving",
            {{"address", bound->to_string()}, {"model", options.models.front()}, {"ring", (*ring)->name()}});
  loop.run();
  // Only now: a ring that is gone must not be woken.
  std::signal(SIGTERM, SIG_IGN);
  std::signal(SIGINT, SIG_IGN);
  return 0;
}
