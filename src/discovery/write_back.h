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
  bool writes() const { return writer_ != nullptr; }
  kube::WriterStatus status() const { return writer_ == nullptr ? kube::WriterStatus{} : writer_->status(); }

 private:
  void take_statuses(const std::vector<objects::StatusWrite>& statuses);
  void take_notices(const std::vector<objects::Notice>& notices);
  void tell(const objects::Notice& notice);

  std::unique_ptr<kube::Writer> writer_;
  uint64_t statuses_revision_ = 0, notices_revision_ = 0;
  std::set<std::string> wanted_;       // paths of statuses that we asked to be written
  std::set<objects::Notice> notices_;  // that hold
};

}  // namespace penstock::discovery
