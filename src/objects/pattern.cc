#include "pattern.h"

#include <array>

namespace penstock::objects {
namespace {

using Step = Pattern::Step;
using Class = Pattern::Class;
using Steps = std::vector<Step>;

Class range(unsigned char first, unsigned char last) {
  Class set;
  for (unsigned c = first; c <= last; ++c) set.set(c);
  return set;
}
Class digits() {
  return range('0', '9');
}
Class words() {
  return digits() | range('a', 'z') | range('A', 'Z') | range('_', '_');
}
Class spaces() {
  return range('\t', '\r') | range(' ', ' ');
}

// By recursive descent; each function gives the steps of what it read. The first problem ends it.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {
    if (text_.starts_with('^')) text_.remove_prefix(1);
    if (text_.ends_with('$') && !text_.ends_with("\\$")) text_.remove_suffix(1);
  }

  Steps all() {
    Steps steps = alternatives(0);
    if (problem_.empty() && at_ < text_.size()) problem_ = "has a ')' too many";
    steps.push_back({});
    if (steps.size() > Pattern::steps_max) problem_ = "is too long";
    return steps;
  }
  const std::string& problem() const { return problem_; }
  std::vector<Class>& classes() { return classes_; }

 private:
  bool more() const { return problem_.empty() && at_ < text_.size(); }
  bool skip(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Steps fail(const char* problem) {
    if (problem_.empty()) problem_ = problem;
    return {};
  }
  // Keeps a pattern that repeats repetitions from growing without limit.
  Steps limited(Steps steps) { return steps.size() > Pattern::steps_max ? fail("is too long") : steps; }

  static Step split(size_t a, size_t b) {
    return {Step::Op::split, 0, static_cast<int16_t>(a), static_cast<int16_t>(b)};
  }
  static void append(Steps& to, const Steps& more) { to.insert(to.end(), more.begin(), more.end()); }

  Steps alternatives(int depth) {
    Steps left = sequence(depth);
    while (skip('|')) {
      const Steps right = sequence(depth);
      Steps both{split(1, left.size() + 2)};
      append(both, left);
      both.push_back({Step::Op::jump, 0, static_cast<int16_t>(right.size() + 1), 0});
      append(both, right);
      left = limited(std::move(both));
      if (!problem_.empty()) return {};
    }
    return left;
  }

  Steps sequence(int depth) {
    Steps steps;
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      append(steps, repeated(depth));
      steps = limited(std::move(steps));
    }
    return steps;
  }

  Steps repeated(int depth) {
    Steps one = atom(depth);
    while (more()) {
      if (skip('*')) one = repeat(one, 0, -1);
      else if (skip('+')) one = repeat(one, 1, -1);
      else if (skip('?')) one = repeat(one, 0, 1);
      else if (text_[at_] == '{') one = counted(one);
      else break;
      skip('?');  // lazy or not makes no difference to whether it matches
    }
    return one;
  }

  Steps counted(const Steps& one) {
    ++at_;
    const int least = number();
    int most = least;
    if (skip(',')) most = more() && text_[at_] == '}' ? -1 : number();
    if (least < 0 || !skip('}') || (most >= 0 && most < least)) return fail("has a '{' that is not {m}, {m,} or {m,n}");
    return repeat(one, least, most);
  }
  int number() {
    int value = -1;
    while (more() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = (value < 0 ? 0 : value) * 10 + (text_[at_++] - '0');
      if (value > 255) fail("repeats too often");
    }
    return value;
  }

  // most -1: without end.
  Steps repeat(const Steps& one, int least, int most) {
    Steps steps;
    for (int i = 0; i < least && problem_.empty(); ++i) {
      append(steps, one);
      steps = limited(std::move(steps));
    }
    if (most < 0) {
      steps.push_back(split(1, one.size() + 2));
      append(steps, one);
      steps.push_back({Step::Op::jump, 0, static_cast<int16_t>(-static_cast<int>(one.size()) - 1), 0});
    }
    for (int i = least; i < most && problem_.empty(); ++i) {
      steps.push_back(split(1, one.size() + 1));
      append(steps, one);
      steps = limited(std::move(steps));
    }
    return limited(std::move(steps));
  }

  Steps atom(int depth) {
    if (depth > 16) return fail("nests groups too deeply");
    const char c = text_[at_++];
    switch (c) {
      case '(':
        return group(depth);
      case '[':
        return bracket();
      case '.':
        return one_of(~Class());
      case '\\': {
        Class set;
        return escaped(set) ? one_of(set) : fail("has an escape that is not supported");
      }
      case '*':
      case '+':
      case '?':
      case '{':
        return fail("repeats nothing");
      case '^':
      case '$':
        return fail("has '^' or '$' within");
      default:
        return one_of(range(static_cast<unsigned char>(c), static_cast<unsigned char>(c)));
    }
  }

  Steps group(int depth) {
    if (skip('?') && !skip(':')) return fail("has a kind of group that is not supported");
    Steps steps = alternatives(depth + 1);
    return skip(')') ? steps : fail("has a '(' that is not closed");
  }

  bool escaped(Class& set) {
    if (!more()) return false;
    const char c = text_[at_++];
    switch (c) {
      case 'd':
        return set = digits(), true;
      case 'D':
        return set = ~digits(), true;
      case 'w':
        return set = words(), true;
      case 'W':
        return set = ~words(), true;
      case 's':
        return set = spaces(), true;
      case 'S':
        return set = ~spaces(), true;
      default:
        if (words().test(static_cast<unsigned char>(c))) return false;
        set = range(static_cast<unsigned char>(c), static_cast<unsigned char>(c));
        return true;
    }
  }

  Steps bracket() {
    const bool inverse = skip('^');
    Class set;
    bool first = true;
    while (more() && (text_[at_] != ']' || first)) {
      first = false;
      const char c = text_[at_++];
      Class part;
      if (c == '\\') {
        if (!escaped(part)) return fail("has an escape that is not supported");
        set |= part;
        continue;
      }
      if (c == '[' && more() && (text_[at_] == ':' || text_[at_] == '.' || text_[at_] == '=')) {
        return fail("has a named class, which is not supported");
      }
      char last = c;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        last = text_[at_ + 1];
        at_ += 2;
        if (last == '\\' || static_cast<unsigned char>(last) < static_cast<unsigned char>(c)) {
          return fail("has a range that is not one");
        }
      }
      set |= range(static_cast<unsigned char>(c), static_cast<unsigned char>(last));
    }
    if (!skip(']')) return fail("has a '[' that is not closed");
    return one_of(inverse ? ~set : set);
  }

  Steps one_of(const Class& set) {
    size_t index = 0;
    while (index < classes_.size() && classes_[index] != set) ++index;
    if (index == classes_.size()) classes_.push_back(set);
    return {{Step::Op::one_of, static_cast<uint16_t>(index), 0, 0}};
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string problem_;
  std::vector<Class> classes_;
};

// The set of steps that the matcher is at, each once.
class Threads {
 public:
  void clear() { count_ = 0, seen_.reset(); }
  size_t size() const { return count_; }
  uint16_t operator[](size_t i) const { return list_[i]; }
  // Adds the step and whatever follows from it without reading a letter.
  void add(const Steps& steps, size_t start) {
    std::array<uint16_t, Pattern::steps_max * 2> waiting;
    size_t waits = 0;
    waiting[waits++] = static_cast<uint16_t>(start);
    while (waits > 0) {
      const size_t at = waiting[--waits];
      if (seen_.test(at)) continue;
      seen_.set(at);
      const Step& step = steps[at];
      if (step.op == Step::Op::split || step.op == Step::Op::jump) {
        waiting[waits++] = static_cast<uint16_t>(static_cast<int>(at) + step.a);
        if (step.op == Step::Op::split) waiting[waits++] = static_cast<uint16_t>(static_cast<int>(at) + step.b);
      } else {
        list_[count_++] = static_cast<uint16_t>(at);
      }
    }
  }

 private:
  std::array<uint16_t, Pattern::steps_max> list_;
  std::bitset<Pattern::steps_max> seen_;
  size_t count_ = 0;
};

}  // namespace

Result<Pattern> Pattern::compile(std::string_view text) {
  Parser parser(text);
  Pattern pattern;
  pattern.steps_ = parser.all();
  pattern.classes_ = std::move(parser.classes());
  if (!parser.problem().empty()) return Message{parser.problem()};
  return pattern;
}

bool Pattern::matches(std::string_view text) const {
  Threads now, next;
  now.add(steps_, 0);
  for (const char c : text) {
    next.clear();
    for (size_t i = 0; i < now.size(); ++i) {
      const Step& step = steps_[now[i]];
      if (step.op == Step::Op::one_of && classes_[step.set].test(static_cast<unsigned char>(c))) {
        next.add(steps_, now[i] + size_t{1});
      }
    }
    if (next.size() == 0) return false;
    std::swap(now, next);
  }
  for (size_t i = 0; i < now.size(); ++i) {
    if (steps_[now[i]].op == Step::Op::end) return true;
  }
  return false;
}

}  // namespace penstock::objects
