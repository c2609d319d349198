#include "api_keys.h"

#include "penstock/base/log.h"
#include "penstock/config/api_key.h"

namespace penstock::app {

namespace {
constexpr Duration kLook = seconds(1);  // how often the files are looked at
}

std::shared_ptr<const discovery::ApiKey> ApiKeys::of(const std::string& path) {
  if (path.empty()) return nullptr;
  const auto [at, added] = entries_.try_emplace(path);
  Entry& entry = at->second;
  if (added) {
    entry.file = WatchedFile(path);
    entry.key = std::make_shared<discovery::ApiKey>();
    entry.key->file = path;
  }
  if (entry.file.changed()) read(entry);
  if (!look_.armed()) loop_.arm(look_, kLook);
  return entry.key;
}

void ApiKeys::look() {
  std::erase_if(entries_, [](const auto& entry) { return entry.second.key.use_count() == 1; });
  for (auto& [path, entry] : entries_) {
    if (entry.file.changed()) read(entry);
  }
  if (!entries_.empty()) loop_.arm(look_, kLook);
}

void ApiKeys::read(Entry& entry) {
  const auto key = config::read_api_key(entry.file.path());
  if (!key.ok()) {
    return log::error("the key for endpoints stays as it was", {{"error", key.error().text}});
  }
  std::string authorization = "Bearer " + *key;
  if (!entry.key->authorization.empty() && authorization != entry.key->authorization) {
    log::info("another key for endpoints", {{"file", entry.file.path()}});
  }
  entry.key->authorization = std::move(authorization);
}

}  // namespace penstock::app
