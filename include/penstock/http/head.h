// The head of an HTTP/1.x message as the codec delivers it: the values of the start line and the header fields in their
// order. All of them are views into storage that the Head owns, so they outlive the receive buffer.
// Pure; one thread. Heads are reused: clear() keeps the memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::http {

enum class Method : uint8_t { get, head, post, put, delete_, options, patch, connect, trace, other };

// Header fields that some part of the gateway uses; all others are `other`. Looked up once, when the head is parsed.
enum class Field : uint8_t {
  other,
  host,
  connection,
  keep_alive,
  proxy_connection,
  te,
  trailer,
  transfer_encoding,
  upgrade,
  content_length,
  content_type,
  expect,
  accept,
  authorization,
  retry_after,
  date,
  server,
  via,
  x_forwarded_for,
  x_forwarded_proto,
  x_request_id,
  traceparent,
  x_session_token,
  x_gateway_inference_objective,
  x_gateway_inference_fairness_id,
  x_gateway_model_name_rewrite,
  x_gateway_destination_endpoint,
  x_gateway_destination_endpoint_subset,
  x_gateway_destination_endpoint_served,
  x_prefiller_host_port,
  x_encoder_hosts_ports,
  x_data_parallel_host_port,
  x_kv_cache_source_host_port,
  x_slo_ttft_ms,
  x_slo_tpot_ms,
  x_penstock_resume,
  x_penstock_explain,
  x_penstock_endpoint,
  test_epp_endpoint_selection,
  proxy_authenticate,
  proxy_authorization,
};
// Case-insensitive. The x-llm-d-* spellings map to the same values as their x-gateway-* / x-slo-* names.
Field field_of(std::string_view name);

struct Header {
  std::string_view name, value;  // name as received (case kept); value trimmed
  Field field;
};

class Head {
 public:
  // Requests.
  Method method = Method::other;
  std::string_view method_text, target;  // target: origin-form or absolute-form, as received
  // Responses.
  uint16_t status = 0;
  std::string_view reason;
  // Both.
  uint8_t minor_version = 1;  // HTTP/1.x
  bool keep_alive = false;    // as version and Connection field together say
  bool chunked = false;
  bool has_content_length = false;
  uint64_t content_length = 0;
  bool expects_continue = false;  // Expect: 100-continue (requests)
  bool upgrade = false;

  const std::vector<Header>& headers() const { return headers_; }
  // First value of the field; empty view when absent (use has() to tell from an empty value).
  std::string_view get(Field field) const;
  bool has(Field field) const;
  // True when the Connection header lists this name (such fields are hop-by-hop).
  bool named_by_connection(std::string_view name) const;
  // Connection may list names other than `close` and `keep-alive`.
  bool connection_names_fields() const { return connection_names_fields_; }
  // The lines of headers() [first, last), each with its line end, as received.
  std::string_view lines(size_t first, size_t last) const;
  size_t bytes() const { return storage_.size(); }  // size of the head on the wire, roughly
  void clear();

 private:
  friend class HeadBuilder;  // the codec
  friend class HeadMemory;
  std::string storage_;
  std::vector<Header> headers_;
  bool connection_names_fields_ = false;  // Connection lists more than close and keep-alive
};

// True for fields that end at this hop: Connection, Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding,
// Upgrade, Proxy-Authenticate, Proxy-Authorization, and those that Connection lists. Never Host, Content-Length or
// Content-Type: a peer must not be able to remove them by listing them.
bool is_hop_by_hop(const Head& head, const Header& header);

// The path of a request target without query, also for absolute-form ("http://host/path?q" -> "/path").
std::string_view path_of(std::string_view target);

}  // namespace penstock::http
