#include "resume.h"

#include <algorithm>
#include <utility>

#include "penstock/base/containers.h"
#include "penstock/base/text.h"

namespace penstock::proxy {

using openai::Continuation;
using openai::ResumeObstacle;

namespace {
constexpr Duration pause = milliseconds(100);              // before another endpoint is tried
constexpr Duration tokenizer_timeout = seconds(10);        // a tokenizer needs milliseconds
constexpr uint32_t cuts_max = 8;                           // tokens whose text ends within a character
constexpr size_t tokenizer_answer_max = 16 * 1024 * 1024;  // the ids of about two million tokens

std::string_view without_query(std::string_view target) {
  return target.substr(0, target.find('?'));
}
}  // namespace

Resume::Resume(Context& context, ResumeQueue& queue, const Intake& intake, RememberedStream& stream, ResumeOwner& owner)
    : ResumeTurn(queue),
      context_(context),
      queue_(queue),
      intake_(intake),
      stream_(stream),
      owner_(owner),
      timer_(net::Timer::of<&Resume::on_timer>(this)),
      answer_(context.budget),
      sse_(*this) {}

bool Resume::knows_path(std::string_view target) {
  const std::string_view path = without_query(target);
  constexpr std::string_view known[] = {"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"};
  return std::any_of(std::begin(known), std::end(known), [&](std::string_view end) { return path.ends_with(end); });
}

// What stands in front of /v1 belongs to the server.
std::string Resume::path(std::string_view of) const {
  const std::string_view path = without_query(intake_.head().target());
  return std::string(path.substr(0, path.rfind("/v1/"))).append(of);
}

ResumeObstacle Resume::read_request() {
  return openai::ResumeRequest::read(intake_.request().api, intake_.body().view(), intake_.target_model(), request_);
}

// ---- when ----

void Resume::begin() {
  ++breaks_;
  on_ = false;
  broke_at_ = context_.loop.now();
  text_.reset();
  gap_.clear();
  cuts_ = 0;
  continuation_.reset();
  state_ = Continuation::State::going;
  queue_.wait(*this);
  context_.loop.arm_at(timer_, broke_at_ + context_.options.resume.wait);
}

void Resume::try_again() {
  queue_.leave(*this);
  if (context_.loop.now() >= broke_at_ + context_.options.resume.wait) {
    return owner_.on_resume_given_up(ResumeObstacle::no_endpoint);
  }
  pauses_ = true;
  context_.loop.arm(timer_, pause);
}

void Resume::on_timer() {
  if (!std::exchange(pauses_, false)) return owner_.on_resume_given_up(ResumeObstacle::no_endpoint);
  queue_.wait(*this);
  context_.loop.arm_at(timer_, broke_at_ + context_.options.resume.wait);
}

void Resume::on_turn() {
  timer_.cancel();
  first_ = true;
  if (ask_next()) owner_.on_resume_turn();
}

// ---- what is asked ----

// The ids that are known already need not be asked for again. False: there is nothing to ask for; nothing may be
// touched any more.
bool Resume::ask_next() {
  const std::string_view text = stream_.delivered().text();
  if (tokenizes_ && !prompt_ && !request_.prompt_ids().empty()) prompt_.emplace().ids = request_.prompt_ids();
  if (tokenizes_ && !text_ && text.empty() && stream_.delivered().ids().empty()) text_.emplace();
  if (tokenizes_ && (!prompt_ || !text_)) {
    ask(!prompt_ ? Asks::prompt : stream_.delivered().ids().empty() ? Asks::text : Asks::made);
    return true;
  }
  prompt_tokens_ = prompt_ ? static_cast<uint32_t>(prompt_->ids.size()) : 0;
  text_tokens_ = text_ ? static_cast<uint32_t>(text_->ids.size()) : stream_.delivered().events();
  ask(Asks::continuation);
  if (!body_.empty()) return true;
  const uint32_t context = prompt_ ? prompt_->max_model_len : 0;
  if (request_.tokens_left(prompt_tokens_, text_tokens_, context) == 0u) finish();
  else owner_.on_resume_given_up(ResumeObstacle::no_limit);
  return false;
}

void Resume::ask(Asks what) {
  asks_ = what;
  answer_.reset();
  const std::string_view text = stream_.delivered().text();
  switch (what) {
    case Asks::prompt:
      target_ = path("/tokenize");
      body_ = request_.tokenize_prompt();
      return;
    case Asks::text:
      target_ = path("/tokenize");
      body_ = request_.tokenize_text(text);
      return;
    case Asks::made:
      target_ = path("/detokenize");
      body_ = request_.detokenize(stream_.delivered().ids());
      return;
    case Asks::continuation:
      target_ = path("/v1/completions");
      body_ = tokenizes_ ? request_.continuation(prompt_->ids, text_->ids, prompt_->max_model_len,
                                                 stream_.delivered().keeps_ids())
                         : request_.text_continuation(text, stream_.delivered().events());
      continuation_.emplace(stream_.delivered(), request_.stops(), request_.include_stop_in_output(), gap_);
      state_ = Continuation::State::going;
      sse_.reset();
  }
}

Attempt::Instead Resume::request() const {
  const bool tokenizer = asks_ != Asks::continuation;
  const Duration first_byte = context_.options.first_byte_timeout;
  const bool shorter = tokenizer && (first_byte == Duration{0} || first_byte > tokenizer_timeout);
  return {.target = target_,
          .body = body_,
          .first_byte_timeout = shorter ? tokenizer_timeout : first_byte,
          .staged = !tokenizer};
}

void Resume::drop_request() {
  free_memory(body_);
  prompt_.reset();
  text_.reset();
}

// ---- what is answered ----

// Servers without a tokenizer can still continue a text, though perhaps not in the same tokens.
bool Resume::without_tokenizer(uint16_t status) {
  const bool missing = asks_ != Asks::continuation && (status == 404 || status == 405 || status == 501);
  if (missing && asks_ == Asks::made) {
    stream_.delivered().forget_ids();
    return stream_.delivered().can_go_on();
  }
  if (!missing || !request_.text_prompt()) return false;
  tokenizes_ = false;
  return true;
}

void Resume::on_response_head(http::Head& head) {
  if (head.status == 200) return;
  if (without_tokenizer(head.status)) return go_on();
  const bool busy = head.status == 408 || head.status == 429 || head.status >= 500;
  if (busy) return owner_.on_resume_failed(AttemptFailure::status_503, on_);
  owner_.on_resume_given_up(head.status == 404 ? ResumeObstacle::no_tokenizer : ResumeObstacle::refused);
}

void Resume::on_response_data(std::string_view decoded) {
  if (asks_ == Asks::continuation) {
    events_.clear();
    sse_.feed(decoded);
    stream_.charge();
    if (!stream_.delivered().can_end()) return owner_.on_resume_given_up(stream_.obstacle());
    if (continuation_->cut()) return finish();
    if (!events_.empty() && !pass_on()) return;
    if (state_ == Continuation::State::failed) owner_.on_resume_failed(AttemptFailure::error_event, on_);
    return;
  }
  const bool room = answer_.size() + decoded.size() <= tokenizer_answer_max && answer_.append(decoded, 0);
  if (!room) owner_.on_resume_given_up(ResumeObstacle::memory);
}

void Resume::on_sse_event(std::string_view /*name*/, std::string_view data) {
  if (state_ == Continuation::State::failed || state_ == Continuation::State::over) return;
  state_ = continuation_->take(data, events_);
}

// False: nothing may be touched any more.
bool Resume::pass_on() {
  const bool first = !std::exchange(on_, true);
  if (first) {
    queue_.leave(*this);
    const uint64_t again = tokenizes_ ? prompt_tokens_ + text_tokens_ : intake_.prompt_tokens();
    context_.observer.stream_resumed(context_.loop.now() - broke_at_, again);
  }
  return owner_.on_resumed(events_, first);
}

void Resume::on_response_end(std::string_view /*trailers*/) {
  owner_.on_resume_ended();
  if (asks_ != Asks::continuation) {
    if (!take_answer()) return owner_.on_resume_failed(AttemptFailure::bad_response, on_);
    if (stream_.delivered().can_go_on()) return go_on();
    return owner_.on_resume_given_up(stream_.delivered().obstacle());
  }
  if (state_ == Continuation::State::going) return owner_.on_resume_failed(AttemptFailure::unfinished, on_);
  finish();
}

// With the ids that are known now.
void Resume::go_on() {
  first_ = false;
  if (ask_next()) owner_.on_resume_next();
}

bool Resume::take_answer() {
  const bool read = asks_ == Asks::made ? take_made() : take_ids();
  answer_.reset();
  return read;
}

bool Resume::take_ids() {
  std::optional<openai::Tokenized>& to = asks_ == Asks::prompt ? prompt_ : text_;
  const bool read = openai::read_tokenized(answer_.view(), to.emplace());
  if (!read) to.reset();
  return read;
}

// What the ids of the tokens stand for: if it is not what the client has, the text alone counts.
bool Resume::take_made() {
  std::string made;
  if (!openai::read_detokenized(answer_.view(), made)) return false;
  openai::Delivered& delivered = stream_.delivered();
  openai::Seam seam = openai::seam_of(delivered.text(), made);
  const bool fewer = seam.ids == openai::Seam::Ids::fewer && cuts_++ < cuts_max;
  if (fewer) delivered.cut_ids(delivered.ids().size() - 1);
  else if (seam.ids != openai::Seam::Ids::all) delivered.forget_ids();
  if (seam.ids != openai::Seam::Ids::all) return true;
  text_.emplace().ids = delivered.ids();
  gap_ = std::move(seam.gap);
  return true;
}

// All text has come. Nothing was asked for if the answer had all its tokens when it broke.
void Resume::finish() {
  if (asks_ != Asks::continuation || !continuation_->cut()) events_.clear();
  openai::Delivered& delivered = stream_.delivered();
  if (state_ == Continuation::State::going) {
    if (!gap_.empty()) {
      delivered.append_text_event(events_, gap_);
      delivered.add(std::exchange(gap_, ""));
    }
    delivered.append_finish_event(events_, "length", "");
    delivered.finish("length", "");
  }
  delivered.append_end_events(events_, request_.include_usage() ? std::optional(usage()) : std::nullopt);
  if (pass_on()) owner_.on_resume_over();
}

// The prompt counts once, the text of all runs.
openai::Usage Resume::usage() const {
  const std::optional<openai::Usage> last = continuation_ ? continuation_->usage() : std::nullopt;
  const uint32_t after = last ? last->completion_tokens : continuation_ ? continuation_->events() : 0;
  const uint32_t all = last ? last->prompt_tokens : 0;
  return {.prompt_tokens = tokenizes_ ? prompt_tokens_ : all - std::min(all, text_tokens_),
          .completion_tokens = text_tokens_ + after,
          .cached_tokens = std::nullopt};
}

void Resume::on_response_failed(upstream::Failure failure, bool /*received*/, bool /*reused*/) {
  owner_.on_resume_ended();
  const bool all = asks_ == Asks::continuation && state_ == Continuation::State::over;
  if (all) return finish();
  owner_.on_resume_failed(attempt_failure_of(failure, on_), on_);
}

}  // namespace penstock::proxy
