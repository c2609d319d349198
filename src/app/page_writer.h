// Writes the pages of /metrics on a thread of its own, one at a time: a large page takes tens of milliseconds, for
// which the control thread would answer no probe. Whoever asks while a page is being written gets the next one,
// together with all others who wait: twenty scrapers cost little more than one. Thread: the loop's, but for the writing
// itself.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "penstock/net/event_loop.h"
#include "penstock/observability/metrics.h"

namespace penstock::app {

class PageWriter {
 public:
  struct Page {
    std::string plain, gzip;  // the latter is empty if nobody who waited takes it
  };
  // Who waits for a page. It must call leave() if it ends before.
  class Reader {
   public:
    virtual void on_page(const Page& page) = 0;
    virtual bool takes_gzip() const = 0;

   protected:
    ~Reader() = default;
  };
  // Collects the numbers, on the loop's thread; what it returns writes them, on the other.
  using Collect = std::function<observability::PageText()>;

  PageWriter(net::EventLoop& loop, Collect collect);
  ~PageWriter();
  PageWriter(const PageWriter&) = delete;

  void ask(Reader& reader);
  void leave(Reader& reader);

 private:
  struct Job {
    observability::PageText text;  // empty: none
    bool gzip = false;
  };
  void begin();
  void written(std::shared_ptr<const Page> page);
  void hand_out();
  void run();

  net::EventLoop& loop_;
  Collect collect_;
  std::vector<Reader*> waiting_, served_;  // for the next page; with the page that is being written or handed out
  std::shared_ptr<const Page> page_;       // while it is handed out
  bool busy_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  Job job_;            // under the lock
  bool ends_ = false;  // likewise
  std::thread thread_;
};

}  // namespace penstock::app
