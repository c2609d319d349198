#include "penstock/discovery/names.h"

#include <doctest/doctest.h>

#include <map>

#include "tests/support/sim_peer.h"

namespace penstock::discovery::test {
namespace {

using penstock::test::SimLoop;
using penstock::test::SimNetwork;

net::HostAddresses found(const std::vector<std::string>& ips, Duration ttl) {
  net::HostAddresses out{.addresses = {}, .ttl = ttl};
  for (const std::string& ip : ips) {
    out.addresses.push_back(*net::Address::parse((ip.find(':') != std::string::npos ? '[' + ip + ']' : ip) + ":0"));
  }
  return out;
}

// Answers after 10 ms what `says` has for a name; nothing at all where that is null.
struct FakeResolver final : net::Resolver {
  struct Pending final : net::Lookup {
    Pending(net::EventLoop& loop, std::function<void()> run)
        : work(std::move(run)), timer(net::Timer::of<&Pending::fire>(this)) {
      loop.arm(timer, milliseconds(10));
    }
    void fire() { work(); }
    std::function<void()> work;
    net::Timer timer;
  };
  explicit FakeResolver(net::EventLoop& on) : loop(on) {}
  std::unique_ptr<net::Lookup> look_up(const std::string& host, Answer answer) override {
    ++asked[host];
    under_way_most = std::max(under_way_most, ++under_way);
    return std::make_unique<Pending>(loop, [this, host, answer = std::move(answer)] {
      if (silent) return;
      --under_way;
      const auto known = says.find(host);
      answer(known == says.end() ? Result<net::HostAddresses>(Message{"no such name"}) : known->second);
    });
  }
  net::EventLoop& loop;
  std::map<std::string, net::HostAddresses> says;
  std::map<std::string, size_t> asked;
  size_t under_way = 0, under_way_most = 0;
  bool silent = false;
};

struct Bench {
  ~Bench() { names.stop(); }
  static NamedEndpoint entry(const std::string& host, bool all = false, const std::string& name = "",
                             uint16_t port = 8000) {
    NamedEndpoint out;
    out.spec.host = host;
    out.spec.port = port;
    out.spec.name = name.empty() ? host + ':' + std::to_string(port) : name;
    out.spec.url = "http://" + host + ':' + std::to_string(port);
    out.all = all;
    return out;
  }
  // "name=ip ..." of all endpoints.
  std::string list() const {
    std::string out;
    for (const EndpointSpec& spec : names.endpoints()) {
      out += (out.empty() ? "" : " ") + spec.name + '=' + spec.host;
    }
    return out;
  }
  NameStatus status(size_t i = 0) const { return names.status().at(i); }
  void run(Duration time) { network.run_for(time); }

  SimNetwork network{1};
  SimLoop loop{network};
  FakeResolver resolver{loop.loop()};
  int told = 0;
  NamedEndpoints names{loop.loop(), resolver, [this] { ++told; }};
  const NameOptions options{.min_ttl = seconds(5), .max_ttl = seconds(30)};
};

TEST_CASE("addresses need no lookup; a name is no endpoint until it resolves, and is asked for with growing pauses") {
  Bench b;
  b.names.set({Bench::entry("10.0.0.1"), Bench::entry("llm"), Bench::entry("fd00::1", false, "six")}, b.options);
  CHECK(b.list() == "10.0.0.1:8000=10.0.0.1 six=fd00::1");
  CHECK(!b.names.settled());
  b.run(milliseconds(20));
  CHECK(b.names.settled());  // with an error
  CHECK(b.status().error == "no such name");
  CHECK(b.resolver.asked.size() == 1);
  b.run(seconds(4));  // at 0, 0.5, 1.5 and 3.5 s
  CHECK(b.resolver.asked["llm"] == 4);
  b.run(seconds(60));
  CHECK(b.resolver.asked["llm"] <= 4 + 8);  // every 10 s
  CHECK(b.status().failures == b.resolver.asked["llm"]);
  CHECK(b.told == 1);  // of the first failure only
  b.resolver.says["llm"] = found({"10.0.0.7"}, seconds(60));
  b.run(seconds(11));
  CHECK(b.list() == "10.0.0.1:8000=10.0.0.1 llm:8000=10.0.0.7 six=fd00::1");
  CHECK(b.status().error.empty());
  CHECK(b.told == 2);
}

TEST_CASE("an answer counts for its time to live, within bounds") {
  Bench b;
  const std::pair<Duration, Duration> cases[] = {
      {Duration{0}, seconds(5)}, {seconds(12), seconds(12)}, {seconds(3600), seconds(30)}};
  for (const auto& [ttl, counts] : cases) {
    b.resolver.says["llm"] = found({"10.0.0.7"}, ttl);
    b.names.set({Bench::entry("llm")}, b.options);
    b.run(milliseconds(50));
    const size_t asked = b.resolver.asked["llm"];
    b.run(counts - milliseconds(100));
    CHECK(b.resolver.asked["llm"] == asked);
    b.run(milliseconds(200));
    CHECK(b.resolver.asked["llm"] == asked + 1);
  }
}

TEST_CASE("one address of several stays while answers have it, in whatever order") {
  Bench b;
  b.resolver.says["llm"] = found({"10.0.0.7", "10.0.0.8"}, seconds(5));
  b.names.set({Bench::entry("llm", false, "llm")}, b.options);
  b.run(milliseconds(50));
  CHECK(b.list() == "llm=10.0.0.7");
  CHECK(b.names.endpoints()[0].authority == "llm:8000");
  CHECK(b.names.endpoints()[0].url == "http://llm:8000");
  b.resolver.says["llm"] = found({"10.0.0.8", "10.0.0.7"}, seconds(5));
  b.run(seconds(6));
  CHECK(b.list() == "llm=10.0.0.7");
  CHECK(b.told == 1);
  b.resolver.says["llm"] = found({"10.0.0.9"}, seconds(5));
  b.run(seconds(6));
  CHECK(b.list() == "llm=10.0.0.9");
  CHECK(b.told == 2);
}

TEST_CASE("known addresses stay while lookups fail") {
  Bench b;
  b.resolver.says["llm"] = found({"10.0.0.7", "10.0.0.8"}, seconds(5));
  b.names.set({Bench::entry("llm", true, "llm")}, b.options);
  b.run(milliseconds(50));
  b.resolver.says.clear();
  b.run(seconds(60));
  CHECK(b.list() == "llm-10.0.0.7=10.0.0.7 llm-10.0.0.8=10.0.0.8");
  CHECK(b.status().error == "no such name");
  CHECK(b.status().addresses.size() == 2);
  // Also over a reload, and while nobody answers.
  b.resolver.silent = true;
  b.names.set({Bench::entry("llm", true, "llm")}, b.options);
  b.run(seconds(60));
  CHECK(b.names.endpoints().size() == 2);
  CHECK(b.names.settled());
}

TEST_CASE("all addresses: of one family, in a stable order, each server once") {
  Bench b;
  b.resolver.says["llm"] = found({"10.0.0.9", "fd00::9", "10.0.0.7"}, seconds(60));
  b.resolver.says["six"] = found({"fd00::2", "10.0.0.2", "fd00::1"}, seconds(60));
  b.names.set({Bench::entry("10.0.0.7", false, "given"), Bench::entry("llm", true), Bench::entry("six", true, "s"),
               Bench::entry("llm", true, "other-port", 8001)},
              b.options);
  b.run(milliseconds(50));
  CHECK(b.list() ==
        "given=10.0.0.7 llm-10.0.0.9:8000=10.0.0.9 s-fd00::1=fd00::1 s-fd00::2=fd00::2 "
        "other-port-10.0.0.7=10.0.0.7 other-port-10.0.0.9=10.0.0.9");
  CHECK(b.resolver.asked["llm"] == 1);  // once for both entries
  CHECK(b.names.endpoints()[1].url == "http://10.0.0.9:8000");
  CHECK(b.names.endpoints()[1].authority == "llm:8000");
}

TEST_CASE("what cannot be reached is looked up early, and another address is tried") {
  Bench b;
  b.resolver.says["llm"] = found({"10.0.0.7", "10.0.0.8"}, seconds(3600));
  b.names.set({Bench::entry("llm", false, "llm")}, b.options);
  b.run(seconds(1));
  b.names.unreachable("10.0.0.1");  // nobody's
  b.names.unreachable("10.0.0.7");
  CHECK(b.list() == "llm=10.0.0.8");
  b.names.unreachable("10.0.0.8");  // not so soon
  CHECK(b.list() == "llm=10.0.0.8");
  CHECK(b.resolver.asked["llm"] == 1);
  b.run(seconds(5));
  CHECK(b.resolver.asked["llm"] == 2);
  CHECK(b.told == 2);
  b.names.unreachable("10.0.0.8");
  CHECK(b.list() == "llm=10.0.0.7");
}

TEST_CASE("while no address of a name lives, they are tried in turn with growing pauses") {
  Bench b;
  b.resolver.says["llm"] = found({"10.0.0.7", "10.0.0.8"}, seconds(3600));
  b.names.set({Bench::entry("llm", false, "llm")}, b.options);
  b.run(milliseconds(50));
  int changes = 0;
  std::string before = b.list();
  for (int i = 0; i < 240; ++i) {  // a minute of probes, four a second
    b.names.unreachable(b.names.endpoints()[0].host);
    changes += b.list() != before;
    before = b.list();
    b.run(milliseconds(250));
  }
  CHECK(changes >= 5);
  CHECK(changes <= 10);  // at 0, 1, 3, 7, 15, 25 s and so on
  b.run(seconds(60));    // one lives
  const std::string chosen = b.list();
  b.names.unreachable(b.names.endpoints()[0].host);
  CHECK(b.list() != chosen);
  b.run(milliseconds(1500));
  b.names.unreachable(b.names.endpoints()[0].host);  // the first pause is short again
  CHECK(b.list() == chosen);
}

TEST_CASE("a name that is added later does not make anybody wait") {
  Bench b;
  b.names.set({Bench::entry("llm")}, b.options);
  CHECK(!b.names.settled());
  b.run(milliseconds(50));
  CHECK(b.names.settled());
  b.resolver.silent = true;
  b.names.set({Bench::entry("llm"), Bench::entry("other")}, b.options);
  CHECK(b.names.settled());
}

TEST_CASE("many names are not all asked for at the same time") {
  Bench b;
  std::vector<NamedEndpoint> list;
  for (int i = 0; i < 200; ++i) {
    list.push_back(Bench::entry("n" + std::to_string(i)));
    b.resolver.says["n" + std::to_string(i)] = found({"10.0.0.1"}, seconds(60));
  }
  b.names.set(list, b.options);
  b.run(seconds(1));
  CHECK(b.names.settled());
  CHECK(b.names.endpoints().size() == 200);
  CHECK(b.resolver.under_way_most <= 32);
}

}  // namespace
}  // namespace penstock::discovery::test
