#include "src/proxy/resume_queue.h"

#include <string>

#include "fixture.h"

namespace penstock::proxy {
namespace {

struct Turn final : ResumeTurn {
  Turn(ResumeQueue& queue, std::string& to, char of) : ResumeTurn(queue), happened(to), name(of) {}
  void on_turn() override { happened += name; }
  std::string& happened;
  const char name;
};

TEST_CASE("turns come in order, only so many at once, and never from inside a call") {
  test::SimNetwork network{1};
  test::SimLoop sim{network};
  uint32_t at_once = 2;
  ResumeQueue queue(sim.loop(), at_once);
  std::string happened;
  Turn a(queue, happened, 'a'), b(queue, happened, 'b'), c(queue, happened, 'c'), d(queue, happened, 'd');
  for (Turn* const turn : {&a, &b, &c, &d}) queue.wait(*turn);
  CHECK(happened.empty());
  network.run_for(milliseconds(5));
  CHECK(happened == "ab");
  queue.leave(b);
  CHECK(happened == "ab");
  network.run_for(milliseconds(5));
  CHECK(happened == "abc");
  queue.leave(b);  // it has none
  queue.leave(d);  // it waits no more
  queue.leave(a);
  queue.wait(a);  // behind all others
  network.run_for(milliseconds(5));
  CHECK(happened == "abca");
  at_once = 1;
  queue.leave(a);
  queue.wait(d);
  network.run_for(milliseconds(5));
  CHECK(happened == "abca");
  queue.leave(c);
  network.run_for(milliseconds(5));
  CHECK(happened == "abcad");
}

TEST_CASE("a turn that is destroyed leaves its place to the next one") {
  test::SimNetwork network{1};
  test::SimLoop sim{network};
  const uint32_t at_once = 1;
  ResumeQueue queue(sim.loop(), at_once);
  std::string happened;
  auto first = std::make_unique<Turn>(queue, happened, '1'), gone = std::make_unique<Turn>(queue, happened, '2');
  Turn last(queue, happened, '3');
  for (Turn* const turn : {first.get(), gone.get(), &last}) queue.wait(*turn);
  network.run_for(milliseconds(5));
  CHECK(happened == "1");
  gone.reset();
  first.reset();
  network.run_for(milliseconds(5));
  CHECK(happened == "13");
}

}  // namespace
}  // namespace penstock::proxy
