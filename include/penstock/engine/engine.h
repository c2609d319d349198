// The simulated inference engine: continuous batching over a paged KV cache, after the scheduler of vLLM V1. Each step
// serves running decodes first, then prefill chunks, then admits waiting sequences in order of arrival, within a token
// budget; when blocks run out, the sequence admitted last is preempted and later computed again. A step's duration is a
// closed formula. No I/O and no clock: whoever drives it calls advance() at or after next_event(), and events carry the
// exact simulated time, so that late timers do not add up. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "penstock/base/assert.h"
#include "penstock/base/time.h"
#include "penstock/engine/engine_stats.h"
#include "penstock/engine/kv_cache.h"
#include "penstock/engine/text.h"

namespace penstock::engine {

struct EngineOptions {
  uint32_t kv_blocks = 16384;
  uint32_t block_size = 16;  // tokens
  bool prefix_caching = true;
  uint32_t max_num_seqs = 256;
  uint32_t max_num_batched_tokens = 8192;
  double prefill_tokens_per_s = 20000;  // 0: prefill takes no time
  // How many tokens must stand before a prompt token for it to take twice as long (attention); 0: all take the same.
  double prefill_doubling_tokens = 0;
  double decode_ms = 10;                  // of a step with one decoding sequence
  double decode_ms_per_seq = 0.04;        // for each further one
  double decode_ms_per_1k_tokens = 0.02;  // for the context of the decoding sequences
  double step_overhead_ms = 0.2;
  uint64_t seed = 0;
  TextStyle text = TextStyle::plain;
  uint32_t eos_mean = 0;  // mean length of an answer that may end by itself, its end included; 0: it never does
  uint32_t loras = 0, max_loras = 0;  // adapters known; how many of them one step can serve
};

enum class FinishReason : uint8_t { stop, length, abort };

class Sequence;

// Events come from inside Engine::advance() alone; the callee must not call the engine.
class SequenceEvents {
 public:
  // The token by which an answer ends itself has no text, and no such event.
  virtual void on_token(Sequence& sequence, const Piece& piece) = 0;
  // The last event: stop or length. A sequence with max_tokens 0 ends with its prefill.
  virtual void on_finished(Sequence& sequence, FinishReason reason) = 0;

 protected:
  ~SequenceEvents() = default;
};

// Hears of the blocks of the cache. Comes from inside Engine::advance(), or reset_cache(); the callee must not call the
// engine.
class BlockEvents : public KvCacheEvents {
 public:
  // The sequence's block `i` can be found from now on by `key`; `parent`: the key of the one before it, if there is
  // one.
  virtual void on_stored(const Sequence& sequence, size_t i, uint64_t key, const uint64_t* parent) = 0;

 protected:
  ~BlockEvents() = default;
};

// One prompt and its answer. Owned by the caller, who fills in the public part before Engine::submit() and keeps it
// alive until on_finished() or Engine::abort(). May be used again after reset().
class Sequence {
 public:
  // `keep_bytes`: of its blocks, for BlockEvents.
  explicit Sequence(uint32_t block_size, bool keep_bytes = false) : stream(block_size, keep_bytes) {}
  ~Sequence() { PENSTOCK_ASSERT(state_ == State::idle); }
  Sequence(const Sequence&) = delete;

  TokenStream stream;  // the prompt; the engine appends the answer
  uint32_t max_tokens = 0, min_tokens = 0;
  bool ignore_eos = false;
  FinishReason reason_at_max = FinishReason::length;  // what the end at max_tokens is called
  uint64_t text_seed = 0;                             // of this request and choice
  uint64_t cache_salt = 0;                            // of the model, adapter and salt: separates cached blocks
  int32_t lora = -1;
  SequenceEvents* events = nullptr;
  bool stopped = false;  // set by on_token(): the answer ends with this token, as it does at a stop string

  uint32_t prompt_tokens() const { return prompt_tokens_; }
  uint32_t generated() const { return generated_; }
  uint32_t cached_tokens() const { return cached_tokens_; }  // set when it is first admitted
  bool in_engine() const { return state_ != State::idle; }
  void reset();

 private:
  friend class Engine;
  enum class State : uint8_t { idle, waiting, running };
  uint32_t total() const { return prompt_tokens_ + generated_; }
  uint32_t uncomputed() const { return total() - computed_; }

  State state_ = State::idle;
  bool admitted_ = false;  // at least once
  uint32_t prompt_tokens_ = 0, generated_ = 0, cached_tokens_ = 0;
  uint32_t computed_ = 0;   // tokens whose KV entries exist
  uint32_t scheduled_ = 0;  // tokens in the current step
  size_t published_ = 0;    // blocks of table_ that can be found by others
  KvCache::Table table_;
  Instant arrived_, admitted_at_, first_token_at_, last_token_at_;
};

// What an engine tells of itself. vLLM says it once in a step, at its end: what came during the step is not in it yet,
// and an idle engine that gets work says so after its first step.
struct Gauges {
  size_t running = 0, waiting = 0;  // sequences
  double kv_usage = 0;              // 0..1
};

class Engine {
 public:
  explicit Engine(const EngineOptions& options);
  ~Engine();

  // The longest sequence (prompt and answer) that can be served.
  uint32_t tokens_max() const { return options_.kv_blocks * options_.block_size; }
  // prompt + max_tokens must not exceed tokens_max(); the prompt must not be empty.
  void submit(Sequence& sequence, Instant now);
  // Ends the sequence at once and frees all that it holds. Harmless when it is not in the engine. No event follows.
  void abort(Sequence& sequence);

  // When advance() should be called next; nothing when there is nothing to do.
  std::optional<Instant> next_event() const;
  // Does everything that is due, but at most `steps_max` steps (for engines that take no time).
  void advance(Instant now, uint32_t steps_max = UINT32_MAX);

  // Null: nobody.
  void set_block_events(BlockEvents* events);
  // Steps that begin from now on take 1 / `speed` of the time that the options say. 1 at the start.
  void set_speed(double speed);
  // Forgets all that is cached. False, and nothing changed, while sequences run.
  bool reset_cache() { return cache_.clear(); }

  // As they are, which nobody outside sees.
  size_t running() const { return running_.size(); }
  size_t waiting() const { return waiting_.size(); }
  const KvCache& cache() const { return cache_; }
  // As they were told last.
  const Gauges& gauges() const { return gauges_; }
  const EngineStats& stats() const { return stats_; }
  const EngineOptions& options() const { return options_; }
  // Running or waiting sequences of an adapter.
  uint32_t lora_running(int32_t lora) const { return lora_running_[static_cast<size_t>(lora)]; }
  uint32_t lora_waiting(int32_t lora) const { return lora_waiting_[static_cast<size_t>(lora)]; }

 private:
  void start_step(Instant start);
  void finish_step();
  void tell_gauges(size_t waiting) { gauges_ = {running_.size(), waiting, cache_.usage()}; }
  void schedule_running(uint32_t& budget, bool& preempted);
  bool schedule(Sequence& sequence, uint32_t tokens, bool& preempted);
  void admit_waiting(uint32_t& budget, Instant start);
  bool admit(Sequence& sequence, uint32_t budget, Instant start);
  bool lora_fits(const Sequence& sequence) const;
  bool grow(Sequence& sequence, uint32_t tokens);
  void publish(Sequence& sequence);
  void preempt(Sequence& sequence);
  Sequence* victim();
  Duration step_duration() const;
  std::optional<FinishReason> sample(Sequence& sequence);
  void finish(Sequence& sequence, FinishReason reason);
  void leave(Sequence& sequence);
  BlockKeys keys_of(const Sequence& sequence) const { return {sequence.stream.chain(), sequence.cache_salt}; }
  uint32_t blocks_for(uint32_t tokens) const { return (tokens + options_.block_size - 1) / options_.block_size; }

  EngineOptions options_;
  KvCache cache_;
  EngineStats stats_;
  BlockEvents* block_events_ = nullptr;
  double speed_ = 1;
  std::deque<Sequence*> waiting_;   // in order of arrival; preempted ones at the front
  std::vector<Sequence*> running_;  // in order of admission
  std::vector<uint32_t> lora_running_, lora_waiting_;
  size_t left_waiting_ = 0;  // by the last step that began, of those that had arrived
  Gauges gauges_;
  bool step_in_flight_ = false;
  bool delivering_ = false;  // true exactly while events are being delivered
  Instant step_end_;         // of the step in flight, or of the last one
};

}  // namespace penstock::engine
