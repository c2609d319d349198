#include "resume_prompt.h"

#include <simdjson.h>

#include <utility>
#include <vector>

#include "json_string.h"
#include "json_text.h"
#include "penstock/base/text.h"
#include "scratch.h"

namespace penstock::openai {
namespace {

namespace ondemand = simdjson::ondemand;

// What stands between the quotes, as written.
using Texts = std::vector<std::string_view>;

bool is_string(std::string_view token) {
  return token.size() >= 2 && token.starts_with('"');
}
std::string_view unquoted(std::string_view token) {
  return token.substr(1, token.size() - 2);
}
std::string_view token_of(ondemand::value& value) {
  return trim_end(value.raw_json_token());
}

// Claude Code's block with a number that is another one in each request. Newer servers leave it out.
bool is_billing_header(std::string_view escaped) {
  std::string text;
  decode_string(escaped, text);
  return text.starts_with("x-anthropic-billing-header");
}

class ChatMaker {
 public:
  ResumePrompt take() {
    if (out_.messages.empty()) out_.messages += '[';
    out_.messages += ']';
    return std::move(out_);
  }

  void meet(ResumeObstacle obstacle) {
    if (out_.obstacle == ResumeObstacle::none || obstacle < out_.obstacle) out_.obstacle = obstacle;
  }

  // False, here and below: it is no JSON.
  bool system(std::string_view written) {
    const simdjson::padded_string padded(written);
    ondemand::parser parser;
    ondemand::document document;
    ondemand::value value;
    if (parser.iterate(padded).get(document)) return false;
    Texts texts;
    if (written.starts_with('"')) {
      texts.push_back(unquoted(written));
    } else if (document.get_value().get(value) || !blocks(value, texts)) {
      return false;
    }
    std::string whole;
    for (const std::string_view text : texts) {
      if (is_billing_header(text)) meet(ResumeObstacle::template_input);
      whole += text;
    }
    if (!whole.empty()) add(R"("system")", Texts{whole});
    return true;
  }

  bool messages(std::string_view written) {
    const simdjson::padded_string padded(written);
    ondemand::parser parser;
    ondemand::document document;
    ondemand::array array;
    if (parser.iterate(padded).get(document) || document.get_array().get(array)) return false;
    for (auto result : array) {
      ondemand::value element;
      if (std::move(result).get(element) || !message(element)) return false;
    }
    return true;
  }

 private:
  bool message(ondemand::value value) {
    std::string_view role;
    Texts texts;
    bool content = false;
    const bool read = each_field(value, [&](std::string_view key, ondemand::value field) {
      const std::string_view token = token_of(field);
      if (key == "role") {
        role = token;
      } else if (key == "content") {
        content = is_string(token);
        texts.clear();
        if (content) texts.push_back(unquoted(token));
        else return blocks(field, texts);
      } else if (token != "null") {
        meet(ResumeObstacle::unknown_field);
      }
      return true;
    });
    if (!read) return false;
    // Some templates want the system's words in front, and then servers put all of them there.
    const bool known = role == R"("user")" || role == R"("assistant")";
    if (known && (content || !texts.empty())) add(role, texts);
    else if (out_.obstacle == ResumeObstacle::none) meet(ResumeObstacle::template_input);
    return true;
  }

  // The blocks of a content, of which those without text are left out.
  bool blocks(ondemand::value value, Texts& texts) {
    ondemand::array array;
    if (token_of(value) == "null") return true;
    if (value.get_array().get(array)) return false;
    for (auto result : array) {
      ondemand::value element;
      if (std::move(result).get(element) || !block(element, texts)) return false;
    }
    return true;
  }

  bool block(ondemand::value value, Texts& texts) {
    std::string_view type, text;
    const bool read = each_field(value, [&](std::string_view key, ondemand::value field) {
      const std::string_view token = token_of(field);
      if (key == "type") type = token;
      else if (key == "text") text = is_string(token) ? unquoted(token) : std::string_view();
      else if (key != "cache_control" && key != "citations" && token != "null") meet(ResumeObstacle::unknown_field);
      return true;
    });
    const auto has = [&](std::string_view word) { return type.find(word) != std::string_view::npos; };
    if (has("tool")) meet(ResumeObstacle::tools);
    else if (has("thinking")) meet(ResumeObstacle::reasoning);
    else if (type != R"("text")") meet(ResumeObstacle::media);
    else if (!text.empty()) texts.push_back(text);
    return read;
  }

  // One text is the content itself.
  void add(std::string_view role, const Texts& texts) {
    std::string& out = out_.messages;
    append_all(out, out.empty() ? "[" : ",", R"({"role":)", role, R"(,"content":)");
    if (texts.size() == 1) {
      append_all(out, "\"", texts[0], "\"}");
      return;
    }
    char before = '[';
    for (const std::string_view text : texts) {
      out += std::exchange(before, ',');
      append_all(out, R"({"type":"text","text":")", text, "\"}");
    }
    out += "]}";
  }

  ResumePrompt out_;
};

}  // namespace

ResumePrompt prompt_of_messages(std::string_view system, std::string_view messages) {
  ChatMaker maker;
  const bool read = (system.empty() || system == "null" || maker.system(system)) && maker.messages(messages);
  if (!read) maker.meet(ResumeObstacle::unreadable);
  return maker.take();
}

}  // namespace penstock::openai
