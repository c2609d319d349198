// Rewrites heads on their way through: what is forwarded, what is stripped, what is added. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "penstock/base/containers.h"
#include "penstock/base/random.h"
#include "penstock/downstream/responder.h"
#include "penstock/http/fields.h"
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

inline void recycle(http::Fields& fields) {
  recycle(fields.storage());
}

template <typename... Texts>
void recycle_all(Texts&... texts) {
  (recycle(texts), ...);
}

// What is kept of a request's head: the fields to forward, ready to send, and the values that the exchange itself
// needs. All of it is copied, so that the Head can be released as soon as the request has been read.
struct ForwardedHead {
  http::Fields fields;       // end-to-end fields as received, x-forwarded-*, via, x-request-id
  std::string method, path;  // path: origin-form target
  std::string rewritten;     // the path as a route rewrites it; "": not rewritten
  std::string request_id;
  std::string host;                                                // "" when the client sent none (HTTP/1.0)
  bool json = false;                                               // content-type is JSON, or missing
  bool traced = false;                                             // there is a traceparent among `fields`
  bool explain = false;                                            // x-penstock-explain: 1
  bool never_resume = false;                                       // x-penstock-resume: off
  bool websocket = false;                                          // it asks for one, and so will its attempts
  downstream::Protocol protocol = downstream::Protocol::http_1_1;  // of the client
  net::TlsVersion tls = net::TlsVersion::none;                     // of the client's connection
  std::string session, fairness_id, objective, model_rewrite, test_endpoints;
  std::unique_ptr<std::string> certificate;  // whom the client's certificate names; null: it has shown none
  double slo_ttft_ms = 0, slo_tpot_ms = 0;

  struct Sender {
    std::string_view ip = {};  // of the peer
    downstream::Protocol protocol = downstream::Protocol::http_1_1;
    net::TlsInfo tls = {};
    bool from_proxy = false;  // the peer is a trusted proxy
  };
  // Must be new or cleared. The sender's address is appended to X-Forwarded-For, whoever wrote what is there;
  // X-Forwarded-Proto is a trusted proxy's, or says whether this connection is TLS. A request without a fairness id
  // takes it from the first non-empty field among `identities`.
  void assign(const http::Head& head, const Sender& from, Random& random, std::span<const std::string> identities = {});
  void clear();
  // The path for the endpoint, with the query.
  std::string_view target() const { return rewritten.empty() ? path : rewritten; }
  // Of the traceparent among the fields; "": there is none. Looks for it.
  std::string_view trace_id() const;
  // Applies a route's changes to the forwarded fields.
  void change(std::span<const objects::HeaderChange> changes);

 private:
  void take_gateway_field(const http::Header& header);
  void identify(const http::Head& head, std::span<const std::string> names);
};

// The head of an attempt: request line, Host, the forwarded fields, `more` fields ("name: value\r\n"...),
// Content-Length when there is a body. `target`: in place of the request's own; "": that.
void append_request_head(std::string& out, const ForwardedHead& head, std::string_view endpoint_host, bool has_body,
                         uint64_t body_bytes, std::string_view more = {}, std::string_view target = {});

// What an answer's head says beside what the endpoint says. "": nothing.
struct AnswerContext {
  std::string_view endpoint = {}, request_id, explanation = {};  // endpoint: "" if it is not shown
  std::string_view session_token = {};
};
// The end-to-end fields of an answer. `keeps_length`: its Content-Length is among them, as its bytes pass as they are.
void append_answer_fields(http::Fields& out, const http::Head& answer, bool keeps_length, const AnswerContext& context);
// Applies a route's changes.
void change_fields(http::Fields& fields, std::span<const objects::HeaderChange> changes);

// Whether the first byte that is not white space begins an object.
bool looks_like_json(std::string_view body);
// The body is compressed, so the gateway cannot read it.
bool has_content_encoding(const http::Head& head);

}  // namespace penstock::proxy
