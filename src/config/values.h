// Spellings of values: addresses, endpoint URLs, names. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/base/quantity.h"
#include "penstock/base/text.h"

namespace penstock::config {

// "" when `text` is ADDRESS:PORT with a numeric or empty address, else what is wrong.
std::string check_address(std::string_view text);
// "" when `text` is http://HOST:PORT or https://HOST:PORT, else what is wrong. A single trailing slash is tolerated and
// removed.
std::string check_url(std::string& text);
// Of TCP, 1 to 65535. False: it is none.
bool parse_port(std::string_view text, uint16_t* out);
// Visible ASCII, 1 to 253 characters: it goes into header fields, labels and log lines as it is.
bool is_endpoint_name(const std::string& name);

// Of Kubernetes. Each: "" when good, else what is wrong.
std::string check_object_name(std::string_view text);  // NAME or NAMESPACE/NAME
std::string check_ip_range(std::string_view text);     // 10.0.0.0/8, 2001:db8::1
std::string check_namespace(std::string_view text);    // a name, or *
std::string check_pool(std::string_view text);         // a name, or *
std::string check_service(std::string_view text);      // [NAMESPACE/]NAME[:PORT]
std::string check_selector(std::string_view text);     // KEY=VALUE,...
std::string check_port(std::string_view text);
std::string check_api_url(std::string_view text);
std::string check_host(std::string_view text);  // IP address or host name
std::string check_controller(std::string_view text);
// Of DNS: IP or IP:PORT; an IPv6 address with a port in brackets. "" when good.
std::string check_name_server(std::string_view text);
// "team-a/vllm:8000" into its parts; what is not there stays "".
struct ObjectName {
  std::string ns, name, port;
};
ObjectName split_object_name(std::string_view text);

}  // namespace penstock::config
