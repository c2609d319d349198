#include "resume_queue.h"

#include <utility>

namespace penstock::proxy {

ResumeTurn::~ResumeTurn() {
  queue_.leave(*this);
}

ResumeQueue::ResumeQueue(net::EventLoop& loop, const uint32_t& at_once)
    : loop_(loop), at_once_(at_once), due_(net::Timer::of<&ResumeQueue::grant>(this)) {}

void ResumeQueue::wait(ResumeTurn& turn) {
  leave(turn);
  waiting_.push_back(turn);
  loop_.arm(due_, Duration{0});
}

void ResumeQueue::leave(ResumeTurn& turn) {
  turn.unlink();
  if (!std::exchange(turn.has_turn_, false)) return;
  --turns_;
  if (!waiting_.empty()) loop_.arm(due_, Duration{0});
}

// From the loop alone, since a turn may end other exchanges' turns.
void ResumeQueue::grant() {
  while (turns_ < at_once_ && !waiting_.empty()) {
    ResumeTurn& turn = waiting_.front();
    turn.unlink();
    turn.has_turn_ = true;
    ++turns_;
    turn.on_turn();
  }
}

}  // namespace penstock::proxy
