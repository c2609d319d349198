#include "heads.h"

#include <charconv>

#include "penstock/http/writer.h"

namespace penstock::proxy {

namespace {

using http::Field;

constexpr std::string_view kVia = "1.1 penstock";

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
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
    case Field::x_slo_ttft_ms:
    case Field::x_slo_tpot_ms:
    case Field::x_penstock_explain:
    case Field::x_penstock_endpoint:
    case Field::test_epp_endpoint_selection:
      return true;
    default:
      return false;
  }
}

// A random UUID (RFC 9562, version 4).
std::string make_request_id(Random& random) {
  static constexpr char digits[] = "0123456789abcdef";
  uint64_t bits[2] = {random.next(), random.next()};
  bits[0] = (bits[0] & ~0xf000ull) | 0x4000ull;
  bits[1] = (bits[1] & ~(0xc0ull << 56)) | (0x80ull << 56);
  std::string id(36, '-');
  for (int i = 0, at = 0; i < 32; ++i) {
    if (i == 8 || i == 12 || i == 16 || i == 20) ++at;
    id[static_cast<size_t>(at++)] = digits[(bits[i / 16] >> (60 - 4 * (i % 16))) & 15];
  }
  return id;
}

double number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value > 0 ? value : 0;
}

// The origin-form of a target: "http://host/path" becomes "/path".
std::string_view origin_form(std::string_view target) {
  if (target.empty() || target[0] == '/' || target == "*") return target;
  const size_t scheme = target.find("://");
  if (scheme == std::string_view::npos) return target;
  const size_t slash = target.find('/', scheme + 3);
  return slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
}

bool says_json(std::string_view content_type) {
  return content_type.empty() || content_type.find("json") != std::string_view::npos;
}

}  // namespace

void ForwardedHead::clear() {
  for (std::string* text :
       {&fields, &method, &path, &request_id, &host, &session, &fairness_id, &objective, &model_rewrite}) {
    text->clear();
  }
  json = explain = false;
  slo_ttft_ms = slo_tpot_ms = 0;
}

void ForwardedHead::assign(const http::Head& head, std::string_view client_ip, Random& random) {
  clear();
  method = head.method_text;
  path = origin_form(head.target);
  host = head.get(Field::host);
  json = says_json(head.get(Field::content_type));
  fields.reserve(head.bytes() + 160);
  std::string_view forwarded_for, via;
  for (const http::Header& header : head.headers()) {
    if (header.field == Field::x_forwarded_for) forwarded_for = header.value;
    if (header.field == Field::via) via = header.value;
    if (!is_for_gateway(header.field) && !is_hop_by_hop(head, header)) append_field(fields, header.name, header.value);
  }
  session = head.get(Field::x_session_token);
  fairness_id = head.get(Field::x_gateway_inference_fairness_id);
  objective = head.get(Field::x_gateway_inference_objective);
  model_rewrite = head.get(Field::x_gateway_model_name_rewrite);
  slo_ttft_ms = number_of(head.get(Field::x_slo_ttft_ms));
  slo_tpot_ms = number_of(head.get(Field::x_slo_tpot_ms));
  explain = head.get(Field::x_penstock_explain) == "1";
  request_id = head.get(Field::x_request_id);
  if (request_id.empty()) request_id = make_request_id(random);

  fields.append("x-forwarded-for: ");
  if (!forwarded_for.empty()) fields.append(forwarded_for).append(", ");
  fields.append(client_ip.empty() ? std::string_view("unknown") : client_ip).append("\r\n");
  append_field(fields, "x-forwarded-proto", "http");
  fields.append("via: ");
  if (!via.empty()) fields.append(via).append(", ");
  fields.append(kVia).append("\r\n");
  append_field(fields, "x-request-id", request_id);
}

void append_request_head(std::string& out, const ForwardedHead& head, std::string_view endpoint_host, bool has_body,
                         uint64_t body_bytes) {
  out.append(head.method).append(" ").append(head.path).append(" HTTP/1.1\r\nhost: ");
  out.append(head.host.empty() ? endpoint_host : std::string_view(head.host)).append("\r\n");
  out.append(head.fields);
  if (has_body) {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, body_bytes).ptr;
    append_field(out, "content-length", {digits, static_cast<size_t>(end - digits)});
  }
  out.append("\r\n");
}

Framing framing_for(const http::Head& answer, bool head_request, uint8_t client_minor_version) {
  if (head_request || answer.status == 204 || answer.status == 304) return Framing::none;
  if (answer.has_content_length) return Framing::same;
  if (client_minor_version == 0) return Framing::until_close;
  return answer.chunked ? Framing::same : Framing::chunked;
}

void append_answer_head(std::string& out, const http::Head& answer, const AnswerContext& context) {
  http::HeadWriter head(out);
  head.status_line(answer.status, answer.reason);
  bool has_via = false;
  for (const http::Header& header : answer.headers()) {
    if (header.field == Field::x_request_id || header.field == Field::x_penstock_endpoint) continue;
    if (header.field == Field::content_length && context.framing == Framing::chunked) continue;
    if (is_hop_by_hop(answer, header)) continue;
    if (header.field == Field::via) {
      has_via = true;
      out.append("via: ").append(header.value).append(", ").append(kVia).append("\r\n");
      continue;
    }
    append_field(out, header.name, header.value);
  }
  if (!has_via) append_field(out, "via", kVia);
  append_field(out, "x-request-id", context.request_id);
  append_field(out, "x-penstock-endpoint", context.endpoint);
  if (!context.explanation.empty()) append_field(out, "x-penstock-explain", context.explanation);
  const bool chunked = context.framing == Framing::chunked || (context.framing == Framing::same && answer.chunked);
  if (chunked) append_field(out, "transfer-encoding", "chunked");
  if (!context.keep_alive) append_field(out, "connection", "close");
  else if (context.client_minor_version == 0) append_field(out, "connection", "keep-alive");
  head.end();
}

}  // namespace penstock::proxy
