// What the arguments of other programs are here: those of the Endpoint Picker, Envoy, HAProxy, nginx, vLLM and the
// routers in front of it. For the line that refuses them; none of them is accepted. Pure but for one look whether a
// word names a folder.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace penstock::config {

struct ForeignFlag {
  enum class Kind {
    flag,    // `here` is a flag of ours, with what to put for its value
    key,     // a key of the configuration file
    advice,  // what to do, in words
  };
  std::string_view name;  // one that ends in - is the beginning of several
  Kind kind;
  std::string_view here;
};

std::span<const ForeignFlag> endpoint_picker_flags();
std::span<const ForeignFlag> other_foreign_flags();

const ForeignFlag* find_foreign_flag(std::span<const ForeignFlag> flags, std::string_view name);  // nullptr: not there
// "give --listen ADDR:PORT", "say retry.attempts in the file of --config", or the advice itself.
std::string instruction(const ForeignFlag& flag);

// The flag that a word was probably meant for, with the word: "--config gateway.yaml"; "" where it could be anything.
// `command` is serve, check, replay or another, which takes none.
std::string flag_for_word(std::string_view command, const std::string& word);
// The command that goes by this name elsewhere ("validate": check), or "".
std::string_view command_instead_of(std::string_view word);

}  // namespace penstock::config
