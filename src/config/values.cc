#include "values.h"

#include "penstock/net/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "penstock/base/text.h"

namespace penstock::config {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Splits "host:port" at the last colon and checks the port. "" when good.
std::string split_host_port(std::string_view text, unsigned least_port, std::string_view* host) {
  const Authority parts = split_authority(text);
  if (parts.host.size() == text.size()) return "has no port";
  const std::string_view port_text = parts.port;
  unsigned port = 0;
  const auto parsed = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || parsed.ec != std::errc{} || parsed.ptr != port_text.data() + port_text.size() ||
      port < least_port || port > 65535) {
    return "has the port " + in_quotes(port_text) + " (expected " + std::to_string(least_port) + " to 65535)";
  }
  *host = parts.host;
  return "";
}

bool is_ip(std::string_view host) {
  in6_addr address;
  if (const std::string_view bare = without_brackets(host); bare != host) {
    return inet_pton(AF_INET6, std::string(bare).c_str(), &address) == 1;
  }
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1;
}

bool is_host_name(std::string_view host) {
  if (host.empty() || host.size() > 253 || host.front() == '.' || host.front() == '-') return false;
  return std::all_of(host.begin(), host.end(),
                     [](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'; });
}

}  // namespace

std::string check_address(std::string_view text) {
  std::string_view host;
  const std::string problem = split_host_port(text, 0, &host);
  if (!problem.empty()) {
    uint16_t port = 0;
    const std::string meant = parse_port(text, &port) ? "; did you mean :" + std::string(text) + "?" : "";
    return in_quotes(text) + " " + problem + meant;
  }
  if (!host.empty() && !is_ip(host)) return in_quotes(host) + " is not a numeric address";
  return "";
}

std::string check_ip_range(std::string_view text) {
  if (net::IpRange::parse(text)) return "";
  const size_t slash = text.find('/');
  const bool address = slash != std::string_view::npos && net::IpAddress::parse(text.substr(0, slash)).has_value();
  return in_quotes(text) + (address ? " is not a range: its length is wrong, or bits behind it are not zero"
                                    : " is not an IP address or range");
}

bool parse_port(std::string_view text, uint16_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc{} && end == text.data() + text.size() && *out != 0;
}

bool is_endpoint_name(const std::string& name) {
  return !name.empty() && name.size() <= 253 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string check_url(std::string& text) {
  const std::string scheme = text.starts_with("https://") ? "https://" : "http://";
  if (!text.starts_with(scheme)) return in_quotes(text) + " is not a URL; write http://HOST:PORT or https://HOST:PORT";
  if (text.ends_with('/') && text.size() > scheme.size()) text.pop_back();
  const std::string_view authority = std::string_view(text).substr(scheme.size());
  if (authority.find_first_of("/?#") != std::string_view::npos) {
    return in_quotes(text) + " has a path; requests keep their own path, so write only " + scheme + "HOST:PORT";
  }
  if (authority.find('@') != std::string_view::npos)
    return in_quotes(text) + ": credentials in a URL are not supported";
  std::string_view host;
  const std::string problem = split_host_port(authority, 1, &host);
  if (!problem.empty()) return in_quotes(text) + " " + problem + "; write " + scheme + "HOST:PORT";
  if (!is_ip(host) && !is_host_name(host)) return in_quotes(host) + " is not a host name or address";
  return "";
}

std::string check_name_server(std::string_view text) {
  const bool bracketed = text.starts_with('[');
  if (!bracketed && is_ip(text)) return "";
  const std::string in_brackets = '[' + std::string(text) + ']';
  if (!bracketed && is_ip(in_brackets)) return "";
  std::string_view host;
  const std::string problem = split_host_port(text, 1, &host);
  if (!problem.empty()) return in_quotes(text) + " is no IP address, and " + problem;
  return is_ip(host) ? "" : in_quotes(host) + " is not a numeric address";
}

}  // namespace penstock::config
