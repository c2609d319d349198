// Rewrites heads on their way through: what is forwarded, what is stripped, what is added. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "penstock/base/random.h"
#include "penstock/http/head.h"

namespace penstock::proxy {

// What is kept of a request's head: the fields to forward, ready to send, and what the exchange itself needs.
// One string holds all of it, so that a Head can be given back as soon as the request has been read.
struct ForwardedHead {
  std::string fields;        // "name: value\r\n"...: end-to-end fields, x-forwarded-*, via, x-request-id
  std::string method, path;  // path: origin-form target
  std::string request_id;
  std::string host;      // "" when the client sent none (HTTP/1.0)
  bool json = false;     // content-type says JSON or nothing
  bool explain = false;  // x-penstock-explain: 1
  std::string session, fairness_id, objective, model_rewrite;
  double slo_ttft_ms = 0, slo_tpot_ms = 0;

  void assign(const http::Head& head, std::string_view client_ip, Random& random);
  void clear();
};

// The head of an attempt: request line, Host, the forwarded fields, Content-Length when there is a body.
void append_request_head(std::string& out, const ForwardedHead& head, std::string_view endpoint_host, bool has_body,
                         uint64_t body_bytes);

// How the body of an answer is framed towards the client.
enum class Framing : uint8_t {
  none,         // no body (HEAD, 204, 304)
  same,         // as received: Content-Length, or chunked to an HTTP/1.1 client
  chunked,      // an endpoint that closes at the end, to an HTTP/1.1 client
  until_close,  // anything without length to an HTTP/1.0 client
};
struct AnswerContext {
  Framing framing;
  bool keep_alive;
  uint8_t client_minor_version;
  std::string_view endpoint, request_id, explanation;
};
Framing framing_for(const http::Head& answer, bool head_request, uint8_t client_minor_version);
void append_answer_head(std::string& out, const http::Head& answer, const AnswerContext& context);

}  // namespace penstock::proxy
