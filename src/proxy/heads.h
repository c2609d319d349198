// Rewrites heads on their way through: what is forwarded, what is stripped, what is added. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "penstock/base/containers.h"
#include "penstock/base/random.h"
#include "penstock/http/head.h"
#include "penstock/objects/types.h"

namespace penstock::proxy {

// Clears a string that will be used again. Frees its memory if that is more than a usual request needs.
inline void recycle(std::string& text) {
  constexpr size_t kept_max = 8 * 1024;
  if (text.empty()) return;  // the usual case; its capacity was checked when it was last recycled
  if (text.capacity() > kept_max) free_memory(text);
  text.clear();
}

template <typename... Texts>
void recycle_all(Texts&... texts) {
  (recycle(texts), ...);
}

// What is kept of a request's head: the fields to forward, ready to send, and the values that the exchange itself
// needs. All of it is copied, so that the Head can be released as soon as the request has been read.
struct ForwardedHead {
  std::string fields;        // "name: value\r\n"...: end-to-end fields as received, x-forwarded-*, via, x-request-id
  std::string method, path;  // path: origin-form target
  std::string rewritten;     // the path as a route rewrites it; "": not rewritten
  std::string request_id;
  std::string host;      // "" when the client sent none (HTTP/1.0)
  bool json = false;     // content-type is JSON, or missing
  bool traced = false;   // there is a traceparent among `fields`
  bool explain = false;  // x-penstock-explain: 1
  std::string session, fairness_id, objective, model_rewrite, test_endpoints;
  double slo_ttft_ms = 0, slo_tpot_ms = 0;

  // Must be new or cleared. `peer_ip` is appended to X-Forwarded-For, whoever wrote what is there; X-Forwarded-Proto is
  // kept if the peer is a trusted proxy (`from_proxy`). A request without a fairness id takes it from the first
  // non-empty field among `identities`.
  void assign(const http::Head& head, std::string_view peer_ip, Random& random,
              std::span<const std::string> identities = {}, bool from_proxy = false);
  void clear();
  // The path for the endpoint, with the query.
  std::string_view target() const { return rewritten.empty() ? path : rewritten; }
  // Whether a field of this name is forwarded.
  bool has(std::string_view name) const;
  // Of the traceparent among the fields; "": there is none. Looks for it.
  std::string_view trace_id() const;
  // Applies a route's changes to the forwarded fields.
  void change(std::span<const objects::HeaderChange> changes);

 private:
  void take_gateway_field(const http::Header& header);
  void identify(const http::Head& head, std::span<const std::string> names);
};

// The head of an attempt: request line, Host, the forwarded fields, `more` fields ("name: value\r\n"...),
// Content-Length when there is a body.
void append_request_head(std::string& out, const ForwardedHead& head, std::string_view endpoint_host, bool has_body,
                         uint64_t body_bytes, std::string_view more = {});

// How the body of an answer is framed towards the client.
enum class Framing : uint8_t {
  none,         // no body (HEAD, 204, 304)
  same,         // as received: Content-Length, or chunked to an HTTP/1.1 client
  chunked,      // the endpoint ends its answer by closing, or the length changes; to an HTTP/1.1 client
  until_close,  // any answer without a known length, to an HTTP/1.0 client
  whole,        // gathered, then sent with a Content-Length
};
struct AnswerContext {
  Framing framing;
  bool keep_alive;
  uint8_t client_minor_version;
  std::string_view endpoint, request_id, explanation;  // endpoint: "" if it is not shown
  std::string_view session_token = {};                 // "": none is given
};
Framing framing_for(const http::Head& answer, bool head_request, uint8_t client_minor_version);
// With Framing::whole the Content-Length is left out: see append_length().
void append_answer_head(std::string& out, const http::Head& answer, const AnswerContext& context);
// Adds a Content-Length to a finished head.
void append_length(std::string& head, uint64_t bytes);
// Applies a route's changes to a finished answer head.
void change_answer_head(std::string& head, std::span<const objects::HeaderChange> changes);

// Whether the first byte that is not white space begins an object.
bool looks_like_json(std::string_view body);
// The body is compressed, so the gateway cannot read it.
bool has_content_encoding(const http::Head& head);

}  // namespace penstock::proxy
