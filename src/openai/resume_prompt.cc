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

bool is_text(std::string_view type) {
  return type == R"("text")" || type == R"("input_text")";
}

// The messages of the chat, one after the other.
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

 protected:
  bool clear() const { return out_.obstacle == ResumeObstacle::none; }

  // `one_is_content`: one text is the content itself, and not a list of one.
  void add(std::string_view role, const Texts& texts, bool one_is_content) {
    std::string& out = out_.messages;
    append_all(out, out.empty() ? "[" : ",", R"({"role":)", role, R"(,"content":)");
    if (one_is_content && texts.size() == 1) {
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

 private:
  ResumePrompt out_;
};

// Calls visit(element) for each element of an array. False, here and below: it is no JSON.
template <typename Visit>
bool each_element(ondemand::value value, Visit visit) {
  ondemand::array array;
  if (value.get_array().get(array)) return false;
  for (auto result : array) {
    ondemand::value element;
    if (std::move(result).get(element) || !visit(element)) return false;
  }
  return true;
}

class MessagesChat final : public ChatMaker {
 public:
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
    if (!whole.empty()) add(R"("system")", Texts{whole}, true);
    return true;
  }

  bool messages(std::string_view written) {
    const simdjson::padded_string padded(written);
    ondemand::parser parser;
    ondemand::document document;
    ondemand::value value;
    if (parser.iterate(padded).get(document) || document.get_value().get(value)) return false;
    return each_element(value, [this](ondemand::value element) { return message(element); });
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
    if (known && (content || !texts.empty())) add(role, texts, true);
    else if (clear()) meet(ResumeObstacle::template_input);
    return true;
  }

  // The blocks of a content, of which those without text are left out.
  bool blocks(ondemand::value value, Texts& texts) {
    if (token_of(value) == "null") return true;
    return each_element(value, [&](ondemand::value element) { return block(element, texts); });
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
};

class ResponsesChat final : public ChatMaker {
 public:
  void instructions(std::string_view written) {
    if (!is_string(written)) meet(ResumeObstacle::unreadable);
    else if (written != R"("")") add(R"("system")", {unquoted(written)}, true);
  }

  bool input(std::string_view written) {
    if (is_string(written)) {
      add(R"("user")", {unquoted(written)}, true);
      return true;
    }
    const simdjson::padded_string padded(written);
    ondemand::parser parser;
    ondemand::document document;
    ondemand::value value;
    if (parser.iterate(padded).get(document) || document.get_value().get(value)) return false;
    return each_element(value, [this](ondemand::value element) { return item(element); });
  }

 private:
  bool item(ondemand::value value) {
    std::string_view type = R"("message")", role, status = R"("completed")";
    Texts texts;
    bool content = false;
    types_.clear();
    const bool read = each_field(value, [&](std::string_view key, ondemand::value field) {
      const std::string_view token = token_of(field);
      if (token == "null") return true;
      if (key == "content") {
        content = is_string(token);
        texts.clear();
        if (!content) return parts(field, texts);
        texts.push_back(unquoted(token));
      } else if (key == "type") {
        type = token;
      } else if (key == "role") {
        role = token;
      } else if (key == "status") {
        status = token;
      } else if (key != "id") {
        meet(ResumeObstacle::unknown_field);
      }
      return true;
    });
    if (type != R"("message")") meet(obstacle_of(type));
    // One that has not ended goes on in the answer, by rules of the template.
    else if (status != R"("completed")") meet(ResumeObstacle::template_input);
    else if (clear()) message(role, texts, content);
    return read;
  }

  static ResumeObstacle obstacle_of(std::string_view type) {
    if (type == R"("reasoning")") return ResumeObstacle::reasoning;
    return type == R"("item_reference")" ? ResumeObstacle::stored : ResumeObstacle::tools;
  }

  // Of an assistant's parts servers read the first alone.
  void message(std::string_view role, const Texts& texts, bool content) {
    const bool assistant = role == R"("assistant")";
    const bool known = assistant || role == R"("user")" || role == R"("system")" || role == R"("developer")";
    bool fine = known && !texts.empty() && (content || !assistant || texts.size() == 1);
    for (const std::string_view type : types_) fine = fine && (assistant ? type == R"("output_text")" : is_text(type));
    if (fine) add(role, texts, content || assistant);
    else meet(ResumeObstacle::template_input);
  }

  bool parts(ondemand::value value, Texts& texts) {
    types_.clear();
    return each_element(value, [&](ondemand::value element) { return part(element, texts); });
  }

  bool part(ondemand::value value, Texts& texts) {
    std::string_view type, text;
    bool other = false;
    const bool read = each_field(value, [&](std::string_view key, ondemand::value field) {
      const std::string_view token = token_of(field);
      if (key == "type") type = token;
      else if (key == "text") text = token;
      else other = other || (key != "annotations" && key != "logprobs" && token != "null");
      return true;
    });
    const bool of_text = is_text(type) || type == R"("output_text")";
    if (!of_text) meet(type == R"("refusal")" ? ResumeObstacle::template_input : ResumeObstacle::media);
    else if (other) meet(ResumeObstacle::unknown_field);
    else if (!is_string(text)) meet(ResumeObstacle::template_input);
    else texts.push_back(unquoted(text));
    types_.push_back(type);
    return read;
  }

  Texts types_;  // of the parts of the item at hand
};

}  // namespace

ResumePrompt prompt_of_messages(std::string_view system, std::string_view messages) {
  MessagesChat maker;
  const bool read = (system.empty() || system == "null" || maker.system(system)) && maker.messages(messages);
  if (!read) maker.meet(ResumeObstacle::unreadable);
  return maker.take();
}

ResumePrompt prompt_of_responses(std::string_view instructions, std::string_view input) {
  ResponsesChat maker;
  if (!instructions.empty() && instructions != "null") maker.instructions(instructions);
  if (!maker.input(input)) maker.meet(ResumeObstacle::unreadable);
  return maker.take();
}

}  // namespace penstock::openai
