#include "route_filters.h"

#include <algorithm>

#include "gateways.h"
#include "penstock/base/text.h"
#include "penstock/base/url_path.h"

namespace penstock::objects {
namespace {

constexpr size_t quoted_max = 64;  // bytes of what an object says, in a condition's message
constexpr std::string_view unsupported_value = "UnsupportedValue", incompatible = "IncompatibleFilters";

// Fields that say how a message ends or what becomes of the connection: to change them would break the message.
bool frames(const HeaderChange& change) {
  constexpr std::string_view fields[] = {"connection", "content-length",    "keep-alive", "te",
                                         "trailer",    "transfer-encoding", "upgrade"};
  return std::find(std::begin(fields), std::end(fields), lower_case(change.name)) != std::end(fields);
}

// What ends up in a request line or a Location must not be able to end it, nor begin a query.
bool path_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f && c != '?' && c != '#'; });
}
bool host_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '.';
  });
}

class FilterCompiler {
 public:
  FilterCompiler(const RouteRule& rule, Finding& unsupported) : rule_(rule), unsupported_(unsupported) {}

  void add(const RouteFilter& filter) {
    if (filter.type == "RequestHeaderModifier") {
      change(filter, out_.request_headers);
    } else if (filter.type == "ResponseHeaderModifier") {
      change(filter, out_.response_headers);
    } else if (filter.type == "RequestRedirect") {
      once();
      out_.redirect = redirect(filter.url);
    } else if (filter.type == "URLRewrite") {
      once();
      out_.hostname = hostname(filter.url);
      out_.path = path(filter.url);
    } else {
      unsupported_.note(std::string(unsupported_value), "the filter " + filter.type + " is not supported");
    }
  }
  RouteFilters take() { return std::move(out_); }

 private:
  void refuse(std::string message) { unsupported_.note(std::string(unsupported_value), std::move(message)); }

  // Of redirects and rewrites there may be one.
  void once() {
    if (urls_++ == 0) return;
    unsupported_.note(std::string(incompatible), "there are several of the filters RequestRedirect and URLRewrite");
  }

  void change(const RouteFilter& filter, std::vector<HeaderChange>& to) {
    const auto wrong = std::find_if(filter.changes.begin(), filter.changes.end(), frames);
    if (wrong != filter.changes.end()) refuse("the header field " + wrong->name + " cannot be changed");
    to.insert(to.end(), filter.changes.begin(), filter.changes.end());
  }

  std::string hostname(const UrlFilter& url) {
    if (!host_text(url.hostname)) refuse("the hostname " + in_quotes(url.hostname, quoted_max) + " is not one");
    return url.hostname;
  }

  Redirect redirect(const UrlFilter& url) {
    if (!url.scheme.empty() && url.scheme != "http" && url.scheme != "https") {
      refuse("the scheme " + in_quotes(url.scheme, quoted_max) + " is not supported");
    }
    constexpr int32_t statuses[] = {301, 302, 303, 307, 308};
    if (std::find(std::begin(statuses), std::end(statuses), url.status) == std::end(statuses)) {
      refuse("the statusCode " + std::to_string(url.status) + " of a redirect is not supported");
    }
    return {static_cast<uint16_t>(url.status), url.scheme, hostname(url), static_cast<uint16_t>(url.port), path(url)};
  }

  PathChange path(const UrlFilter& url) {
    if (!url.path) return {};
    const PathModifier& modifier = *url.path;
    if (modifier.type == "ReplaceFullPath") return {PathChange::Op::replace, checked(modifier.full), 0};
    if (modifier.type != "ReplacePrefixMatch") {
      refuse("the path modifier " + in_quotes(modifier.type, quoted_max) + " is not supported");
      return {};
    }
    std::string value = checked(modifier.prefix);
    while (value.ends_with('/')) value.pop_back();
    return {PathChange::Op::replace_prefix, std::move(value), matched_prefix()};
  }

  std::string checked(std::string text) {
    if (!text.empty() && !text.starts_with('/')) text.insert(0, 1, '/');
    if (!path_text(text) || canonicalise_target(text) != nullptr)
      refuse("the path " + in_quotes(text, quoted_max) + " is not one");
    return text;
  }

  // Of the one match that there may be where a prefix is replaced.
  size_t matched_prefix() {
    if (rule_.matches.empty()) return 0;  // of every path, the "/" in front
    const PathMatch& match = rule_.matches.front().path;
    if (rule_.matches.size() > 1 || match.type != MatchType::prefix) {
      refuse("ReplacePrefixMatch needs exactly one match in its rule, of type PathPrefix");
    }
    std::string prefix = match.value;
    static_cast<void>(canonicalise_target(prefix));  // as compile_match() does
    return prefix.find_last_not_of('/') + 1;
  }

  const RouteRule& rule_;
  Finding& unsupported_;
  RouteFilters out_;
  int urls_ = 0;
};

void describe_changes(std::string& out, const char* of, const std::vector<HeaderChange>& changes) {
  constexpr const char* ops[] = {"set ", "add ", "remove "};
  for (const HeaderChange& change : changes) {
    out.append(of).append(ops[static_cast<size_t>(change.op)]).append(change.name);
    if (change.op != HeaderChange::Op::remove) out.append("=").append(change.value);
  }
}

void describe(std::string& out, const PathChange& path) {
  if (path.op == PathChange::Op::keep) return;
  out.append(path.op == PathChange::Op::replace ? " path=" : " prefix=").append(path.value);
  if (path.op == PathChange::Op::replace_prefix) out.append("/").append(std::to_string(path.matched));
}

}  // namespace

RouteFilters compile_filters(const std::vector<RouteFilter>& filters, const RouteRule& rule, Finding& unsupported) {
  FilterCompiler compiler(rule, unsupported);
  for (const RouteFilter& filter : filters) compiler.add(filter);
  return compiler.take();
}

void describe_filters(std::string& out, const RouteFilters& filters) {
  describe_changes(out, " request ", filters.request_headers);
  describe_changes(out, " response ", filters.response_headers);
  if (!filters.hostname.empty()) out.append(" host=").append(filters.hostname);
  describe(out, filters.path);
  if (!filters.redirect) return;
  const Redirect& redirect = *filters.redirect;
  out.append(" redirect ")
      .append(std::to_string(redirect.status))
      .append(" ")
      .append(redirect.scheme.empty() && redirect.secure ? "https" : redirect.scheme)
      .append("://");
  out.append(redirect.hostname).append(":").append(std::to_string(redirect.port));
  describe(out, redirect.path);
}

std::string PathChange::apply(std::string_view target) const {
  const std::string_view path = target.substr(0, target.find('?'));
  const std::string_view query = target.substr(path.size());
  std::string out;
  if (op == Op::keep) out = path;
  if (op == Op::replace) out = value;
  if (op == Op::replace_prefix) out.append(value).append(path.substr(std::min(matched, path.size())));
  if (out.empty()) out = "/";
  return out.append(query);
}

std::string Redirect::location(std::string_view host, std::string_view target) const {
  const Authority asked = split_authority(host);
  const std::string_view name = hostname.empty() ? asked.host : hostname;
  if (name.empty()) return "";
  std::string number = port != 0 ? std::to_string(port) : "";
  if (port == 0 && scheme.empty()) number = asked.port;
  const std::string_view spoken = !scheme.empty() ? std::string_view(scheme) : secure ? "https" : "http";
  if (number == (spoken == "https" ? "443" : "80")) number.clear();
  return std::string(spoken)
      .append("://")
      .append(name)
      .append(number.empty() ? "" : ":")
      .append(number)
      .append(path.apply(target));
}

}  // namespace penstock::objects
