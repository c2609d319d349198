// One request to the simulated server and its answer. Life: begin() with the head, body pieces, then either a page that
// is answered at once or an inference request: its sequences go to the engine, tokens gather in the choices, and
// flush() sends what is there, as fast as the connection takes it. Reused through SimServer. One thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "penstock/base/intrusive_list.h"
#include "penstock/downstream/connection.h"
#include "sim/answer.h"
#include "sim/engine_names.h"
#include "sim/fault.h"
#include "sim/request.h"
#include "sim/routes.h"

namespace penstock::sim {

class SimServer;
struct DirtyTag {};

class Exchange final : public downstream::RequestHandler, public SequenceEvents, public ListNode<DirtyTag> {
 public:
  explicit Exchange(SimServer& server);
  ~Exchange();

  void begin(downstream::Connection& connection, const http::Head& head);
  // Sends what has come out of the engine. Called after every engine turn in which something has.
  void flush();
  // Ends its answer where it is, with the finish reason "abort", as vLLM does when it is told to stop.
  void give_up();

 private:
  struct Choice : Sequence {
    Choice(uint32_t block_size, bool keep_bytes) : Sequence(block_size, keep_bytes) {}
    uint32_t index = 0;
    uint32_t tokens_told() const { return cut_to.value_or(generated()); }  // in its usage
    std::string echo, text;
    size_t sent = 0;         // bytes of text already in the stream
    size_t tokens_sent = 0;  // where each is an event of its own
    bool echo_sent = false, ended = false, end_sent = false;
    FinishReason reason = FinishReason::length;
    size_t stop = SIZE_MAX;          // the stop string that ended it
    std::optional<uint32_t> cut_to;  // so many tokens, whatever the engine has made
  };

  void on_body(std::string_view bytes) override;
  void on_request_end() override;
  void on_request_failed(const downstream::RequestFailure& failure) override;
  void on_drained() override;
  void on_gone(downstream::Gone why) override;
  void on_token(Sequence& sequence, const Piece& piece) override;
  void on_finished(Sequence& sequence, FinishReason reason) override;
  void on_delay();

  void serve_local(const Request& request);
  void change_loras(const Request& request);
  void start_inference(Request& request);
  bool accept_model(const Request& request);
  bool accept_lengths(const Request& request);
  bool accept_load(const Request& request);
  void shape_answer(const Request& request);
  void submit(Request& request);
  Choice& add_choice();
  void look_for_stop(Choice& choice);

  bool format(std::string& out, size_t& head_size);
  bool format_stream(std::string& out);
  bool format_choice(std::string& out, Choice& choice);
  void format_whole(std::string& out);
  bool format_tokens(std::string& out, Choice& choice);
  void format_token(std::string& out, Choice& choice, size_t end, bool last);
  std::string_view unsent(const Choice& choice) const;
  size_t sendable(std::string_view text) const;
  std::string_view json_text(std::string_view text, std::string& escaped) const;
  Ending ending_of(const Choice& choice) const;
  Tally tally() const;
  uint32_t prompt_count() const { return static_cast<uint32_t>(choice_count_ / n_); }

  bool transmit(std::string_view bytes, size_t head_size);
  bool transmit_faulty(std::string_view bytes, size_t head_size);
  bool break_is_due() const;
  void strike();
  void end_badly();
  void break_off();
  void append_head(std::string& out, uint16_t status, std::string_view content_type, const size_t* length);
  void reply(uint16_t status, std::string_view content_type, std::string_view body,
             downstream::After after = downstream::After::keep_alive);
  void reply_error(uint16_t status, std::string_view message, std::string_view param = {},
                   downstream::After after = downstream::After::keep_alive);
  void finish(downstream::After after);
  void die();
  void release();

  SimServer& server_;
  downstream::Connection* connection_ = nullptr;  // set exactly while a request is being served
  net::BodyBuffer body_;
  net::Timer delay_;  // slow-header, and waiting to reset
  AnswerWriter writer_;
  std::vector<std::unique_ptr<Choice>> choices_;  // the first choice_count_ are in use
  size_t choice_count_ = 0;
  uint32_t n_ = 1;  // choices per prompt
  size_t unfinished_ = 0;
  std::vector<std::string> stop_;
  size_t kept_back_ = 0;  // bytes of a running answer's text: a stop string may begin in them
  bool include_stop_ = false;
  std::string request_id_;
  uint64_t expected_body_ = 0;
  Route route_;
  Fault fault_;
  bool json_body_ = false;  // by its content type
  std::string bad_fault_;   // what is wrong with the x-sim-fail header
  int32_t lora_ = -1;
  // For the answers that are not text.
  std::vector<std::string> documents_;
  uint32_t top_n_ = 0, dimensions_ = 0;
  bool base64_ = false;

  bool head_only_ = false, stream_ = false, head_sent_ = false, opened_ = false;
  bool held_ = false;       // nothing may be sent (now, or any more)
  bool resetting_ = false;  // the connection is reset once it has sent what is queued
};

}  // namespace penstock::sim
