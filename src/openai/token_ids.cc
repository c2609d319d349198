#include "penstock/openai/token_ids.h"

#include <charconv>

namespace penstock::openai {

bool parse_token_ids(std::string_view text, size_t most, std::vector<uint32_t>& out) {
  out.clear();
  return append_token_ids(text, most, out);
}

bool append_token_ids(std::string_view text, size_t most, std::vector<uint32_t>& out) {
  // Of several prompts each has brackets of its own.
  if (text.find_first_of("[]\"") != std::string_view::npos) return false;
  const auto skip_space = [&text] {
    const size_t first = text.find_first_not_of(" \t\r\n");
    text.remove_prefix(first == std::string_view::npos ? text.size() : first);
  };
  while (out.size() < most) {
    skip_space();
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc{}) return false;
    out.push_back(id);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    skip_space();
    if (text.empty()) return true;
    if (text.front() != ',') return false;
    text.remove_prefix(1);
  }
  return true;
}

}  // namespace penstock::openai
