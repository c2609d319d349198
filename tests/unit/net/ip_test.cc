#include "penstock/net/ip.h"

#include <doctest/doctest.h>

using namespace penstock::net;

TEST_CASE("addresses in their usual spellings, with and without a port") {
  const auto text = [](std::string_view given) {
    const auto parsed = IpAddress::parse(given);
    return parsed ? parsed->to_string() : std::string("none");
  };
  CHECK(text("192.0.2.1") == "192.0.2.1");
  CHECK(text("192.0.2.1:8080") == "192.0.2.1");
  CHECK(text("::ffff:192.0.2.1") == "192.0.2.1");
  CHECK(text("2001:DB8:0:0::1") == "2001:db8::1");
  CHECK(text("[2001:db8::1]:443") == "2001:db8::1");
  CHECK(text("::1") == "::1");
  for (const char* wrong : {"", "unknown", "_hidden", "192.0.2", "192.0.2.256", "[::1", "::1::", "1.2.3.4.5", "a:b"}) {
    INFO(wrong);
    CHECK(text(wrong) == "none");
  }
  CHECK(text(std::string(100, '1')) == "none");
  CHECK(text(std::string_view("1.2.3.4\0x", 9)) == "none");
}

TEST_CASE("ranges contain what their prefix says") {
  const auto in = [](std::string_view range, std::string_view address) {
    const auto parsed = IpRange::parse(range);
    REQUIRE(parsed.has_value());
    return parsed->contains(*IpAddress::parse(address));
  };
  CHECK(in("10.0.0.0/8", "10.255.0.1"));
  CHECK_FALSE(in("10.0.0.0/8", "11.0.0.1"));
  CHECK(in("192.0.2.7", "192.0.2.7"));
  CHECK_FALSE(in("192.0.2.7", "192.0.2.6"));
  CHECK(in("0.0.0.0/0", "8.8.8.8"));
  CHECK_FALSE(in("0.0.0.0/0", "2001:db8::1"));
  CHECK(in("::/0", "8.8.8.8"));
  CHECK(in("2001:db8::/32", "2001:db8:ffff::1"));
  CHECK_FALSE(in("2001:db8::/33", "2001:db8:ffff::1"));
  CHECK(in("fe80::/10", "febf::1"));
  CHECK(in("2001:db8::1:0/112", "2001:db8::1:ffff"));
  CHECK_FALSE(in("2001:db8::1:0/112", "2001:db8::2:0"));
  CHECK(in("10.0.0.0/8", "::ffff:10.1.2.3"));
}

TEST_CASE("what is not a range") {
  for (const char* wrong : {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8x", "10.0.0.1/8", "2001:db8::1/32", "::/129",
                            "example.com", "10.0.0.0:80/8", "[::1]", "10.0.0.0/-1"}) {
    INFO(wrong);
    CHECK_FALSE(IpRange::parse(wrong).has_value());
  }
  const IpRanges ranges({"10.0.0.0/8", "nonsense", "::1"});
  CHECK(ranges.contains(*IpAddress::parse("::1")));
  CHECK(ranges.contains(*IpAddress::parse("10.1.1.1")));
  CHECK_FALSE(ranges.contains(*IpAddress::parse("192.168.1.1")));
  CHECK(IpRanges().empty());
}
