#include "penstock/http/head.h"

#include <algorithm>
#include <array>

#include "bytes.h"

namespace penstock::http {

namespace {

struct Name {
  std::string_view text;
  Field field;
};

// In the order of their length: a look-up compares only with the names that are as long.
constexpr Name kNames[] = {
    {"te", Field::te},
    {"via", Field::via},
    {"host", Field::host},
    {"date", Field::date},
    {"accept", Field::accept},
    {"expect", Field::expect},
    {"server", Field::server},
    {"trailer", Field::trailer},
    {"upgrade", Field::upgrade},
    {"connection", Field::connection},
    {"keep-alive", Field::keep_alive},
    {"retry-after", Field::retry_after},
    {"traceparent", Field::traceparent},
    {"content-type", Field::content_type},
    {"x-request-id", Field::x_request_id},
    {"authorization", Field::authorization},
    {"x-slo-ttft-ms", Field::x_slo_ttft_ms},
    {"x-slo-tpot-ms", Field::x_slo_tpot_ms},
    {"content-length", Field::content_length},
    {"x-forwarded-for", Field::x_forwarded_for},
    {"x-session-token", Field::x_session_token},
    {"proxy-connection", Field::proxy_connection},
    {"transfer-encoding", Field::transfer_encoding},
    {"x-forwarded-proto", Field::x_forwarded_proto},
    {"x-penstock-resume", Field::x_penstock_resume},
    {"x-penstock-explain", Field::x_penstock_explain},
    {"proxy-authenticate", Field::proxy_authenticate},
    {"x-penstock-endpoint", Field::x_penstock_endpoint},
    {"proxy-authorization", Field::proxy_authorization},
    {"x-llm-d-slo-ttft-ms", Field::x_slo_ttft_ms},
    {"x-llm-d-slo-tpot-ms", Field::x_slo_tpot_ms},
    {"x-prefiller-host-port", Field::x_prefiller_host_port},
    {"x-encoder-hosts-ports", Field::x_encoder_hosts_ports},
    {"x-data-parallel-host-port", Field::x_data_parallel_host_port},
    {"x-llm-d-model-name-rewrite", Field::x_gateway_model_name_rewrite},
    {"x-kv-cache-source-host-port", Field::x_kv_cache_source_host_port},
    {"x-llm-d-inference-objective", Field::x_gateway_inference_objective},
    {"test-epp-endpoint-selection", Field::test_epp_endpoint_selection},
    {"x-gateway-model-name-rewrite", Field::x_gateway_model_name_rewrite},
    {"x-gateway-inference-objective", Field::x_gateway_inference_objective},
    {"x-llm-d-inference-fairness-id", Field::x_gateway_inference_fairness_id},
    {"x-gateway-destination-endpoint", Field::x_gateway_destination_endpoint},
    {"x-gateway-inference-fairness-id", Field::x_gateway_inference_fairness_id},
    {"x-gateway-destination-endpoint-subset", Field::x_gateway_destination_endpoint_subset},
    {"x-gateway-destination-endpoint-served", Field::x_gateway_destination_endpoint_served},
};
constexpr size_t kNameMax = 37;
static_assert(std::is_sorted(std::begin(kNames), std::end(kNames),
                             [](const Name& a, const Name& b) { return a.text.size() < b.text.size(); }));
static_assert(std::end(kNames)[-1].text.size() == kNameMax);

// kFirst[n]: index of the first name that has at least n bytes.
constexpr auto kFirst = [] {
  std::array<uint8_t, kNameMax + 2> first{};
  for (size_t length = 0; length < first.size(); ++length) {
    while (first[length] < std::size(kNames) && kNames[first[length]].text.size() < length) ++first[length];
  }
  return first;
}();

}  // namespace

Field field_of(std::string_view name) {
  if (name.size() > kNameMax || name.empty()) return Field::other;
  const char last = lower(name.back());
  for (size_t i = kFirst[name.size()]; i < kFirst[name.size() + 1]; ++i) {
    if (kNames[i].text.back() == last && equals_lower(name, kNames[i].text)) return kNames[i].field;
  }
  return Field::other;
}

std::string_view Head::get(Field field) const {
  for (const Header& header : headers_) {
    if (header.field == field) return header.value;
  }
  return {};
}

bool Head::has(Field field) const {
  return std::any_of(headers_.begin(), headers_.end(), [&](const Header& header) { return header.field == field; });
}

bool Head::named_by_connection(std::string_view name) const {
  if (!connection_names_fields_) return false;
  bool named = false;
  for (const Header& header : headers_) {
    if (header.field != Field::connection) continue;
    for_each_in_list(header.value, [&](std::string_view token) { named = named || same_ignoring_case(token, name); });
  }
  return named;
}

std::string_view Head::lines(size_t first, size_t last) const {
  if (first >= last) return {};
  const char* const begin = headers_[first].name.data();
  // Behind the last line stands only the empty one.
  const char* const end = last < headers_.size() ? headers_[last].name.data() : storage_.data() + storage_.size() - 2;
  return {begin, static_cast<size_t>(end - begin)};
}

void Head::clear() {
  storage_.clear();
  headers_.clear();
  method = Method::other;
  method_text = target = reason = {};
  status = 0;
  minor_version = 1;
  keep_alive = chunked = has_content_length = expects_continue = upgrade = connection_names_fields_ = false;
  content_length = 0;
}

bool is_hop_by_hop(const Head& head, const Header& header) {
  switch (header.field) {
    case Field::connection:
    case Field::keep_alive:
    case Field::proxy_connection:
    case Field::te:
    case Field::trailer:
    case Field::transfer_encoding:
    case Field::upgrade:
    case Field::proxy_authenticate:
    case Field::proxy_authorization:
      return true;
    // What the message means depends on these: a sender cannot have them removed on the way by listing them.
    case Field::host:
    case Field::content_length:
    case Field::content_type:
      return false;
    default:
      return head.named_by_connection(header.name);
  }
}

std::string_view path_of(std::string_view target) {
  if (!target.empty() && target.front() != '/') {
    const size_t scheme = target.find("://");
    if (scheme != std::string_view::npos) {
      const size_t path = target.find_first_of("/?#", scheme + 3);
      if (path == std::string_view::npos || target[path] != '/') return "/";
      target.remove_prefix(path);
    }
  }
  const auto end = std::find_if(target.begin(), target.end(), [](char c) { return c == '?' || c == '#'; });
  return target.substr(0, static_cast<size_t>(end - target.begin()));
}

}  // namespace penstock::http
