#include "penstock/engine/engine.h"

#include <algorithm>
#include <utility>

#include "penstock/base/assert.h"

namespace penstock::engine {
namespace {

Duration from_ms(double ms) {
  return from_seconds(ms / 1000);
}

}  // namespace

void Sequence::reset() {
  PENSTOCK_ASSERT(state_ == State::idle && table_.empty());
  stream.clear();
  max_tokens = min_tokens = 0;
  ignore_eos = stopped = admitted_ = false;
  reason_at_max = FinishReason::length;
  text_seed = cache_salt = 0;
  lora = -1;
  events = nullptr;
  prompt_tokens_ = generated_ = cached_tokens_ = 0;
}

Engine::Engine(const EngineOptions& options)
    : options_(options),
      cache_(options.kv_blocks, options.prefix_caching),
      lora_running_(options.loras),
      lora_waiting_(options.loras) {
  PENSTOCK_ASSERT(options.block_size > 0 && options.max_num_seqs > 0 && options.max_num_batched_tokens > 0);
  PENSTOCK_ASSERT(options.loras == 0 || options.max_loras > 0);
}

Engine::~Engine() {
  while (!running_.empty()) abort(*running_.back());
  while (!waiting_.empty()) abort(*waiting_.back());
}

void Engine::submit(Sequence& sequence, Instant now) {
  PENSTOCK_ASSERT(!delivering_ && sequence.state_ == Sequence::State::idle && sequence.events != nullptr);
  sequence.prompt_tokens_ = sequence.stream.tokens();
  sequence.generated_ = sequence.computed_ = 0;
  PENSTOCK_ASSERT(sequence.prompt_tokens_ > 0);
  PENSTOCK_ASSERT(uint64_t{sequence.prompt_tokens_} + sequence.max_tokens <= tokens_max());
  sequence.state_ = Sequence::State::waiting;
  sequence.arrived_ = now;
  waiting_.push_back(&sequence);
  if (sequence.lora >= 0) ++lora_waiting_[static_cast<size_t>(sequence.lora)];
}

void Engine::abort(Sequence& sequence) {
  if (sequence.state_ == Sequence::State::idle) return;
  PENSTOCK_ASSERT(!delivering_);
  if (sequence.state_ == Sequence::State::running) {
    running_.erase(std::find(running_.begin(), running_.end(), &sequence));
  } else {
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &sequence));
  }
  leave(sequence);
  ++stats_.finished_abort;
  if (!step_in_flight_ && running_.empty() && waiting_.empty()) tell_gauges(0);  // no step will come that tells it
}

std::optional<Instant> Engine::next_event() const {
  if (step_in_flight_) return step_end_;
  if (!running_.empty()) return step_end_;
  if (!waiting_.empty()) return std::max(step_end_, waiting_.front()->arrived_);
  return std::nullopt;
}

void Engine::advance(Instant now, uint32_t steps_max) {
  for (uint32_t steps = 0; steps < steps_max;) {
    const std::optional<Instant> at = next_event();
    if (!at || *at > now) return;
    if (!step_in_flight_) {
      start_step(*at);
    } else {
      finish_step();
      ++steps;
    }
  }
}

// ---- a step begins: who takes part, and how long it takes ----

void Engine::start_step(Instant start) {
  uint32_t budget = options_.max_num_batched_tokens;
  bool preempted = false;
  schedule_running(budget, preempted);
  // Blocks were short for those already running: nobody else is let in.
  if (!preempted) admit_waiting(budget, start);
  PENSTOCK_ASSERT(budget < options_.max_num_batched_tokens);  // the first in line always fits into an empty engine
  // Those at the front that were preempted had arrived, too.
  const auto late = std::partition_point(waiting_.begin(), waiting_.end(),
                                         [&](const Sequence* sequence) { return sequence->arrived_ <= start; });
  left_waiting_ = static_cast<size_t>(late - waiting_.begin());
  step_in_flight_ = true;
  step_end_ = start + step_duration();
  stats_.step_tokens.observe(options_.max_num_batched_tokens - budget);
  ++stats_.steps;
}

void Engine::schedule_running(uint32_t& budget, bool& preempted) {
  for (const bool decodes : {true, false}) {
    // Whoever is preempted is the last one not yet scheduled, so it stands at or behind i.
    for (size_t i = 0; i < running_.size() && budget > 0;) {
      Sequence& sequence = *running_[i];
      const uint32_t wanted = sequence.uncomputed();
      const bool my_turn = sequence.scheduled_ == 0 && (wanted == 1) == decodes;
      const uint32_t tokens = std::min(wanted, budget);
      if (my_turn && !schedule(sequence, tokens, preempted)) continue;
      if (my_turn) budget -= tokens;
      ++i;
    }
  }
}

// Finds room for `tokens` more, preempting the latest arrivals while there is none. False: it was itself preempted.
bool Engine::schedule(Sequence& sequence, uint32_t tokens, bool& preempted) {
  while (!grow(sequence, tokens)) {
    preempted = true;
    Sequence* loser = victim();
    PENSTOCK_ASSERT(loser != nullptr);
    preempt(*loser);
    if (loser == &sequence) return false;
  }
  sequence.scheduled_ = tokens;
  publish(sequence);
  return true;
}

Sequence* Engine::victim() {
  for (size_t i = running_.size(); i-- > 0;) {
    if (running_[i]->scheduled_ == 0) return running_[i];
  }
  return nullptr;
}

void Engine::preempt(Sequence& sequence) {
  running_.erase(std::find(running_.begin(), running_.end(), &sequence));
  leave(sequence);
  sequence.state_ = Sequence::State::waiting;
  waiting_.push_front(&sequence);
  if (sequence.lora >= 0) ++lora_waiting_[static_cast<size_t>(sequence.lora)];
  ++stats_.preemptions;
}

void Engine::admit_waiting(uint32_t& budget, Instant start) {
  // Sequences whose adapter has no slot are passed over, not waited for.
  for (size_t i = 0; i < waiting_.size() && budget > 0 && running_.size() < options_.max_num_seqs;) {
    Sequence& sequence = *waiting_[i];
    if (sequence.arrived_ > start) return;
    if (!lora_fits(sequence)) {
      ++i;
      continue;
    }
    if (!admit(sequence, budget, start)) return;
    budget -= sequence.scheduled_;
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
  }
}

bool Engine::admit(Sequence& sequence, uint32_t budget, Instant start) {
  // At least the last token must be computed, or there would be nothing to sample from.
  const size_t limit = (sequence.total() - 1) / options_.block_size;
  const size_t hits = cache_.find_prefix(keys_of(sequence), limit);
  const uint32_t cached = static_cast<uint32_t>(hits) * options_.block_size;
  const uint32_t tokens = std::min(sequence.total() - cached, budget);
  if (!cache_.take(sequence.table_, keys_of(sequence), hits, blocks_for(cached + tokens) - hits)) return false;

  if (!sequence.admitted_) {
    sequence.admitted_ = true;
    sequence.admitted_at_ = start;
    sequence.cached_tokens_ = cached;
    stats_.prefix_queries += sequence.prompt_tokens_;
    stats_.prefix_hits += cached;
  }
  sequence.computed_ = cached;
  sequence.published_ = hits;
  sequence.scheduled_ = tokens;
  sequence.state_ = Sequence::State::running;
  running_.push_back(&sequence);
  if (sequence.lora >= 0) {
    --lora_waiting_[static_cast<size_t>(sequence.lora)];
    ++lora_running_[static_cast<size_t>(sequence.lora)];
  }
  publish(sequence);
  return true;
}

bool Engine::lora_fits(const Sequence& sequence) const {
  if (sequence.lora < 0 || lora_running_[static_cast<size_t>(sequence.lora)] > 0) return true;
  const auto used = std::count_if(lora_running_.begin(), lora_running_.end(), [](uint32_t n) { return n > 0; });
  return static_cast<uint32_t>(used) < options_.max_loras;
}

bool Engine::grow(Sequence& sequence, uint32_t tokens) {
  const uint32_t needed = blocks_for(sequence.computed_ + tokens);
  const uint32_t held = static_cast<uint32_t>(sequence.table_.size());
  return needed <= held || cache_.take(sequence.table_, keys_of(sequence), 0, needed - held);
}

// Blocks that this step fills can be found from now on: within one step the layers are computed for all sequences
// together, so even a sequence admitted later in this step may use them.
void Engine::publish(Sequence& sequence) {
  const BlockKeys keys = keys_of(sequence);
  const size_t filled = (sequence.computed_ + sequence.scheduled_) / options_.block_size;
  const size_t end = std::min(filled, keys.size());
  for (; sequence.published_ < end; ++sequence.published_) {
    const size_t i = sequence.published_;
    cache_.publish(sequence.table_[i], keys[i]);
    if (block_events_ == nullptr) continue;
    const uint64_t parent = i > 0 ? keys[i - 1] : 0;
    block_events_->on_stored(sequence, i, keys[i], i > 0 ? &parent : nullptr);
  }
}

void Engine::set_speed(double speed) {
  PENSTOCK_ASSERT(speed > 0);
  speed_ = speed;
}

void Engine::set_block_events(BlockEvents* events) {
  block_events_ = options_.prefix_caching ? events : nullptr;
  cache_.set_events(block_events_);
}

Duration Engine::step_duration() const {
  uint64_t decodes = 0, context = 0;
  double prefill_tokens = 0;
  for (const Sequence* sequence : running_) {
    if (sequence->scheduled_ == 0) continue;
    if (sequence->uncomputed() == 1 && sequence->generated_ > 0) {
      ++decodes;
      context += sequence->total();
    } else {
      const double tokens = sequence->scheduled_;
      prefill_tokens += tokens;
      if (options_.prefill_doubling_tokens > 0) {
        prefill_tokens += tokens * (sequence->computed_ + tokens / 2) / options_.prefill_doubling_tokens;
      }
    }
  }
  Duration duration = from_ms(options_.step_overhead_ms);
  if (decodes > 0) {
    duration += from_ms(options_.decode_ms + options_.decode_ms_per_seq * static_cast<double>(decodes - 1) +
                        options_.decode_ms_per_1k_tokens * static_cast<double>(context) / 1000);
  }
  if (options_.prefill_tokens_per_s > 0) {
    duration += from_seconds(prefill_tokens / options_.prefill_tokens_per_s);
  }
  return speed_ == 1 ? duration : from_seconds(to_seconds(duration) / speed_);
}

// ---- a step ends: tokens come out ----

void Engine::finish_step() {
  step_in_flight_ = false;
  delivering_ = true;
  for (Sequence*& place : running_) {
    Sequence& sequence = *place;
    if (sequence.scheduled_ == 0) continue;
    sequence.computed_ += std::exchange(sequence.scheduled_, 0);
    if (sequence.uncomputed() > 0) continue;
    const std::optional<FinishReason> reason = sample(sequence);
    if (!reason) continue;
    place = nullptr;
    finish(sequence, *reason);
  }
  delivering_ = false;
  std::erase_if(running_, [](const Sequence* sequence) { return sequence == nullptr; });
  tell_gauges(std::min(left_waiting_, waiting_.size()));
}

std::optional<FinishReason> Engine::sample(Sequence& sequence) {
  if (sequence.generated_ == 0) {
    stats_.prompt_tokens += sequence.prompt_tokens_;
    sequence.first_token_at_ = step_end_;
    stats_.time_to_first_token.observe(to_seconds(step_end_ - sequence.arrived_));
  } else {
    stats_.inter_token_latency.observe(to_seconds(step_end_ - sequence.last_token_at_));
  }
  sequence.last_token_at_ = step_end_;
  if (sequence.max_tokens == 0) return FinishReason::stop;

  const TokenStream::Next next = sequence.stream.next(mix(options_.seed, sequence.text_seed), options_.text);
  ++sequence.generated_;
  ++stats_.generation_tokens;
  // The end is a token without text. So an answer whose end was lost ends where it is continued from all of its text.
  const bool may_end = options_.eos_mean > 0 && !sequence.ignore_eos && sequence.generated_ > sequence.min_tokens;
  if (may_end && next.chance < UINT32_MAX / options_.eos_mean) return FinishReason::stop;
  sequence.stream.append(next.piece);
  sequence.events->on_token(sequence, next.piece);
  if (sequence.stopped) return FinishReason::stop;
  if (sequence.generated_ == sequence.max_tokens) return sequence.reason_at_max;
  return std::nullopt;
}

void Engine::finish(Sequence& sequence, FinishReason reason) {
  ++(reason == FinishReason::stop ? stats_.finished_stop : stats_.finished_length);
  const double decode = to_seconds(sequence.last_token_at_ - sequence.first_token_at_);
  stats_.e2e_latency.observe(to_seconds(step_end_ - sequence.arrived_));
  stats_.queue_time.observe(to_seconds(sequence.admitted_at_ - sequence.arrived_));
  stats_.prefill_time.observe(to_seconds(sequence.first_token_at_ - sequence.admitted_at_));
  stats_.decode_time.observe(decode);
  stats_.inference_time.observe(to_seconds(step_end_ - sequence.admitted_at_));
  stats_.request_prompt_tokens.observe(sequence.prompt_tokens_);
  stats_.request_generation_tokens.observe(sequence.generated_);
  stats_.request_max_tokens.observe(sequence.max_tokens);
  if (sequence.generated_ > 1) stats_.request_time_per_output_token.observe(decode / (sequence.generated_ - 1));
  leave(sequence);
  sequence.events->on_finished(sequence, reason);
}

// What ends any stay among the running or waiting.
void Engine::leave(Sequence& sequence) {
  if (sequence.lora >= 0) {
    const bool running = sequence.state_ == Sequence::State::running;
    --(running ? lora_running_ : lora_waiting_)[static_cast<size_t>(sequence.lora)];
  }
  cache_.release(sequence.table_);
  sequence.state_ = Sequence::State::idle;
  sequence.computed_ = sequence.scheduled_ = 0;
  sequence.published_ = 0;
}

}  // namespace penstock::engine
