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

// Empties a text that will be used again. What a usual request does not need is given back.
inline void empty(std::string& text) {
  constexpr size_t kept_max = 8 * 1024;
  if (text.empty()) return;  // as most are; it was emptied here
  if (text.capacity() > kept_max) free_memory(text);
  text.clear();
}

template <typename... Texts>
void empty_all(Texts&... texts) {
  (empty(texts), ...);
}

// What is kept of a request's head: the fields to forward, ready to send, and what the exchange itself needs.
// One string holds all of it, so that a Head can be given back as soon as the request has been read.
struct ForwardedHead {
  std::string fields;        // "name: value\r\n"...: end-to-end fields as received, x-forwarded-*, via, x-request-id
  std::string method, path;  // path: origin-form target
  std::string rewritten;     // what a route made of the path; "": nothing
  std::string request_id;
  std::string host;      // "" when the client sent none (HTTP/1.0)
  bool json = false;     // content-type says JSON or nothing
  bool explain = false;  // x-penstock-explain: 1
  std::string session, fairness_id, objective, model_rewrite, test_endpoints;
  double slo_ttft_ms = 0, slo_tpot_ms = 0;

  // Of a new or cleared one. Without a fairness id of its own the request has that of the first of the fields
  // `identities` that says something.
  void assign(const http::Head& head, std::string_view client_ip, Random& random,
              std::span<const std::string> identities = {});
  void clear();
  // The path for the endpoint, with the query.
  std::string_view target() const { return rewritten.empty() ? path : rewritten; }
  // What a route changes of the forwarded fields.
  void change(std::span<const objects::HeaderChange> changes);

 private:
  void obey(const http::Header& header);
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
  chunked,      // an endpoint that closes at the end, to an HTTP/1.1 client
  until_close,  // anything without length to an HTTP/1.0 client
  whole,        // gathered, and sent with its length when it is complete
};
struct AnswerContext {
  Framing framing;
  bool keep_alive;
  uint8_t client_minor_version;
  std::string_view endpoint, request_id, explanation;
  std::string_view session_token = {};  // "": none is given
};
Framing framing_for(const http::Head& answer, bool head_request, uint8_t client_minor_version);
// With Framing::whole the Content-Length is left out: see append_length().
void append_answer_head(std::string& out, const http::Head& answer, const AnswerContext& context);
// Adds a Content-Length to a finished head.
void append_length(std::string& head, uint64_t bytes);
// What a route changes of a finished answer head.
void change_answer_head(std::string& head, std::span<const objects::HeaderChange> changes);

// Whether the first byte that is no space begins an object.
bool looks_like_json(std::string_view body);
// The body is compressed: nobody on the way can read it.
bool has_content_encoding(const http::Head& head);

}  // namespace penstock::proxy
