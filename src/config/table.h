// The one table of the configuration: the parser, the reference page and the reload diff all read it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "penstock/config/options.h"

namespace penstock::config {

enum class Type { text, path, url_path, address, boolean, integer, number, microseconds, duration, size, choice, list };

template <typename T>
using Reference = T& (*)(Options&);

// A closed set of words. For enums the order of `words` is the order of the enumerators.
struct EnumField {
  int (*get)(const Options&);
  void (*set)(Options&, int);
};

using Field =
    std::variant<Reference<std::string>, Reference<bool>, Reference<uint32_t>, Reference<size_t>, Reference<double>,
                 Reference<Duration>, Reference<std::vector<std::string>>, Reference<std::vector<uint16_t>>, EnumField>;

struct Key {
  std::string_view name;
  Type type;
  Field field;
  double min = 0, max = 0;                           // numbers, bytes, seconds (durations), characters, items of a list
  std::span<const std::string_view> words = {};      // choice
  std::string_view zero = {};                        // what 0 means; "" when 0 is nothing special
  std::string (*check)(std::string_view) = nullptr;  // text and each item of a list: "" or what is wrong
  std::string_view accepted = {};                    // what `check` accepts, for people
  bool needs_restart = false;
  std::string_view doc;
};

std::span<const Key> table();
const Key* find_key(std::string_view name);  // nullptr when there is none
bool is_section(std::string_view name);      // some key starts with `name.`

// Sets the key from text (a list: its items with commas between them, or "[]"). Returns "" or what is wrong and what
// would be right.
std::string set_from_text(const Key& key, Options& options, std::string_view text);
// Adds one item to a key of type list; likewise.
std::string add_item(const Key& key, Options& options, std::string_view item);
// The value as one would write it.
std::string to_text(const Key& key, const Options& options);
std::string accepted_values(const Key& key);  // "1ms to 24h, or none"
std::string_view type_name(Type type);

std::span<const std::string_view> engine_names();
bool is_engine_name(std::string_view name);

}  // namespace penstock::config
