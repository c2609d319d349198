#include "page_writer.h"

#include <algorithm>
#include <utility>

#include "penstock/observability/gzip.h"

namespace penstock::app {

PageWriter::PageWriter(net::EventLoop& loop, Collect collect)
    : loop_(loop), collect_(std::move(collect)), thread_([this] { run(); }) {}

PageWriter::~PageWriter() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void PageWriter::ask(Reader& reader) {
  waiting_.push_back(&reader);
  if (!busy_) begin();
}

void PageWriter::leave(Reader& reader) {
  std::erase(waiting_, &reader);
  std::erase(served_, &reader);
}

void PageWriter::begin() {
  busy_ = true;
  served_ = std::exchange(waiting_, {});
  Job job{collect_(), std::any_of(served_.begin(), served_.end(), [](const Reader* r) { return r->takes_gzip(); })};
  {
    const std::lock_guard lock(mutex_);
    job_ = std::move(job);
  }
  changed_.notify_one();
}

void PageWriter::written(std::shared_ptr<const Page> page) {
  page_ = std::move(page);
  hand_out();
}

// To one reader a turn: copying a large page to many sockets at once would hold up everyone else, too.
void PageWriter::hand_out() {
  if (served_.empty()) {
    page_.reset();
    busy_ = false;
    if (!waiting_.empty()) begin();
    return;
  }
  Reader* const reader = served_.back();
  served_.pop_back();
  reader->on_page(*page_);
  loop_.post([this] { hand_out(); });
}

void PageWriter::run() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ends_ || job_.text; });
      if (ends_) return;
      job = std::exchange(job_, {});
    }
    auto page = std::make_shared<Page>();
    job.text(page->plain);
    if (job.gzip) page->gzip = observability::gzip(page->plain);
    loop_.post([this, page = std::shared_ptr<const Page>(std::move(page))]() mutable { written(std::move(page)); });
  }
}

}  // namespace penstock::app
