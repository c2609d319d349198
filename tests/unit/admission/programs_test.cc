#include "penstock/admission/programs.h"

#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/unit/routing/pool_builder.h"

using namespace penstock;
using namespace penstock::admission;
using routing::test::at_ms;

namespace {

Instant at_s(int64_t seconds) {
  return at_ms(seconds * 1000);
}
const Programs::Key a = Programs::key_of("a"), b = Programs::key_of("b");

}  // namespace

TEST_CASE("what a program has had halves with its half-life, also while nobody looks") {
  Programs programs(ProgramOptions{.half_life = 60});
  CHECK(programs.service(a, at_s(1)) == 0);
  const Programs::Ticket one = programs.started(a, at_s(1)), two = programs.started(a, at_s(1));
  CHECK(programs.service(a, at_s(1)) == 0);  // nothing before it ends
  programs.finished(one, 1000, at_s(10));
  CHECK(programs.service(a, at_s(10)) == doctest::Approx(1000));
  CHECK(programs.service(a, at_s(70)) == doctest::Approx(500));
  programs.finished(two, 100, at_s(70));
  CHECK(programs.service(a, at_s(70)) == doctest::Approx(600));
  CHECK(programs.service(a, at_s(190)) == doctest::Approx(150));
  CHECK(programs.service(a, at_s(5)) == doctest::Approx(600));  // a clock read earlier makes nothing of it
  CHECK(programs.service(b, at_s(70)) == 0);
}

TEST_CASE("without a half-life nothing fades") {
  Programs programs(ProgramOptions{.half_life = 0, .forget_after = Duration{0}});
  programs.finished(programs.started(a, at_s(1)), 1000, at_s(2));
  CHECK(programs.service(a, at_s(1'000'000)) == doctest::Approx(1000));
}

TEST_CASE("turns are counted; a long pause begins at the first, but not while a request is in flight") {
  Programs programs(ProgramOptions{.inactivity = seconds(120)});
  CHECK(programs.turn(a, at_s(1), at_s(1)) == 1);
  Programs::Ticket ticket = programs.started(a, at_s(1));
  CHECK(programs.turn(a, at_s(2), at_s(2)) == 2);
  CHECK(programs.turn(a, at_s(500), at_s(500)) == 2);
  programs.finished(ticket, 10, at_s(500));
  CHECK(programs.turn(a, at_s(620), at_s(900)) == 2);  // it came in time, and waited
  CHECK(programs.turn(a, at_s(621), at_s(621)) == 1);
  ticket = programs.started(a, at_s(621));
  CHECK(programs.turn(a, at_s(622), at_s(622)) == 3);
  programs.finished(ticket, 10, at_s(622));
}

TEST_CASE("who was quiet for long is forgotten, and begins anew") {
  Programs programs(ProgramOptions{.half_life = 0, .inactivity = Duration{0}, .forget_after = seconds(3600)});
  programs.finished(programs.started(a, at_s(1)), 1000, at_s(2));
  CHECK(programs.turn(a, at_s(3602), at_s(3602)) == 2);
  CHECK(programs.turn(a, at_s(3603), at_s(3603)) == 1);
  CHECK(programs.service(a, at_s(3603)) == 0);
  programs.finished(programs.started(a, at_s(3603)), 1, at_s(3603));
  CHECK(programs.service(a, at_s(3603)) == doctest::Approx(1));
  CHECK(programs.turn(a, at_s(3603), at_s(3603)) == 2);
}

TEST_CASE("any number of programs is bounded: the quietest gives way, one in flight never does") {
  Programs programs(ProgramOptions{.half_life = 0});
  const Programs::Ticket busy = programs.started(a, at_s(1));
  programs.finished(programs.started(a, at_s(1)), 1000, at_s(1));
  for (int i = 0; i < 300'000; ++i) {
    programs.finished(programs.started(Programs::key_of("other " + std::to_string(i)), at_s(2)), 1, at_s(2));
  }
  CHECK(programs.service(a, at_s(2)) == doctest::Approx(1000));
  programs.finished(busy, 1, at_s(2));
  CHECK(programs.service(a, at_s(2)) == doctest::Approx(1001));
  CHECK(programs.service(Programs::key_of("other 299999"), at_s(2)) == doctest::Approx(1));
  int known = 0;
  for (int i = 0; i < 300'000; ++i)
    known += programs.turn(Programs::key_of("other " + std::to_string(i)), at_s(2), at_s(2)) > 1;
  CHECK(known > 60'000);
  CHECK(known <= 65'536);
}

TEST_CASE("threads lose nothing of what a program that is known has had") {
  Programs programs(ProgramOptions{.half_life = 0});
  const Programs::Ticket first = programs.started(a, at_s(1));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5'000; ++i) programs.finished(programs.started(a, at_s(1)), 2, at_s(1));
    });
  }
  for (std::thread& thread : threads) thread.join();
  programs.finished(first, 0, at_s(1));
  CHECK(programs.service(a, at_s(1)) == doctest::Approx(40'000));
  CHECK(programs.turn(a, at_s(1), at_s(1)) == 20'002);
}
