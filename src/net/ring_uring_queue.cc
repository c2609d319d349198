#include "ring_uring_queue.h"

#include <liburing.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>
#include <utility>

#include "penstock/base/assert.h"

namespace penstock::net {
namespace {

constexpr unsigned submission_entries = 1024;
// Multishot requests complete many times each. What has no room is kept by the kernel, at a price, and is not lost.
constexpr unsigned completion_entries = 32 * 1024, few_completion_entries = 4 * 1024;
constexpr rlim_t ample_locked_memory = 64 * 1024 * 1024;
constexpr uint16_t buffer_group = 0;
constexpr size_t buffer_bytes = UringQueue::buffer_count * UringQueue::buffer_size;
constexpr size_t buffer_ring_bytes = UringQueue::buffer_count * sizeof(io_uring_buf);

static_assert((UringQueue::buffer_count & (UringQueue::buffer_count - 1)) == 0);

void* map(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

bool exempt_from_locked_memory() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct held[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &header, held) == 0 && (held[0].effective & (1u << CAP_IPC_LOCK)) != 0;
}

unsigned queue_flags(const io_uring& ring) {
  return std::atomic_ref<unsigned>(*ring.sq.kflags).load(std::memory_order_relaxed);
}

}  // namespace

bool UringQueue::locked_memory_is_short() {
  rlimit limit{};
  return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < ample_locked_memory && !exempt_from_locked_memory();
}

UringQueue::UringQueue(Counter& syscalls) : syscalls_(syscalls), ring_(std::make_unique<io_uring>()) {}

UringQueue::~UringQueue() {
  if (open_) io_uring_queue_exit(ring_.get());
  if (buffer_ring_ != nullptr) munmap(buffer_ring_, buffer_ring_bytes);
  if (memory_ != nullptr) munmap(memory_, buffer_bytes);
}

int UringQueue::open(bool flag_work) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  if (flag_work) params.flags |= IORING_SETUP_TASKRUN_FLAG;
  params.cq_entries = locked_memory_is_short() ? few_completion_entries : completion_entries;
  failed_call_ = "io_uring_setup";
  syscalls_.add();
  int error = -io_uring_queue_init_params(submission_entries, ring_.get(), &params);
  if (error != 0) return error;
  open_ = true;
  // Completions must never be dropped, and a wait must take a timeout of its own.
  if (!(params.features & IORING_FEAT_NODROP) || !(params.features & IORING_FEAT_EXT_ARG)) return EINVAL;
  failed_call_ = "io_uring_register ring descriptor";
  syscalls_.add();
  const int registered = io_uring_register_ring_fd(ring_.get());
  if (registered != 1) return registered < 0 ? -registered : EINVAL;
  return open_buffers();
}

int UringQueue::open_buffers() {
  failed_call_ = "mmap of receive buffers";
  memory_ = static_cast<char*>(map(buffer_bytes));
  buffer_ring_ = static_cast<io_uring_buf*>(map(buffer_ring_bytes));
  syscalls_.add(3);
  if (memory_ == nullptr || buffer_ring_ == nullptr) return ENOMEM;
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uintptr_t>(buffer_ring_);
  registration.ring_entries = buffer_count;
  registration.bgid = buffer_group;
  failed_call_ = "io_uring_register buffer ring";
  const int error = -io_uring_register_buf_ring(ring_.get(), &registration, 0);
  if (error != 0) return error;
  for (unsigned id = 0; id < buffer_count; ++id) recycle(static_cast<int32_t>(id));
  try_receive_limits();
  return 0;
}

// A request is checked for what it asks before its descriptor is looked up.
void UringQueue::try_receive_limits() {
  receive_multishot(-1, 0);
  wait(Duration(0));
  std::vector<Completion> completions;
  reap(completions, 1);
  limits_receives_ = completions.size() == 1 && completions[0].result != -EINVAL;
}

// Entry 0 of the shared ring keeps the tail in its last 16 bits, so entries are filled member by member.
void UringQueue::recycle(int32_t id) {
  io_uring_buf& entry = buffer_ring_[buffer_tail_ & (buffer_count - 1)];
  entry.addr = reinterpret_cast<uintptr_t>(buffer(id));
  entry.len = buffer_size;
  entry.bid = static_cast<uint16_t>(id);
  std::atomic_ref<uint16_t>(buffer_ring_[0].resv).store(++buffer_tail_, std::memory_order_release);
}

io_uring_sqe* UringQueue::next_request() {
  io_uring_sqe* request = io_uring_get_sqe(ring_.get());
  while (request == nullptr) {
    syscalls_.add();
    const int submitted = io_uring_submit(ring_.get());
    if (submitted == -EBUSY || submitted == -EAGAIN) {
      // The kernel takes nothing new before completions it had no room for have been collected.
      reap(spilled_, std::numeric_limits<size_t>::max());
      syscalls_.add();
      io_uring_get_events(ring_.get());
    } else {
      PENSTOCK_ASSERT(submitted >= 0 || submitted == -EINTR);
    }
    request = io_uring_get_sqe(ring_.get());
  }
  return request;
}

void UringQueue::receive_multishot(int fd, uint64_t user_data, ReceiveLimit limit) {
  io_uring_sqe* request = next_request();
  io_uring_prep_recv_multishot(request, fd, nullptr, 0, 0);
  request->flags |= IOSQE_BUFFER_SELECT;
  request->buf_group = buffer_group;
  request->user_data = user_data;
  if (limits_receives_) {
    request->len = limit.slice;
    request->file_index = limit.total;  // named optlen in later headers
  }
}

void UringQueue::poll_once(int fd, unsigned events, uint64_t user_data) {
  io_uring_sqe* request = next_request();
  io_uring_prep_poll_add(request, fd, events);
  request->user_data = user_data;
}

void UringQueue::poll_multishot(int fd, unsigned events, uint64_t user_data) {
  io_uring_sqe* request = next_request();
  io_uring_prep_poll_multishot(request, fd, events);
  request->user_data = user_data;
}

void UringQueue::cancel(uint64_t target, uint64_t user_data) {
  io_uring_sqe* request = next_request();
  io_uring_prep_cancel64(request, target, 0);
  request->flags |= IOSQE_CQE_SKIP_SUCCESS;
  request->user_data = user_data;
}

void UringQueue::cancel_everything(uint64_t user_data) {
  io_uring_sqe* request = next_request();
  io_uring_prep_cancel64(request, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
  request->user_data = user_data;
}

void UringQueue::wait(Duration limit) {
  syscalls_.add();
  int result;
  if (limit == Duration(0) || !spilled_.empty()) {
    result = io_uring_submit_and_get_events(ring_.get());
  } else if (limit < Duration(0)) {
    result = io_uring_submit_and_wait(ring_.get(), 1);
  } else {
    __kernel_timespec timeout{duration_cast<seconds>(limit).count(), (limit % seconds(1)).count()};
    io_uring_cqe* first = nullptr;
    result = io_uring_submit_and_wait_timeout(ring_.get(), &first, 1, &timeout, nullptr);
  }
  // Busy: requests stay queued and go with the next wait, after the caller has reaped.
  PENSTOCK_ASSERT(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY || result == -EAGAIN);
  if (queue_flags(*ring_) & IORING_SQ_CQ_OVERFLOW) ++overflows_;
}

bool UringQueue::completions_ready() const {
  return !spilled_.empty() || io_uring_cq_ready(ring_.get()) > 0;
}

bool UringQueue::requests_queued() const {
  return io_uring_sq_ready(ring_.get()) > 0;
}

bool UringQueue::work_pending() const {
  return completions_ready() || (queue_flags(*ring_) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void UringQueue::reap(std::vector<Completion>& into, size_t most) {
  size_t count = 0;
  if (&into != &spilled_ && !spilled_.empty()) {
    count = std::min(most, spilled_.size());
    into.insert(into.end(), spilled_.begin(), spilled_.begin() + static_cast<ptrdiff_t>(count));
    spilled_.erase(spilled_.begin(), spilled_.begin() + static_cast<ptrdiff_t>(count));
  }
  unsigned head, seen = 0;
  io_uring_cqe* entry;
  io_uring_for_each_cqe(ring_.get(), head, entry) {
    if (count == most) break;
    const bool has_buffer = (entry->flags & IORING_CQE_F_BUFFER) != 0;
    into.push_back({entry->user_data, entry->res,
                    has_buffer ? static_cast<int32_t>(entry->flags >> IORING_CQE_BUFFER_SHIFT) : -1,
                    (entry->flags & IORING_CQE_F_MORE) == 0});
    ++count;
    ++seen;
  }
  io_uring_cq_advance(ring_.get(), seen);
}

uint64_t UringQueue::take_overflows() {
  return std::exchange(overflows_, 0);
}

}  // namespace penstock::net
