// Spellings of what names Kubernetes objects and where they are.
#include <algorithm>

#include "penstock/base/text.h"
#include "penstock/kube/config.h"
#include "penstock/objects/resolve.h"
#include "values.h"

namespace penstock::config {
namespace {

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// A name as the API server allows it: lower case letters, digits, '-' and (where `dots`) '.', with a letter or digit at
// both ends.
bool is_name(std::string_view text, bool dots) {
  if (text.empty() || text.size() > (dots ? 253u : 63u)) return false;
  if (!is_lower_or_digit(text.front()) || !is_lower_or_digit(text.back())) return false;
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return is_lower_or_digit(c) || c == '-' || (dots && c == '.'); });
}

std::string check_names(std::string_view text, const ObjectName& parts) {
  if (text.find('/') != std::string_view::npos && !is_name(parts.ns, false)) {
    return in_quotes(text) + ": " + in_quotes(parts.ns) + " is not the name of a namespace";
  }
  if (is_name(parts.name, true)) return "";
  return (parts.name == text ? "" : in_quotes(text) + ": ") + in_quotes(parts.name) + " is not the name of an object";
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

ObjectName split_object_name(std::string_view text) {
  ObjectName out;
  if (const size_t slash = text.find('/'); slash != std::string_view::npos) {
    out.ns = text.substr(0, slash);
    text.remove_prefix(slash + 1);
  }
  const size_t colon = std::min(text.find(':'), text.size());
  out.name = text.substr(0, colon);
  if (colon < text.size()) out.port = text.substr(colon + 1);
  return out;
}

std::string check_object_name(std::string_view text) {
  if (text.find(':') != std::string_view::npos) return in_quotes(text) + " has a port";
  return check_names(text, split_object_name(text));
}

std::string check_namespace(std::string_view text) {
  return text == "*" || is_name(text, false) ? "" : in_quotes(text) + " is not the name of a namespace";
}

std::string check_pool(std::string_view text) {
  return text == "*" || is_name(text, true) ? "" : in_quotes(text) + " is not the name of a pool";
}

std::string check_service(std::string_view text) {
  const ObjectName parts = split_object_name(text);
  if (std::string problem = check_names(text, parts); !problem.empty()) return problem;
  if (text.find(':') == std::string_view::npos) return "";
  return is_number(parts.port)        ? check_port(parts.port)
         : is_name(parts.port, false) ? ""
                                      : in_quotes(parts.port) + " is not a port";
}

std::string check_selector(std::string_view text) {
  const auto parsed = objects::parse_selector(text);
  return parsed.ok() ? "" : parsed.error().text;
}

std::string check_port(std::string_view text) {
  uint16_t port = 0;
  return parse_port(text, &port) ? "" : in_quotes(text) + " is not a port";
}

std::string check_api_url(std::string_view text) {
  const auto parsed = kube::parse_server(text);
  return parsed.ok() ? "" : parsed.error().text;
}

std::string check_host(std::string_view text) {
  const bool good = std::all_of(text.begin(), text.end(), [](char c) {
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == ':';
  });
  return good ? "" : in_quotes(text) + " is not an address";
}

std::string check_controller(std::string_view text) {
  const size_t slash = text.find('/');
  const bool good = slash != std::string_view::npos && is_name(text.substr(0, slash), true) &&
                    slash + 1 < text.size() && text.find_first_of(" \t\r\n\"\\") == std::string_view::npos;
  return good ? "" : in_quotes(text) + " is not the name of a controller";
}

}  // namespace penstock::config
