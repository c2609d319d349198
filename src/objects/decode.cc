#include "penstock/objects/decode.h"

#include "json.h"

namespace penstock::objects {

struct Decoder::State {
  Strictness strictness;
  simdjson::ondemand::parser parser;  // its buffers grow to the largest object and stay
};

namespace {

std::unique_ptr<json::Body> body_of(Kind kind) {
  switch (kind) {
    case Kind::pod:
    case Kind::endpoint_slice:
    case Kind::service:
    case Kind::name_space:
    case Kind::secret:
    case Kind::config_map:
      return json::core_body(kind);
    case Kind::inference_pool:
    case Kind::inference_pool_legacy:
    case Kind::model_rewrite:
    case Kind::model_rewrite_legacy:
    case Kind::objective:
    case Kind::objective_legacy:
      return json::inference_body(kind);
    case Kind::gateway_class:
    case Kind::gateway:
    case Kind::http_route:
    case Kind::reference_grant:
    case Kind::backend_tls_policy:
      break;
  }
  return json::gateway_body(kind);
}

}  // namespace

std::string DecodeError::text() const {
  std::string out;
  for (const FieldProblem& problem : problems) {
    if (!out.empty()) out += "; ";
    out.append(problem.path).append(problem.path.empty() ? "" : " ").append(problem.message);
  }
  return out;
}

Decoder::Decoder(Strictness strictness) : state_(std::make_unique<State>()) {
  state_->strictness = strictness;
}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

Result<Object, DecodeError> Decoder::decode_padded(Kind kind, std::string_view json) {
  static_assert(padding >= simdjson::SIMDJSON_PADDING);
  DecodeError error;
  json::Reader reader(state_->strictness, error.problems);
  const std::unique_ptr<json::Body> body = body_of(kind);
  simdjson::ondemand::document document;
  simdjson::ondemand::object object;
  const simdjson::padded_string_view padded(json.data(), json.size(), json.size() + padding);
  if (state_->parser.iterate(padded).get(document) || document.get_object().get(object)) {
    error.problems.push_back({"", "is not a JSON object"});
    return error;
  }
  reader.members_of(object, [&](std::string_view key, json::Value value) { body->member(reader, key, value); });
  if (!reader.broken()) body->finish(reader);
  if (!error.problems.empty()) return error;
  return body->take();
}

Result<Object, DecodeError> Decoder::decode(Kind kind, std::string_view json) {
  const simdjson::padded_string padded(json);
  return decode_padded(kind, std::string_view(padded.data(), padded.size()));
}

}  // namespace penstock::objects
