#include "penstock/openai/error_body.h"

#include "penstock/base/text.h"

namespace penstock::openai {

void append_json_string_or_null(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
  } else {
    append_json_string(out, text);
  }
}

void append_error(std::string& out, std::string_view message, std::string_view type, std::string_view param,
                  std::string_view code) {
  out += R"({"error":{"message":)";
  append_json_string(out, message);
  out += R"(,"type":)";
  append_json_string(out, type);
  out += R"(,"param":)";
  append_json_string_or_null(out, param);
  out += R"(,"code":)";
  append_json_string_or_null(out, code);
  out += "}}";
}

}  // namespace penstock::openai
