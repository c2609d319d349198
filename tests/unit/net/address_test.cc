#include "penstock/net/address.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "penstock/net/clock.h"

namespace penstock::net {

TEST_CASE("numeric addresses are read and written back") {
  for (const char* text :
       {"127.0.0.1:8080", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:8080", "[2001:db8::17]:443"}) {
    CAPTURE(text);
    const Result<Address> address = Address::parse(text);
    REQUIRE(address.ok());
    CHECK(address->to_string() == text);
    CHECK(*address == *Address::parse(text));
    CHECK_FALSE(*address == Address());
  }
  CHECK(Address::parse(":8080")->to_string() == "0.0.0.0:8080");
  CHECK(Address::parse("[::1]:9")->ip_string() == "::1");
  CHECK(Address::parse("10.0.0.1:9")->ip_string() == "10.0.0.1");
  CHECK(Address::parse("10.0.0.1:9")->port() == 9);
}

TEST_CASE("what is not a numeric address with a port is refused with the text in the message") {
  for (const char* text : {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1",
                           "127.0.0.1:80x", "localhost:80", "::1:80", "[::1]80", "[::1:80", "[]:80", "[127.0.0.1]:80",
                           "1.2.3:80", "1.2.3.4.5:80", " 1.2.3.4:80", "1.2.3.4: 80", "1.2.3.4:000080"}) {
    CAPTURE(text);
    const Result<Address> address = Address::parse(text);
    REQUIRE_FALSE(address.ok());
    CHECK(address.error().text.find(text) != std::string::npos);
  }
  CHECK_FALSE(Address::parse(std::string_view("127.0.0.1\0x:80", 14)).ok());
}

TEST_CASE("addresses differ by family, number and port") {
  CHECK_FALSE(*Address::parse("1.2.3.4:5") == *Address::parse("1.2.3.4:6"));
  CHECK_FALSE(*Address::parse("1.2.3.4:5") == *Address::parse("1.2.3.5:5"));
  CHECK_FALSE(*Address::parse("0.0.0.0:5") == *Address::parse("[::]:5"));
  CHECK(Address() == Address());
  CHECK(Address().empty());
  CHECK(Address().to_string().empty());
  CHECK(Address().port() == 0);
}

TEST_CASE("names are resolved, also when they are numbers") {
  CHECK(Address::resolve("127.0.0.1", 80)->to_string() == "127.0.0.1:80");
  CHECK(Address::resolve("[::1]", 80)->to_string() == "[::1]:80");
  CHECK(Address::resolve("localhost", 80)->port() == 80);
  for (const char* name : {"", "no such name", "1.2.3.4.5.invalid"}) {
    CAPTURE(name);
    CHECK_FALSE(Address::resolve(name, 80).ok());
  }
}

TEST_CASE("a socket names its own end, and an unconnected one no peer") {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  const Address any = *Address::parse("127.0.0.1:0");
  REQUIRE(bind(fd, any.data(), any.size()) == 0);
  CHECK(Address::local_of(fd).ip_string() == "127.0.0.1");
  CHECK(Address::local_of(fd).port() != 0);
  CHECK(Address::peer_of(fd).empty());
  close(fd);
  CHECK(Address::local_of(-1).empty());
}

TEST_CASE("the system clock moves forward and knows the date") {
  Clock& clock = system_clock();
  const Instant first = clock.now();
  CHECK(clock.now() >= first);
  CHECK(clock.wall_time_us() > 1'700'000'000'000'000);
}

}  // namespace penstock::net
