// The exchange of a stream that goes on at another endpoint. The answer stays what it is; only the attempt is another.
// Until one is found, the load stays reserved where it was.
#include "exchange.h"
#include "penstock/base/text.h"

namespace penstock::proxy {

using openai::ResumeObstacle;

// True: the stream will go on, or be broken off later. False: it cannot go on, and nothing has changed.
bool Exchange::resumes(AttemptFailure failure) {
  if (!info_of(failure).resumes) return false;
  if (answer_->said_all()) {  // what failed is the end of its connection
    leave_attempt();
    answer_->remembered()->beginning().reset();
    end_answer({});
    return true;
  }
  const ResumeObstacle obstacle = prepare_resume();
  if (obstacle != ResumeObstacle::none) {
    context_.observer.stream_not_resumed(obstacle);
    return false;
  }
  leave_attempt();
  answer_->go_on();
  if (answer_->remembered()->delivered().finished()) {
    std::string last;
    answer_->remembered()->delivered().append_last_event(last);
    if (heed(answer_->take_events(last))) end_answer({});
  } else {
    resume_->begin();
  }
  return true;
}

ResumeObstacle Exchange::prepare_resume() {
  const ResumeObstacle obstacle = answer_->resume_obstacle();
  if (obstacle != ResumeObstacle::none) return obstacle;
  if (!answer_->remembered()->delivered().has_shape()) return ResumeObstacle::unknown_event;  // comments alone
  if (answer_->remembered()->delivered().finished()) {  // all that is missing is the very end, or also the usage
    const bool whole = !intake_->request().include_usage || answer_->watch().answer().usage().has_value();
    return whole ? ResumeObstacle::none : ResumeObstacle::finished;
  }
  if (resume_ != nullptr) {
    return resume_->breaks() < context_.options.resume.per_stream ? obstacle : ResumeObstacle::too_often;
  }
  resume_ = std::make_unique<Resume>(context_, *gateway_.resumes_, *intake_, *answer_->remembered(),
                                     static_cast<ResumeOwner&>(*this));
  const ResumeObstacle of_request = resume_->read_request();
  if (of_request != ResumeObstacle::none) resume_.reset();
  return of_request;
}

void Exchange::leave_attempt() {
  attempt_->cancel();
  attempt_deadline_.cancel();
}

void Exchange::on_resume_turn() {
  if (placement_->route_on()) ask_again();
  else resume_->try_again();
}

void Exchange::on_resume_next() {
  leave_attempt();
  ask_again();
}

void Exchange::ask_again() {
  step_ = Step::connect;
  advance();
}

bool Exchange::on_resumed(std::string_view events, bool first) {
  if (first) {
    placement_->first_byte(context_.loop.now(), /*good=*/true);
    limit_pauses();
    if (attempt_->request_sent()) resume_->drop_request();
    if (placement_->explanation() != nullptr && !tell_seam()) return false;
  }
  return heed(answer_->take_events(events));
}

// To clients that ask why an endpoint was chosen, in a comment, which others do not read. The head has gone.
bool Exchange::tell_seam() {
  std::string comment = ": resumed";
  if (!shown_endpoint().empty()) append_all(comment, " at ", shown_endpoint());
  append_all(comment, "; ", *placement_->explanation(), "\n\n");
  return heed(answer_->take_events(comment));
}

// Where the stream can go on elsewhere there is no reason to wait long for a server that hangs.
void Exchange::limit_pauses() {
  if (under_way()) attempt_->connection().limit_pauses(context_.options.resume.stall);
}

void Exchange::on_resume_over() {
  attempt_->cancel();
  end_answer({});
}

void Exchange::on_resume_failed(AttemptFailure failure, bool on) {
  if (on) return break_stream(failure, /*whole_chunks=*/true);
  placement_->penalise(failure);
  context_.observer.attempt_failed(failure, true);
  leave_attempt();
  resume_->try_again();
}

void Exchange::on_resume_given_up(ResumeObstacle why) {
  context_.observer.stream_not_resumed(why);
  break_off(ErrorCode::stream_broken, /*whole_chunks=*/true);
}

}  // namespace penstock::proxy
