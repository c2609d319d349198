// What continues a broken stream, fed with anything. First byte 'R' (chat), 'P' (completion), 'M' (message) or 'A'
// (response): the rest is the body of a request; what is made of a body that is JSON must be JSON. Otherwise 'c'
// (chat), 'm' (message), 'a' (response) or 't' (completion): lines, each an event of the stream, up to one that begins
// with '=': behind it a stop string, and the lines that follow are events of the continuation. What is taken for text
// must be text by a parser, and what the client gets must be events whose text is remembered.
#include <simdjson.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/openai/continuation.h"
#include "penstock/openai/resume_request.h"

namespace {

using namespace penstock::openai;
namespace dom = simdjson::dom;

[[noreturn]] void complain(const char* what, std::string_view bytes) {
  std::fprintf(stderr, "%s: %.*s\n", what, static_cast<int>(bytes.size()), bytes.data());
  std::abort();
}

bool is_json(const std::string& text) {
  dom::parser parser;
  return parser.parse(text).error() == simdjson::SUCCESS;
}

void request(Api api, std::string_view bytes) {
  std::string body(bytes);
  const size_t size = body.size();
  body.append(64, ' ');
  ResumeRequest request;
  if (ResumeRequest::read(api, std::string_view(body).substr(0, size), "m", request) != ResumeObstacle::none) return;
  const bool json = is_json(body.substr(0, size));
  for (const std::string& made : {request.tokenize_prompt(), request.tokenize_text("x\\n"),
                                  request.continuation({1}, {2, 3}, 100), request.text_continuation("x\\n", 3)}) {
    if (json && !made.empty() && !is_json(made)) complain("no JSON was made", made);
  }
}

// The text of an event's only choice, decoded. False: it is no JSON, or not such an event.
bool text_of(Api api, std::string_view event, std::string& text) {
  dom::parser parser;
  dom::element choice, finish, usage;
  std::string_view found;
  dom::element root;
  if (parser.parse(simdjson::padded_string(event)).get(root)) return false;
  if (api == Api::messages) {
    std::string_view type;
    if (root["type"].get(type)) return false;
    if (root["delta"]["text"].get(found)) return type == "content_block_start";  // ours, in front of the first text
    text = found;
    return type == "content_block_delta";
  }
  if (api == Api::responses) {
    std::string_view type;
    if (root["type"].get(type)) return false;
    if (type == "response.output_item.added" || type == "response.content_part.added") return true;  // ours, likewise
    if (root["delta"].get(found)) return false;
    text = found;
    return type == "response.output_text.delta";
  }
  if (root["choices"].at(0).get(choice)) return false;
  if (!choice["finish_reason"].get(finish) && !finish.is_null()) return false;
  if (!root["usage"].get(usage) && usage.is_object()) return false;
  const bool chat = api == Api::chat_completions;
  if ((chat ? choice["delta"]["content"] : choice["text"]).get(found)) return false;
  text = found;
  return true;
}

std::string decoded(std::string_view escaped) {
  dom::parser parser;
  std::string_view text;
  if (parser.parse("\"" + std::string(escaped) + "\"").get(text)) complain("what was remembered is no text", escaped);
  return std::string(text);
}

void deliver(Api api, Delivered& delivered, const std::string& event) {
  const size_t before = delivered.text().size();
  const Delivered::Took took = delivered.take(event);
  if (!delivered.can_go_on() && !delivered.text().empty()) complain("text is kept in vain", event);
  if (took != Delivered::Took::text || !delivered.can_go_on()) return;
  if (!is_json(event)) return;  // nobody looks at all of it
  std::string text;
  if (!text_of(api, event, text)) complain("no text", event);
  if (text != decoded(delivered.text().substr(before))) complain("other text", event);
}

void go_on(Api api, Delivered& delivered, Continuation& continuation, const std::string& event) {
  const size_t before = delivered.text().size();
  const bool finished = delivered.finished();
  std::string out, text;
  const auto state = continuation.take(event, out);
  const bool ended = delivered.finished() || !delivered.finish_reason().empty();
  if (state == Continuation::State::over && !ended) complain("over without an end", event);
  bool comparable = delivered.can_go_on() && !delivered.finished();
  for (std::string_view rest = out; !rest.empty();) {
    const size_t end = rest.find("\n\n");
    const size_t data = rest.find("data: {");
    const bool fits = api == Api::messages    ? rest.starts_with("event: content_block_")
                      : api == Api::responses ? rest.starts_with("event: response.")
                                              : data == 0;
    if (!fits || data > end || end == std::string_view::npos || finished) complain("no event", out);
    const std::string sent(rest.substr(data + 6, end - data - 6));
    std::string piece;
    comparable = comparable && is_json(sent);  // as an event of the stream was not
    if (comparable && !text_of(api, sent, piece)) complain("an event without text", out);
    text += piece;
    rest.remove_prefix(end + 2);
  }
  if (comparable && text != decoded(delivered.text().substr(before))) complain("text is lost", event);
}

// The last events are JSON, if the first one was.
void end(Api api, Delivered& delivered) {
  std::string out;
  delivered.append_end_events(out, Usage{1, 2, std::nullopt});
  const std::string last = api == Api::messages    ? "data: {\"type\":\"message_stop\"}"
                           : api == Api::responses ? ",\"type\":\"response.completed\"}"
                                                   : "data: [DONE]";
  if (!out.ends_with(last + "\n\n")) complain("no end", out);
}

void stream(Api api, std::string_view lines, bool keeps_ids = false) {
  Delivered delivered(api, 4096, keeps_ids);
  const auto next_line = [&lines] {
    const std::string line(lines.substr(0, lines.find('\n')));
    lines.remove_prefix(line.size() == lines.size() ? line.size() : line.size() + 1);
    return line;
  };
  std::string line;
  while (!lines.empty() && !line.starts_with('=')) {
    line = next_line();
    if (!line.starts_with('=')) deliver(api, delivered, line);
  }
  if (!delivered.can_go_on() || delivered.finished()) return;
  Continuation continuation(delivered, {line.empty() ? line : line.substr(1)}, line.size() % 2 == 0);
  while (!lines.empty()) go_on(api, delivered, continuation, next_line());
  if (!delivered.finish_reason().empty()) end(api, delivered);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  switch (bytes[0]) {
    case 'R':
      request(Api::chat_completions, bytes.substr(1));
      break;
    case 'P':
      request(Api::completions, bytes.substr(1));
      break;
    case 'M':
      request(Api::messages, bytes.substr(1));
      break;
    case 'A':
      request(Api::responses, bytes.substr(1));
      break;
    case 'a':
      stream(Api::responses, bytes.substr(1));
      break;
    case 'm':
      stream(Api::messages, bytes.substr(1));
      break;
    case 'i':
      stream(Api::chat_completions, bytes.substr(1), /*keeps_ids=*/true);
      break;
    case 'c':
      stream(Api::chat_completions, bytes.substr(1));
      break;
    default:
      stream(Api::completions, bytes.substr(1));
      break;
  }
  return 0;
}
