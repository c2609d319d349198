// Reading of one JSON value by a table of fields, with simdjson On-Demand behind it. Every mistake becomes a problem
// with the path of its field; after malformed JSON nothing more is read.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/objects/decode.h"

namespace penstock::objects::json {

using Value = simdjson::ondemand::value;
using Type = simdjson::ondemand::json_type;

class Reader {
 public:
  Reader(Strictness strictness, std::vector<FieldProblem>& problems)
      : strict_(strictness == Strictness::strict), problems_(problems) {}

  bool strict() const { return strict_; }
  bool broken() const { return broken_; }
  // At the place that is being read, or at a key below it.
  void problem(std::string message, std::string_view key = {});
  // The key has no value; not said again when what is wrong with its value was told.
  void missing(std::string_view key, std::string_view expected);
  void malformed();

  // Calls visit(key, value) for each member that is not null. Keys stay valid as long as the document.
  template <typename Visit>
  void members(Value value, Visit&& visit) {
    simdjson::ondemand::object object;
    if (!is(value, Type::object, "an object")) return;
    if (value.get_object().get(object)) return malformed();
    members_of(object, visit);
  }
  template <typename Visit>
  void members_of(simdjson::ondemand::object& object, Visit&& visit) {
    for (auto next : object) {
      simdjson::ondemand::field member;
      std::string_view key;
      Type type;
      if (std::move(next).get(member) || member.unescaped_key().get(key) || member.value().type().get(type))
        return malformed();
      if (type == Type::null) continue;
      const Below below(*this, {key, -1});
      visit(key, member.value());
      if (broken_) return;
    }
  }
  // Calls visit(value) for each element, nulls left out.
  template <typename Visit>
  void elements(Value value, Visit&& visit) {
    simdjson::ondemand::array array;
    if (!is(value, Type::array, "a list")) return;
    if (value.get_array().get(array)) return malformed();
    int64_t index = 0;
    for (auto next : array) {
      Value element;
      Type type;
      if (std::move(next).get(element) || element.type().get(type)) return malformed();
      const Below below(*this, {{}, index++});
      if (type == Type::null) continue;
      visit(element);
      if (broken_) return;
    }
  }

  void text(Value value, std::string& out);
  void flag(Value value, bool& out);
  void flag(Value value, std::optional<bool>& out);
  void integer(Value value, int64_t least, int64_t most, int32_t& out);
  void integer(Value value, int64_t& out);
  void port(Value value, int32_t& out) { integer(value, 1, 65535, out); }
  void texts(Value value, std::vector<std::string>& out);
  void labels(Value value, Labels& out);
  // One of `words`; gives its index.
  void word(Value value, std::initializer_list<std::string_view> words, size_t& out);
  bool is(Value& value, Type wanted, std::string_view name);

 private:
  // A step of the way to what is being read: a key, or an element's index where that is not negative.
  struct Step {
    std::string_view key;
    int64_t index;
  };
  // One step further for as long as it lives.
  class Below {
   public:
    Below(Reader& reader, Step step) : steps_(reader.steps_) { steps_.push_back(step); }
    ~Below() { steps_.pop_back(); }
    Below(const Below&) = delete;

   private:
    std::vector<Step>& steps_;
  };
  std::string path(std::string_view key) const;

  const bool strict_;
  std::vector<FieldProblem>& problems_;
  std::vector<Step> steps_;
  bool broken_ = false;
};

// A known key of an object that is read into a T; `read` is null for keys that are right but mean nothing here.
template <typename T>
struct Field {
  std::string_view name;
  void (*read)(Reader&, Value, T&);
};
// Whether keys that are not in the table are mistakes (in strict reading) or just not of interest.
enum class Keys : uint8_t { closed, open };

std::string unknown_key(std::string_view key, const std::vector<std::string_view>& known);

template <typename T, size_t count>
void read_member(Reader& reader, std::string_view key, Value value, T& out, const Field<T> (&fields)[count],
                 Keys keys) {
  for (const Field<T>& field : fields) {
    if (field.name != key) continue;
    if (field.read != nullptr) field.read(reader, value, out);
    return;
  }
  if (keys == Keys::open || !reader.strict()) return;
  std::vector<std::string_view> known;
  for (const Field<T>& field : fields) known.push_back(field.name);
  reader.problem(unknown_key(key, known));
}

template <typename T, size_t count>
void read_object(Reader& reader, Value value, T& out, const Field<T> (&fields)[count], Keys keys = Keys::closed) {
  reader.members(value,
                 [&](std::string_view key, Value member) { read_member(reader, key, member, out, fields, keys); });
}

// A list of objects: `finish` checks each one when its fields are read.
template <typename T, size_t count, typename Finish>
void read_list(Reader& reader, Value value, std::vector<T>& out, const Field<T> (&fields)[count], Finish&& finish,
               Keys keys = Keys::closed) {
  out.clear();
  reader.elements(value, [&](Value element) {
    T item;
    read_object(reader, element, item, fields, keys);
    if (reader.broken()) return;
    finish(item);
    out.push_back(std::move(item));
  });
}

// How each layer of an object is read; by kind in the files decode_*.cc.
void read_meta(Reader& reader, Value value, Meta& meta);
void read_status(Reader& reader, Value value, Status& status);

struct Body {  // one object being read: the members of its top level one by one, then a last look at the whole
  virtual ~Body() = default;
  virtual void member(Reader& reader, std::string_view key, Value value) = 0;
  virtual void finish(Reader& reader) = 0;
  virtual Object take() = 0;
};
std::unique_ptr<Body> core_body(Kind kind);       // pods, slices, services, namespaces, Secrets, ConfigMaps
std::unique_ptr<Body> inference_body(Kind kind);  // pools, rewrites, objectives
std::unique_ptr<Body> gateway_body(Kind kind);    // Gateway API

// A body that reads by a table of top-level fields.
template <typename T, size_t count>
class TableBody final : public Body {
 public:
  using Check = void (*)(Reader&, T&);
  TableBody(const Field<T> (&fields)[count], Keys keys, Check check) : fields_(fields), keys_(keys), check_(check) {}
  void member(Reader& reader, std::string_view key, Value value) override {
    if (key == "apiVersion" || key == "kind") return;
    if (key == "metadata") return read_meta(reader, value, object_.meta);
    read_member(reader, key, value, object_, fields_, keys_);
  }
  void finish(Reader& reader) override {
    if (object_.meta.name.empty()) reader.missing("metadata.name", "the object's name");
    check_(reader, object_);
  }
  Object take() override { return std::move(object_); }

 private:
  T object_;
  const Field<T> (&fields_)[count];
  const Keys keys_;
  const Check check_;
};

}  // namespace penstock::objects::json
