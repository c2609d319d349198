#include "heads.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "penstock/base/text.h"
#include "penstock/http/websocket.h"

namespace penstock::proxy {

namespace {

using http::Field;

// What Via says of a message that came in this version (RFC 9110, section 7.6.3).
std::string_view via_of(downstream::Protocol protocol) {
  using enum downstream::Protocol;
  return protocol == http_2 ? "2 penstock" : protocol == http_1_0 ? "1.0 penstock" : "1.1 penstock";
}

// The values of all fields of this kind in their order, ready for one more (RFC 9110, section 5.3).
void append_list(std::string& out, const http::Head& head, Field field) {
  for (const http::Header& header : head.headers()) {
    if (header.field == field && !header.value.empty()) append_all(out, header.value, ", ");
  }
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  append_all(out, name, ": ", value, "\r\n");
}

// Fields that steer the gateway, that it writes itself, or that end at this hop: never forwarded from a client.
bool is_for_gateway(Field field) {
  switch (field) {
    case Field::host:
    case Field::content_length:
    case Field::expect:
    case Field::via:
    case Field::x_forwarded_for:
    case Field::x_forwarded_proto:
    case Field::x_request_id:
    case Field::x_session_token:
    case Field::x_gateway_inference_objective:
    case Field::x_gateway_inference_fairness_id:
    case Field::x_gateway_model_name_rewrite:
    case Field::x_gateway_destination_endpoint:
    case Field::x_gateway_destination_endpoint_subset:
    case Field::x_gateway_destination_endpoint_served:
    case Field::x_prefiller_host_port:
    case Field::x_encoder_hosts_ports:
    case Field::x_data_parallel_host_port:
    case Field::x_kv_cache_source_host_port:
    case Field::x_slo_ttft_ms:
    case Field::x_slo_tpot_ms:
    case Field::x_penstock_explain:
    case Field::x_penstock_resume:
    case Field::x_penstock_endpoint:
    case Field::test_epp_endpoint_selection:
      return true;
    default:
      return false;
  }
}

// "Transfer_Encoding", "X_Forwarded_For": servers that read '_' as '-' (CGI, WSGI) would take such a field for one that
// frames the message, ends at this hop, or is only ever written by the gateway.
bool imitates_gateway_field(const http::Head& head, const http::Header& header) {
  constexpr size_t longest = 64;  // no such field has a longer name
  if (header.field != Field::other || header.name.size() > longest || header.name.find('_') == std::string_view::npos)
    return false;
  char dashed[longest];
  std::replace_copy(header.name.begin(), header.name.end(), dashed, '_', '-');
  const std::string_view name(dashed, header.name.size());
  const http::Header meant{.name = name, .value = header.value, .field = http::field_of(name)};
  return is_for_gateway(meant.field) || is_hop_by_hop(head, meant);
}

// Copies field lines as they were received, whole runs of them at once.
class LineCopier {
 public:
  LineCopier(std::string& out, const http::Head& head) : out_(out), head_(head) {}
  void take(size_t index) {
    if (index != end_) flush(index);
    end_ = index + 1;
  }
  void finish() { flush(end_); }

 private:
  void flush(size_t next) {
    if (end_ > begin_) out_.append(head_.lines(begin_, end_));
    begin_ = end_ = next;
  }
  std::string& out_;
  const http::Head& head_;
  size_t begin_ = 0, end_ = 0;
};

// Eight hexadecimal digits, computed in parallel, one byte each.
std::array<char, 8> hex_of(uint32_t bits) {
  uint64_t digits = bits;
  digits = (digits | digits << 16) & 0x0000ffff0000ffff;
  digits = (digits | digits << 8) & 0x00ff00ff00ff00ff;
  digits = (digits | digits << 4) & 0x0f0f0f0f0f0f0f0f;
  const uint64_t above_nine = (digits + 0x0606060606060606) >> 4 & 0x0101010101010101;
  digits += 0x3030303030303030 + above_nine * ('a' - '0' - 10);
  if constexpr (std::endian::native == std::endian::little) digits = std::byteswap(digits);
  return std::bit_cast<std::array<char, 8>>(digits);
}

// A random UUID (RFC 9562, version 4).
void assign_request_id(std::string& id, Random& random) {
  uint64_t bits[2] = {random.next(), random.next()};
  bits[0] = (bits[0] & ~0xf000ull) | 0x4000ull;
  bits[1] = (bits[1] & ~(0xc0ull << 56)) | (0x80ull << 56);
  char text[] = "........-....-....-....-............";
  const auto first = hex_of(static_cast<uint32_t>(bits[0] >> 32)), second = hex_of(static_cast<uint32_t>(bits[0]));
  const auto third = hex_of(static_cast<uint32_t>(bits[1] >> 32)), last = hex_of(static_cast<uint32_t>(bits[1]));
  std::memcpy(text, first.data(), 8);
  std::memcpy(text + 9, second.data(), 4);
  std::memcpy(text + 14, second.data() + 4, 4);
  std::memcpy(text + 19, third.data(), 4);
  std::memcpy(text + 24, third.data() + 4, 4);
  std::memcpy(text + 28, last.data(), 8);
  copy_text(id, {text, sizeof text - 1});
}

// 0 if the text is not a positive, finite number (from_chars also accepts "inf" and "nan").
double number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  return whole && std::isfinite(value) && value > 0 ? value : 0;
}

// "http://host/path" becomes "/path". Its host replaces the Host field (RFC 9112, section 3.2.2).
void assign_target(std::string_view target, std::string& path, std::string& host) {
  const size_t scheme = target.starts_with('/') ? std::string_view::npos : target.find("://");
  if (scheme == std::string_view::npos) {
    copy_text(path, target);
    return;
  }
  target.remove_prefix(scheme + 3);
  const size_t end = std::min(target.find_first_of("/?#"), target.size());
  host = target.substr(0, end);
  path = target.substr(end);
  if (!path.starts_with('/')) path.insert(path.begin(), '/');
}

bool says_json(std::string_view content_type) {
  return content_type.empty() || content_type.find("json") != std::string_view::npos;
}

}  // namespace

void ForwardedHead::clear() {
  recycle_all(fields, method, path, rewritten, request_id, host, session, fairness_id, objective, model_rewrite,
              test_endpoints);
  certificate.reset();
  tls = net::TlsVersion::none;
  json = traced = explain = never_resume = websocket = false;
  slo_ttft_ms = slo_tpot_ms = 0;
}

void ForwardedHead::assign(const http::Head& head, const Sender& from, Random& random,
                           std::span<const std::string> identities) {
  copy_text(method, head.method_text);
  if (!from.tls.peer_identity.empty()) certificate = std::make_unique<std::string>(from.tls.peer_identity);
  protocol = from.protocol;
  tls = from.tls.version;
  assign_target(head.target, path, host);
  json = says_json(head.get(Field::content_type));
  websocket = http::asks_for_websocket(head);
  std::string& lines = fields.storage();
  lines.reserve(head.bytes() + 160);
  bool was_forwarded = false, has_via = false;
  LineCopier copier(lines, head);
  for (size_t i = 0; i < head.headers().size(); ++i) {
    const http::Header& header = head.headers()[i];
    if (header.field == Field::x_forwarded_for) {
      was_forwarded = true;
    } else if (header.field == Field::via) {
      has_via = true;
    } else if (is_for_gateway(header.field)) {
      take_gateway_field(header);
    } else if (!is_hop_by_hop(head, header) && !imitates_gateway_field(head, header)) {
      traced |= header.field == Field::traceparent;
      copier.take(i);
    }
  }
  copier.finish();
  identify(head, identities);
  if (request_id.empty()) assign_request_id(request_id, random);
  append_all(lines, "x-forwarded-for: ");
  if (was_forwarded) append_list(lines, head, Field::x_forwarded_for);
  const bool told = from.from_proxy && head.has(Field::x_forwarded_proto);
  const bool https =
      told ? same_ignoring_case(head.get(Field::x_forwarded_proto), "https") : tls != net::TlsVersion::none;
  append_all(lines, from.ip.empty() ? std::string_view("unknown") : from.ip,
             "\r\nx-forwarded-proto: ", https ? std::string_view("https") : std::string_view("http"), "\r\nvia: ");
  if (has_via) append_list(lines, head, Field::via);
  append_all(lines, via_of(from.protocol), "\r\nx-request-id: ", request_id, "\r\n");
}

// "00-" 32 hexadecimal digits "-" ... (W3C Trace Context). All zeros mean none. Later versions begin in the same way.
std::string_view ForwardedHead::trace_id() const {
  constexpr size_t first = 3, size = 32;
  if (!traced) return {};
  const std::string_view value = fields.get("traceparent").value_or("");
  if (value.size() <= first + size || value[first - 1] != '-' || value[first + size] != '-') return {};
  const std::string_view id = value.substr(first, size);
  const bool valid = id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  return valid && id.find_first_not_of('0') != std::string_view::npos ? id : std::string_view();
}

void ForwardedHead::identify(const http::Head& head, std::span<const std::string> names) {
  for (const std::string& name : names) {
    for (const http::Header& header : head.headers()) {
      if (fairness_id.empty() && same_ignoring_case(header.name, name)) fairness_id = header.value;
    }
  }
}

// Host is not among the forwarded fields: it is written before them.
void ForwardedHead::change(std::span<const objects::HeaderChange> changes) {
  for (const objects::HeaderChange& change : changes) {
    if (!same_ignoring_case(change.name, "host")) change_fields(fields, {&change, 1});
    else if (change.op == objects::HeaderChange::Op::set) host = change.value;
  }
}

// Reads a field that is meant for the gateway. Of two with the same meaning the first one counts, but an x-llm-d- name
// takes precedence over an x-gateway- name, as in the EPP.
void ForwardedHead::take_gateway_field(const http::Header& header) {
  const bool wins = header.name.size() > 2 && (header.name[2] == 'l' || header.name[2] == 'L');
  const auto take = [&](std::string& to) {
    if (to.empty() || wins) copy_text(to, header.value);
  };
  const auto take_number = [&](double& to) {
    if (to == 0 || wins) to = number_of(header.value);
  };
  switch (header.field) {
    case Field::host:
      return take(host);
    case Field::x_session_token:
      return take(session);
    case Field::x_gateway_inference_fairness_id:
      return take(fairness_id);
    case Field::x_gateway_inference_objective:
      return take(objective);
    case Field::x_gateway_model_name_rewrite:
      return take(model_rewrite);
    case Field::x_request_id:
      return take(request_id);
    case Field::test_epp_endpoint_selection:
      return take(test_endpoints);
    case Field::x_slo_ttft_ms:
      return take_number(slo_ttft_ms);
    case Field::x_slo_tpot_ms:
      return take_number(slo_tpot_ms);
    case Field::x_penstock_explain:
      explain = header.value == "1";
      return;
    case Field::x_penstock_resume:
      never_resume = same_ignoring_case(header.value, "off");
      return;
    default:  // the gateway writes these itself, or ignores them
      return;
  }
}

void append_request_head(std::string& out, const ForwardedHead& head, std::string_view endpoint_host, bool has_body,
                         uint64_t body_bytes, std::string_view more, std::string_view target) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, body_bytes).ptr;
  const std::string_view length(digits, static_cast<size_t>(end - digits));
  append_all(out, head.method, " ", target.empty() ? head.target() : target,
             " HTTP/1.1\r\nhost: ", head.host.empty() ? endpoint_host : std::string_view(head.host), "\r\n",
             head.fields.lines(), more);
  if (has_body) append_all(out, "content-length: ", length, "\r\n");
  if (head.websocket) append_all(out, "connection: upgrade\r\nupgrade: websocket\r\n");
  append_all(out, "\r\n");
}

void append_answer_fields(http::Fields& out, const http::Head& answer, bool keeps_length,
                          const AnswerContext& context) {
  bool has_via = false;
  std::string& lines = out.storage();
  LineCopier copier(lines, answer);
  for (size_t i = 0; i < answer.headers().size(); ++i) {
    const http::Header& header = answer.headers()[i];
    if (header.field == Field::x_request_id || header.field == Field::x_penstock_endpoint) continue;
    if (header.field == Field::x_session_token && !context.session_token.empty()) continue;
    if (header.field == Field::content_length && (!keeps_length || answer.status == 204)) continue;
    if (is_hop_by_hop(answer, header)) continue;
    if (header.field == Field::via) {
      has_via = true;
    } else {
      copier.take(i);
    }
  }
  copier.finish();
  append_all(lines, "via: ");
  if (has_via) append_list(lines, answer, Field::via);
  using enum downstream::Protocol;
  append_all(lines, via_of(answer.minor_version == 0 ? http_1_0 : http_1_1), "\r\nx-request-id: ", context.request_id,
             "\r\n");
  if (!context.endpoint.empty()) append_field(lines, "x-penstock-endpoint", context.endpoint);
  if (!context.session_token.empty()) append_field(lines, "x-session-token", context.session_token);
  if (!context.explanation.empty()) append_field(lines, "x-penstock-explain", context.explanation);
}

void change_fields(http::Fields& fields, std::span<const objects::HeaderChange> changes) {
  for (const objects::HeaderChange& change : changes) {
    switch (change.op) {
      case objects::HeaderChange::Op::set:
        fields.set(change.name, change.value);
        break;
      case objects::HeaderChange::Op::add:
        fields.add(change.name, change.value);
        break;
      case objects::HeaderChange::Op::remove:
        fields.remove(change.name);
        break;
    }
  }
}

bool looks_like_json(std::string_view body) {
  const size_t at = body.find_first_not_of(" \t\r\n");
  return at != std::string_view::npos && body[at] == '{';
}

bool has_content_encoding(const http::Head& head) {
  for (const http::Header& header : head.headers()) {
    if (same_ignoring_case(header.name, "content-encoding"))
      return !header.value.empty() && !same_ignoring_case(header.value, "identity");
  }
  return false;
}

}  // namespace penstock::proxy
