// Tells the cluster what became of its objects: statuses and Events to the API server, and the same Events to the log.
// Control thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "penstock/kube/writer.h"
#include "penstock/objects/desired.h"

namespace penstock::discovery {

class WriteBack {
 public:
  // Without a writer, notices are only logged.
  explicit WriteBack(std::unique_ptr<kube::Writer> writer) : writer_(std::move(writer)) {}

  void take(const objects::Desired& desired);
  // Writes no status any more; what is on its way may still arrive. Events and the log go on.
  void stop_statuses();
  // Of statuses that another process writes again and again.
  void add_problems(std::vector<objects::Notice>& out) const;
  bool writes() const { return writer_ != nullptr; }
  kube::WriterStatus status() const { return writer_ == nullptr ? kube::WriterStatus{} : writer_->status(); }

 private:
  void take_statuses(const std::vector<objects::StatusWrite>& statuses);
  void note_contested(const objects::StatusWrite& status);
  void take_notices(const std::vector<objects::Notice>& notices);
  void tell(const objects::Notice& notice);

  std::unique_ptr<kube::Writer> writer_;
  uint64_t statuses_revision_ = 0, notices_revision_ = 0;
  std::set<std::string> wanted_;                      // paths of statuses that we asked to be written
  std::set<objects::Notice> notices_;                 // that hold
  std::map<std::string, objects::Notice> contested_;  // by path; once told, whether it still holds or not
  bool stopped_ = false;                              // stop_statuses()
};

}  // namespace penstock::discovery
