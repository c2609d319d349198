#include "penstock/objects/manifest.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "penstock/base/file.h"
#include "penstock/base/text.h"
#include "penstock/objects/decode.h"

namespace penstock::objects {
namespace {

constexpr int depth_max = 64;
constexpr size_t json_bytes_max = 8 * 1024 * 1024;  // aliases can make a small file very large

int line_of(const YAML::Node& node) {
  return node.Mark().is_null() ? 0 : node.Mark().line + 1;
}

bool number(std::string_view text) {
  size_t at = text.starts_with('-') ? 1 : 0;
  const auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - begin;
  };
  const bool zero = at < text.size() && text[at] == '0';
  const size_t whole = digits();
  if (whole == 0 || (zero && whole > 1)) return false;
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

// One object of a file as JSON, with the line of each of its keys.
class Converter {
 public:
  // Empty when there is a problem.
  std::string convert(const YAML::Node& node) {
    value(node, "", 0);
    return problem_.empty() ? std::move(json_) : "";
  }
  const std::string& problem() const { return problem_; }
  int problem_line() const { return problem_line_; }

  // Of the key, or of the nearest one above it that is there.
  int line(std::string path) const {
    while (true) {
      if (const auto found = lines_.find(path); found != lines_.end()) return found->second;
      if (path.empty()) return 0;
      const size_t cut = path.find_last_of(".[");
      path.resize(cut == std::string::npos ? 0 : cut);
    }
  }

 private:
  void fail(const YAML::Node& at, std::string message) {
    if (!problem_.empty()) return;
    problem_ = std::move(message);
    problem_line_ = line_of(at);
  }

  void value(const YAML::Node& node, const std::string& path, int depth) {
    if (!problem_.empty()) return;
    lines_.try_emplace(path, line_of(node));
    if (depth > depth_max || json_.size() > json_bytes_max) return fail(node, "is too deep or too large");
    if (node.IsMap()) return map(node, path, depth);
    if (node.IsSequence()) return list(node, path, depth);
    if (node.IsScalar()) return scalar(node);
    json_ += "null";
  }

  void map(const YAML::Node& node, const std::string& path, int depth) {
    std::set<std::string> seen;
    json_ += '{';
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return fail(entry.first, "has a key that is not a word");
      const std::string& key = entry.first.Scalar();
      const std::string below = path.empty() ? key : path + '.' + key;
      if (!seen.insert(key).second) return fail(entry.first, below + " is given twice");
      lines_[below] = line_of(entry.first);
      if (json_.back() != '{') json_ += ',';
      append_json_string(json_, key);
      json_ += ':';
      value(entry.second, below, depth + 1);
    }
    json_ += '}';
  }

  void list(const YAML::Node& node, const std::string& path, int depth) {
    size_t index = 0;
    json_ += '[';
    for (const YAML::Node& item : node) {
      if (index > 0) json_ += ',';
      value(item, path + '[' + std::to_string(index++) + ']', depth + 1);
    }
    json_ += ']';
  }

  void scalar(const YAML::Node& node) {
    const std::string& text = node.Scalar();
    const bool plain = node.Tag() == "?";
    if (plain && (text == "true" || text == "false" || number(text))) json_ += text;
    else if (plain && (text.empty() || text == "null" || text == "~")) json_ += "null";
    else append_json_string(json_, text);
  }

  std::string json_, problem_;
  int problem_line_ = 0;
  std::map<std::string, int> lines_;
};

// Kinds whose name nobody else uses: with another group than ours their apiVersion is a mistake.
std::string expected_versions(std::string_view kind_name) {
  constexpr std::string_view ours[] = {"InferencePool", "InferenceModelRewrite", "InferenceObjective",
                                       "HTTPRoute",     "GatewayClass",          "EndpointSlice"};
  std::string out;
  if (std::find(std::begin(ours), std::end(ours), kind_name) == std::end(ours)) return out;
  for (size_t i = 0; i < kind_count; ++i) {
    const Kind kind = static_cast<Kind>(i);
    if (api_of(kind).name == kind_name) out.append(out.empty() ? "" : " or ").append(api_version(kind));
  }
  return out;
}

class FileReader {
 public:
  FileReader(const ManifestFile& file, const std::string& default_namespace, Manifests& out)
      : file_(file), default_namespace_(default_namespace), out_(out) {}

  // yaml-cpp's exceptions end here.
  void read() {
    const auto first = static_cast<ptrdiff_t>(out_.problems.size());
    try {
      for (const YAML::Node& document : YAML::LoadAll(file_.text)) {
        if (document.IsNull()) continue;  // nothing but comments
        read_document(document, 0);
      }
    } catch (const YAML::Exception& error) {
      problem(error.mark.is_null() ? 1 : error.mark.line + 1, "", "not valid YAML: " + error.msg);
    }
    std::stable_sort(out_.problems.begin() + first, out_.problems.end(),
                     [](const ManifestProblem& a, const ManifestProblem& b) { return a.line < b.line; });
  }

 private:
  void problem(int line, std::string key, std::string message) {
    out_.problems.push_back({file_.name, line, std::move(key), std::move(message)});
  }
  static std::string word(const YAML::Node& map, const char* key) {
    const YAML::Node found = map[key];
    return found && found.IsScalar() ? found.Scalar() : "";
  }

  void read_document(const YAML::Node& node, int depth) {
    if (!node.IsMap()) return problem(line_of(node), "", "is not an object; expected apiVersion, kind and metadata");
    const std::string version = word(node, "apiVersion"), kind_name = word(node, "kind");
    if (kind_name.empty()) return problem(line_of(node), "kind", "is missing; expected the kind of the object");
    if (version.empty())
      return problem(line_of(node), "apiVersion", "is missing; expected the version of the object's API");
    if (kind_name.ends_with("List") && depth == 0) return read_list(node);
    if (const std::optional<Kind> kind = kind_of(version, kind_name)) return read_object(node, *kind);
    if (const std::string expected = expected_versions(kind_name); !expected.empty()) {
      return problem(line_of(node["apiVersion"]), "apiVersion",
                     "is " + version + "; expected for " + kind_name + ": " + expected);
    }
    out_.skipped.push_back({file_.name, line_of(node), "kind", kind_name + " of " + version + " is not read"});
  }

  void read_list(const YAML::Node& node) {
    const YAML::Node items = node["items"];
    if (!items || items.IsNull()) return;
    if (!items.IsSequence()) return problem(line_of(items), "items", "is not a list");
    for (const YAML::Node& item : items) read_document(item, 1);
  }

  void read_object(const YAML::Node& node, Kind kind) {
    Converter converter;
    const std::string json = converter.convert(node);
    if (!converter.problem().empty()) return problem(converter.problem_line(), "", converter.problem());
    Result<Object, DecodeError> object = decoder_.decode(kind, json);
    if (!object) {
      for (const FieldProblem& found : object.error().problems) {
        problem(converter.line(found.path), found.path, found.message);
      }
      return;
    }
    ManifestObject item{kind, std::move(object).value(), file_.name, line_of(node)};
    if (api_of(kind).namespaced) {
      std::visit(
          [&](auto& typed) {
            if (typed.meta.ns.empty()) typed.meta.ns = default_namespace_;
          },
          item.object);
    }
    out_.objects.push_back(std::move(item));
  }

  const ManifestFile& file_;
  const std::string& default_namespace_;
  Manifests& out_;
  Decoder decoder_{Strictness::strict};
};

void find_duplicates(Manifests& manifests) {
  std::map<std::tuple<Kind, std::string, std::string>, const ManifestObject*> seen;
  for (const ManifestObject& item : manifests.objects) {
    const Meta& meta = meta_of(item.object);
    const auto [at, added] = seen.emplace(std::tuple(item.kind, meta.ns, meta.name), &item);
    if (added) continue;
    manifests.problems.push_back({item.file, item.line, "metadata.name",
                                  std::string(api_of(item.kind).name) + ' ' + meta.ns + '/' + meta.name +
                                      " is given twice (also in " + at->second->file + " line " +
                                      std::to_string(at->second->line) + ")"});
  }
}

}  // namespace

std::string to_string(const ManifestProblem& problem) {
  std::string out = problem.file;
  if (problem.line > 0) out += ':' + std::to_string(problem.line);
  if (!problem.key.empty()) out += ": " + problem.key;
  return out + ": " + problem.message;
}

Manifests read_manifests(const std::vector<ManifestFile>& files, const std::string& default_namespace) {
  Manifests out;
  for (const ManifestFile& file : files) FileReader(file, default_namespace, out).read();
  find_duplicates(out);
  return out;
}

Manifests read_manifest_path(const std::string& path, const std::string& default_namespace) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code error, none;
  if (!fs::is_directory(path, none)) names.push_back(path);
  else {
    for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
      const std::string ending = at->path().extension();
      if (ending == ".yaml" || ending == ".yml" || ending == ".json") names.push_back(at->path());
    }
  }
  std::sort(names.begin(), names.end());
  std::vector<ManifestFile> files;
  std::vector<ManifestProblem> unread;
  if (error) unread.push_back({path, 0, "", "cannot be read: " + error.message()});
  else if (names.empty()) unread.push_back({path, 0, "", "has no file that ends in .yaml, .yml or .json"});
  for (const std::string& name : names) {
    Result<std::string> text = read_file(name);
    if (!text.ok()) unread.push_back({name, 0, "", text.error().text});
    else files.push_back({name, std::move(*text)});
  }
  Manifests out = read_manifests(files, default_namespace);
  out.problems.insert(out.problems.begin(), unread.begin(), unread.end());
  return out;
}

void apply_manifests(const Manifests& manifests, Store& store) {
  std::array<std::vector<Object>, kind_count> lists;
  for (const ManifestObject& item : manifests.objects) lists[static_cast<size_t>(item.kind)].push_back(item.object);
  for (size_t i = 0; i < kind_count; ++i) store.replace(static_cast<Kind>(i), std::move(lists[i]));
}

}  // namespace penstock::objects
