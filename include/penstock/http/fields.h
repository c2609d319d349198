// The fields of a message head as values, in their order. What writes a message makes HTTP/1.1 text or HPACK of them,
// at the edge alone. They are kept as the lines of an HTTP/1.1 head, which is how most of them arrive and leave: a run
// of received lines is added, and all of them are sent, with one copy. Names and values that could break framing (CR,
// LF, NUL) are refused by assertion: callers pass only what came through the strict parser or is our own. Names are
// ASCII and compared without regard to case. Pure; the memory is kept by clear().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::http {

class Fields {
 public:
  void add(std::string_view name, std::string_view value);
  void add(std::string_view name, uint64_t value);
  // Lines of a received head (Head::lines()) or of other Fields, each with its line end.
  void add_lines(std::string_view lines) { lines_ += lines; }
  // Takes the place of all fields of this name.
  void set(std::string_view name, std::string_view value);
  void remove(std::string_view name);

  bool has(std::string_view name) const { return get(name).has_value(); }
  // The value of the first field of this name.
  std::optional<std::string_view> get(std::string_view name) const;
  // Calls visit(name, value) for each field.
  template <typename Visit>
  void each(Visit visit) const {
    for (std::string_view rest = lines_; !rest.empty();) {
      const Line line = first_line(rest);
      visit(line.name, line.value);
      rest.remove_prefix(line.size);
    }
  }

  bool empty() const { return lines_.empty(); }
  // As HTTP/1.1 writes them: "name: value\r\n"...
  std::string_view lines() const { return lines_; }
  // For a writer of whole lines, which vouches for them.
  std::string& storage() { return lines_; }
  void clear() { lines_.clear(); }

 private:
  struct Line {
    std::string_view name, value;
    size_t size;
  };
  static Line first_line(std::string_view lines);

  std::string lines_;
};

}  // namespace penstock::http
