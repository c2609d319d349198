// Kubernetes objects from YAML (or JSON) files: several documents in a file, and `kind: List`. Every problem is found
// in one pass, with file, line and key. Start-up and control thread only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/objects/store.h"
#include "penstock/objects/types.h"

namespace penstock::objects {

struct ManifestProblem {
  std::string file;
  int line = 0;     // 1-based; 0: no line to point at
  std::string key;  // "spec.targetPorts[0].number"; "" for a whole file or document
  std::string message;
};
std::string to_string(const ManifestProblem& problem);  // "pool.yaml:12: spec.selector: ..."

struct ManifestObject {
  Kind kind;
  Object object;
  std::string file;
  int line;  // where its document begins
};

struct Manifests {
  std::vector<ManifestObject> objects;    // in the order of files and documents
  std::vector<ManifestProblem> problems;  // likewise; no use is made of an object that has one
  std::vector<ManifestProblem> skipped;   // documents of kinds that the gateway does not read: no mistake
  bool ok() const { return problems.empty(); }
};

struct ManifestFile {
  std::string name;  // for problems
  std::string text;
};

// `default_namespace` is for objects that name none.
Manifests read_manifests(const std::vector<ManifestFile>& files, const std::string& default_namespace);
// Every *.yaml, *.yml and *.json of the folder (not of folders below), sorted by name; or one file.
Manifests read_manifest_path(const std::string& path, const std::string& default_namespace);

// Makes the store hold these objects and no others.
void apply_manifests(const Manifests& manifests, Store& store);

}  // namespace penstock::objects
