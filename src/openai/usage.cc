#include "penstock/openai/usage.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "blocks.h"
#include "completion_tail.h"
#include "json_text.h"
#include "penstock/base/text.h"
#include "plain_tail.h"
#include "scratch.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr int tail_tries_max = 8;

// Whether `text` begins with a key and a value that say more than text does: usage, the end of a choice, an error.
bool says_more(std::string_view text) {
  switch (text[1]) {
    case 'u':
      return value_after_key(text, R"("usage")") == '{';
    case 'f':
      return value_after_key(text, R"("finish_reason")") == '"';
    default: {
      const char error = value_after_key(text, R"("error")");
      return error == '{' || error == '"';
    }
  }
}

// Whether an event has anything to be read but text. Looks only where there is a quote and one of three letters behind
// it; the last block goes back a bit.
bool worth_parsing(std::string_view data) {
  if (data.starts_with(R"({"object":"error")")) return true;
  constexpr size_t step = sizeof(Block);
  if (data.size() <= step) {
    for (size_t at = 0; at + 1 < data.size(); ++at) {
      const char letter = data[at + 1];
      if (data[at] == '"' && (letter == 'u' || letter == 'f' || letter == 'e') && says_more(data.substr(at)))
        return true;
    }
    return false;
  }
  const size_t last = data.size() - step - 1;
  for (size_t at = 0;; at = std::min(at + step, last)) {
    const Block quotes = block_at(data.data() + at), letters = block_at(data.data() + at + 1);
    const auto hits = (quotes == '"') & ((letters == 'u') | (letters == 'f') | (letters == 'e'));
    for (uint32_t bits = bits_of(hits); bits != 0; bits &= bits - 1) {
      if (says_more(data.substr(at + static_cast<size_t>(std::countr_zero(bits))))) return true;
    }
    if (at == last) return false;
  }
}

struct Seen {
  bool error = false, usage = false, choices = false, reason = false;
  bool client_error = false;  // the error is laid to the request
  bool full = false;          // the error's type says that the server takes no more for now
  bool error_object = false;  // under the key "error" at the top level
  uint32_t error_code = 0;
  uint32_t finishes = 0;   // finish reasons of choices, stop reasons of a message
  bool no_reason = false;  // the delta of a message has null instead
};

// Reads one event or answer into an observer's fields. Anything of an unexpected shape is passed over.
class Reader {
 public:
  Reader(std::optional<Usage>& usage, std::string& finish_reason) : usage_(usage), finish_reason_(finish_reason) {}

  // False when `text` is not a whole JSON object (what was read until then stays).
  bool read(std::string_view lead, std::string_view text) {
    ondemand::document document;
    ondemand::object object;
    if (!scratch().open(lead, text, document) || document.get_object().get(object)) return false;
    const auto top = [this](std::string_view key, ondemand::value value) { return read_field(key, value, true); };
    return each_field(object, top) && document.current_location().error() == simdjson::OUT_OF_BOUNDS;
  }
  const Seen& seen() const { return seen_; }

 private:
  static char kind(ondemand::value& value) {
    const std::string_view token = value.raw_json_token();
    return token.empty() ? '\0' : token.front();
  }

  bool read_field(std::string_view key, ondemand::value value, bool top) {
    if (key == "choices") return read_choices(value);
    if (key == "usage") return read_usage(value);
    if (key == "finish_reason" || key == "stop_reason") return read_finish(value);
    if (key == "status") return seen_.reason || read_text(value, finish_reason_);
    if (key == "incomplete_details") {
      return each_field(value, [this](std::string_view name, ondemand::value detail) {
        if (name != "reason" || kind(detail) != '"') return true;
        seen_.reason = true;  // says more than the status does
        return read_text(detail, finish_reason_);
      });
    }
    if (key == "error") {
      const bool says_something = kind(value) == '{' || kind(value) == '"';
      seen_.error |= says_something;
      seen_.error_object |= top && says_something;
      return each_field(value, [this](std::string_view name, ondemand::value field) {
        if (name == "code") read_number(field, [this](uint32_t number) { seen_.error_code = number; });
        if (name == "type") read_error_type(field.raw_json_token());
        return true;
      });
    } else if (top && key == "code") {
      read_number(value, [this](uint32_t number) { seen_.error_code = number; });
    } else if (top && (key == "object" || key == "type")) {
      seen_.error = seen_.error || value.raw_json_token().starts_with(R"("error")");
    } else if (top && (key == "response" || key == "message" || key == "delta")) {
      return each_field(value, [this, key](std::string_view name, ondemand::value inner) {
        seen_.no_reason |= key == "delta" && name == "stop_reason" && kind(inner) == 'n';
        return read_field(name, inner, false);
      });
    }
    return true;
  }

  // Errors of the messages API have no code, but a type: Anthropic's own word, or what vLLM calls the status 503.
  void read_error_type(std::string_view token) {
    const auto is = [&](std::string_view type) { return token.starts_with(type); };
    seen_.client_error |= is(R"("invalid_request_error")") || is(R"("BadRequestError")");
    seen_.full |= is(R"("overloaded_error")") || is(R"("Service Unavailable")") || is(R"("ServiceUnavailableError")");
  }

  // Leaves `to` as it is when the value is no string.
  static bool read_text(ondemand::value value, std::string& to) {
    std::string_view text;
    if (kind(value) != '"') return true;
    if (value.get_string().get(text)) return false;
    to = text;
    return true;
  }

  // Some servers send an empty reason with every chunk.
  bool read_finish(ondemand::value value) {
    std::string_view text;
    if (kind(value) != '"') return true;
    if (value.get_string().get(text)) return false;
    if (text.empty()) return true;
    finish_reason_ = text;
    ++seen_.finishes;
    return true;
  }

  bool read_choices(ondemand::value value) {
    ondemand::array choices;
    if (kind(value) != '[') return true;
    if (value.get_array().get(choices)) return false;
    for (auto result : choices) {
      ondemand::value choice;
      if (std::move(result).get(choice)) return false;
      seen_.choices = true;
      const bool ok = each_field(choice, [this](std::string_view key, ondemand::value field) {
        return key != "finish_reason" || read_finish(field);
      });
      if (!ok) return false;
    }
    return true;
  }

  bool read_usage(ondemand::value value) {
    if (kind(value) != '{') return true;
    Usage usage = usage_.value_or(Usage{});  // a message's events each bring a part
    const auto cached = [&usage](std::string_view key, ondemand::value field) {
      if (key == "cached_tokens") read_number(field, [&usage](uint32_t number) { usage.cached_tokens = number; });
      return true;
    };
    const bool ok = each_field(value, [&](std::string_view key, ondemand::value field) {
      if (key == "prompt_tokens" || key == "input_tokens") {
        read_number(field, [&usage](uint32_t number) { usage.prompt_tokens = number; });
      } else if (key == "completion_tokens" || key == "output_tokens") {
        read_number(field, [&usage](uint32_t number) { usage.completion_tokens = number; });
      } else if (key == "cache_read_input_tokens") {
        read_number(field, [&usage](uint32_t number) { usage.cached_tokens = number; });
      } else if (key == "prompt_tokens_details" || key == "input_tokens_details") {
        return each_field(field, cached);
      }
      return true;
    });
    if (!ok) return false;
    usage_ = usage;
    seen_.usage = true;
    return true;
  }

  // Calls take(number) when the value is a whole number that is not negative.
  template <typename Take>
  static void read_number(ondemand::value value, Take take) {
    uint64_t number = 0;
    if (value.get_uint64().get(number)) return;
    take(static_cast<uint32_t>(std::min<uint64_t>(number, std::numeric_limits<uint32_t>::max())));
  }

  std::optional<Usage>& usage_;
  std::string& finish_reason_;
  Seen seen_;
};

// The fields behind `key` at the top level of an answer of which only the tail is looked at. The key is at the top
// level exactly if a brace put before it makes the rest a whole object.
bool read_tail(std::string_view tail, std::string_view key, std::optional<Usage>& usage, std::string& reason) {
  size_t at = tail.rfind(key);
  for (int tries = 0; at != std::string_view::npos && tries < tail_tries_max; ++tries) {
    size_t before = at;
    while (before > 0 && is_space(tail[before - 1])) --before;
    const bool is_key = before > 0 && (tail[before - 1] == ',' || tail[before - 1] == '{') &&
                        value_after_key(tail.substr(at), key) != 0;
    std::optional<Usage> found_usage;
    std::string found_reason;
    if (is_key && Reader(found_usage, found_reason).read("{", tail.substr(at))) {
      if (found_usage) usage = found_usage;
      if (!found_reason.empty()) reason = std::move(found_reason);
      return true;
    }
    if (at == 0) break;
    at = tail.rfind(key, at - 1);
  }
  return false;
}

// An answer of the completions APIs, of which only the end is read. False, and nothing read, if that may not say all.
bool read_completion_tail(std::string_view json, std::optional<Usage>& usage, std::string& reason) {
  const std::string_view tail = completion_tail(json);
  if (tail.empty()) return false;
  if (const auto plain = read_plain_tail(tail)) {
    usage = plain->usage;
    copy_text(reason, plain->finish_reason);
    return true;
  }
  std::optional<Usage> found_usage;
  std::string found_reason;
  if (!Reader(found_usage, found_reason).read(completion_tail_lead, tail)) return false;
  usage = found_usage;
  reason = std::move(found_reason);
  return true;
}

enum class Name { content, parse, finished, failed, stop, other, unknown };

// The events of the responses and messages APIs.
Name name_of(std::string_view name) {
  if (name.starts_with("response.")) {
    if (name.ends_with(".delta")) return Name::content;
    if (name == "response.completed" || name == "response.incomplete" || name == "response.cancelled") {
      return Name::finished;
    }
    return name == "response.failed" ? Name::failed : Name::other;
  }
  if (name == "content_block_delta") return Name::content;
  if (name == "message_start" || name == "message_delta") return Name::parse;
  if (name == "message_stop") return Name::stop;
  if (name == "content_block_start" || name == "content_block_stop" || name == "ping") return Name::other;
  return name == "error" ? Name::failed : Name::unknown;
}

// Events that are sent without a name say it in their data, in front.
std::string_view type_in(std::string_view data) {
  constexpr std::string_view lead = R"({"type":")";
  data = data.substr(0, 64);
  if (!data.starts_with(lead)) return "";
  data.remove_prefix(lead.size());
  return data.substr(0, data.find('"'));
}

}  // namespace

AnswerObserver::AnswerObserver() = default;
AnswerObserver::~AnswerObserver() = default;

void AnswerObserver::reset() {
  usage_.reset();
  finish_reason_.clear();
  finishes_ = 0;
  done_ = server_failed_ = server_busy_ = refused_ = gave_up_ = error_object_ = error_named_ = no_reason_ = false;
}

AnswerObserver::Kind AnswerObserver::on_event(std::string_view name, std::string_view data) {
  error_named_ = !name.empty();
  if (name.empty()) name = type_in(data);
  const Name meaning = name.empty() ? Name::unknown : name_of(name);
  switch (meaning) {
    case Name::content:
      return Kind::content;
    case Name::other:
      return Kind::other;
    case Name::stop:
      gave_up_ = no_reason_ && finishes_ == 0;
      if (gave_up_) finish_reason_ = "abort";
      done_ = !gave_up_;
      return Kind::done;
    case Name::parse:
    case Name::finished:
    case Name::failed:
    case Name::unknown:
      break;
  }
  if (meaning == Name::unknown) {
    if (data.starts_with(std::string_view("[DONE]"))) {
      done_ = true;
      return Kind::done;
    }
    if (!data.starts_with('{')) return Kind::other;
    if (!worth_parsing(data)) return Kind::content;
  }
  Reader reader(usage_, finish_reason_);
  const bool whole = data.size() <= answer_bytes_max && reader.read("", data);
  scratch().shrink();
  finishes_ += reader.seen().finishes;
  no_reason_ = no_reason_ || reader.seen().no_reason;
  gave_up_ = reason_gives_up();
  if (meaning == Name::finished) {
    // So vLLM calls an answer of gpt-oss that was aborted. One that its client has cancelled is response.cancelled.
    if (name == "response.completed" && finish_reason_ == "cancelled") {
      gave_up_ = true;
      finish_reason_ = "abort";
    }
    done_ = !gave_up_;
    return Kind::done;
  }
  if (meaning == Name::failed || reader.seen().error) {
    const uint32_t code = reader.seen().error_code;
    const bool clients = reader.seen().client_error || (code >= 400 && code < 500);
    server_failed_ = server_failed_ || !clients;
    refused_ = refused_ || clients;
    server_busy_ = server_busy_ || code == 503 || (code == 0 && reader.seen().full);
    error_named_ = error_named_ && meaning == Name::failed;
    error_object_ = reader.seen().error_object;
    return Kind::error;
  }
  if (!whole) return Kind::other;
  if (reader.seen().choices) return Kind::content;
  return reader.seen().usage && name != "message_start" ? Kind::usage_only : Kind::other;
}

bool AnswerObserver::reason_gives_up() const {
  return finish_reason_ == "abort" || finish_reason_ == "error";
}

bool AnswerObserver::on_answer(std::string_view json) {
  if (json.size() > answer_bytes_max) return on_tail(json);
  const bool nothing_known = !usage_ && finish_reason_.empty();
  bool whole = nothing_known && read_completion_tail(json, usage_, finish_reason_);
  if (!whole) {
    whole = Reader(usage_, finish_reason_).read("", json);
    scratch().shrink();
  }
  gave_up_ = reason_gives_up();
  return whole;
}

bool AnswerObserver::on_tail(std::string_view tail) {
  tail = tail.substr(tail.size() - std::min(tail.size(), tail_bytes));
  // Each brings what follows it; "stop_reason" stands before "usage" in a message.
  if (!read_tail(tail, R"("stop_reason")", usage_, finish_reason_) || !usage_) {
    read_tail(tail, R"("usage")", usage_, finish_reason_);
  }
  scratch().shrink();
  gave_up_ = reason_gives_up();
  return trim_end(tail).ends_with('}');
}

bool says_full(std::string_view error_body) {
  AnswerObserver observer;
  observer.on_event("", error_body);
  return observer.server_busy();
}

}  // namespace penstock::openai
