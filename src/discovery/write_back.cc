#include "write_back.h"

#include "penstock/base/log.h"

namespace penstock::discovery {

void WriteBack::take(const objects::Desired& desired) {
  if (statuses_revision_ != desired.statuses_revision) {
    statuses_revision_ = desired.statuses_revision;
    if (writer_ != nullptr && !stopped_) take_statuses(desired.statuses);
  }
  if (notices_revision_ == desired.notices_revision) return;
  notices_revision_ = desired.notices_revision;
  take_notices(desired.notices);
}

// A status that is stored, or whose object is gone, is forgotten: when it is needed again it must be written again,
// though it says the same.
void WriteBack::take_statuses(const std::vector<objects::StatusWrite>& statuses) {
  std::set<std::string> wanted;
  std::erase_if(contested_, [&](const auto& entry) { return !writer_->contested(entry.first); });
  for (const objects::StatusWrite& status : statuses) {
    if (!status.needed) continue;
    writer_->apply_status(status.path, status.body, status.ours, status.version);
    note_contested(status);
    wanted.insert(status.path);
  }
  for (const std::string& path : wanted_) {
    if (!wanted.contains(path)) writer_->forget(path);
  }
  wanted_ = std::move(wanted);
}

void WriteBack::stop_statuses() {
  stopped_ = true;
  for (const std::string& path : wanted_) writer_->forget(path);
  wanted_.clear();
  contested_.clear();
}

void WriteBack::note_contested(const objects::StatusWrite& status) {
  if (!writer_->contested(status.path)) return;
  const auto [at, added] = contested_.try_emplace(
      status.path, objects::Notice{status.kind, status.ns, status.name, "", true, "StatusContested",
                                   "another process changes what this gateway writes to the status, again and again: "
                                   "it is written more and more rarely. Gateways that differ in their settings need a "
                                   "kubernetes.controller or a kubernetes.own_service of their own"});
  if (added) tell(at->second);
}

void WriteBack::add_problems(std::vector<objects::Notice>& out) const {
  for (const auto& [path, notice] : contested_) {
    if (writer_->contested(path)) out.push_back(notice);
  }
}

void WriteBack::take_notices(const std::vector<objects::Notice>& notices) {
  std::set<objects::Notice> now(notices.begin(), notices.end());
  for (const objects::Notice& notice : now) {
    if (!notices_.contains(notice)) tell(notice);
  }
  notices_ = std::move(now);
}

void WriteBack::tell(const objects::Notice& notice) {
  const std::string kind(objects::api_of(notice.kind).name);
  const std::string object = kind + ' ' + (notice.ns.empty() ? "" : notice.ns + '/') + notice.name;
  log::write(notice.warning ? log::Level::warn : log::Level::info, "kubernetes: " + notice.message,
             {{"object", object}, {"reason", notice.reason}});
  if (writer_ == nullptr) return;
  writer_->event({.api_version = std::string(objects::api_version(notice.kind)),
                  .kind = kind,
                  .ns = notice.ns,
                  .name = notice.name,
                  .uid = notice.uid,
                  .warning = notice.warning,
                  .reason = notice.reason,
                  .action = "Resolve",
                  .note = notice.message});
}

}  // namespace penstock::discovery
