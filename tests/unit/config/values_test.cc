#include "src/config/values.h"

#include <doctest/doctest.h>

using namespace penstock;
using namespace penstock::config;

TEST_CASE("addresses are numeric with a port") {
  for (const char* text : {"0.0.0.0:8080", "127.0.0.1:0", "[::]:9090", "[::1]:65535", ":8080"}) {
    INFO(text);
    CHECK(check_address(text).empty());
  }
  for (const char* text : {"", "8080", "localhost:8080", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:http",
                           "[::1]", "::1:80", "1.2.3:80", "[1.2.3.4]:80", "1.2.3.4:-1"}) {
    INFO(text);
    CHECK_FALSE(check_address(text).empty());
  }
}

TEST_CASE("endpoint URLs are http with host and port and nothing else") {
  for (std::string text : {"http://127.0.0.1:8000", "http://vllm-0.vllm:8000", "http://[::1]:80", "http://a_b:1"}) {
    INFO(text);
    CHECK(check_url(text).empty());
  }
  for (std::string text : {"", "127.0.0.1:8000", "http://", "http:///", "http://:80", "http://h", "http://h:0",
                           "http://h:1/v1", "http://h:1?x", "http://h:1#x", "http://u@h:1", "http://u:p@h:1",
                           "http://h h:1", "ftp://h:1", "http://::1:80", "http://-h:1", "HTTP://h:1"}) {
    INFO(text);
    CHECK_FALSE(check_url(text).empty());
  }
  std::string https = "https://h:1", slash = "http://h:1/";
  CHECK(check_url(https).empty());
  CHECK(check_url(slash).empty());
  CHECK(slash == "http://h:1");
}
