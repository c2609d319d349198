// What a client has got of a stream, remembered so that the stream can be continued when it breaks: the text, and the
// form of its events. An event like the one before it, other text aside, costs two comparisons and a copy of the text.
// Pure; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/openai/request.h"
#include "penstock/openai/resume_obstacle.h"
#include "penstock/openai/usage.h"

namespace penstock::openai {

struct Chunk;
class StreamFormat;

// What events of ours are made from, besides text: each API's format fills it in its own way.
struct StreamState {
  std::string head;  // what the stream said of itself when it began
  bool begun = false;
  bool open = false;  // the client has been told that text follows
  // Where events are numbered, and text is in an item that has an id:
  std::string item;  // with its quotes; "" until it has begun
  uint32_t next_number = 0;
};

class Delivered {
 public:
  // 32,768 tokens of 4 bytes: what it takes to compute more of them again is not saved by continuing.
  static constexpr uint32_t text_bytes_max = 128 * 1024;
  // `api`: one that ResumeRequest::knows(). `keeps_ids`: the endpoint was asked for the ids of its tokens.
  explicit Delivered(Api api, uint32_t longest_text = text_bytes_max, bool keeps_ids = false);

  // The data of the stream's next event. An event with an error, or with a finish reason that says that its engine gave
  // it up (abort, error), is not delivered, and nothing of it is remembered.
  //   text   a piece of text that says nothing else: no usage, no finish reason, no error
  //   other  anything else, which AnswerObserver can read
  enum class Took : uint8_t { text, other };
  Took take(std::string_view data) {
    // The comparisons of string_view would cost as much again as the bytes do.
    const size_t size = shape_.size(), behind = size - before_;
    if (matching_ && data.size() >= size && std::memcmp(data.data(), shape_.data(), before_) == 0 &&
        std::memcmp(data.data() + data.size() - behind, shape_.data() + before_, behind) == 0 &&
        add_plain(data.substr(before_, data.size() - size))) {
      return Took::text;
    }
    return read(data);
  }

  // False: something came that cannot be continued. Then nothing is remembered any more.
  bool can_go_on() const { return obstacle_ == ResumeObstacle::none; }
  // Its owner has no room for it, for example.
  void give_up(ResumeObstacle why) { stop(why); }
  ResumeObstacle obstacle() const { return obstacle_; }

  std::string_view text() const { return {text_.get(), size_}; }  // the inside of a JSON string, as delivered
  uint32_t events() const { return events_; }                     // pieces of text
  bool finished() const { return finished_; }                     // the client has the reason why it ended
  const std::string& finish_reason() const { return finish_reason_; }
  // The stream has said what it is: events of the same one can be made.
  bool has_shape() const { return state_.begun; }
  // The text has ended, and why is still to come: nothing of that may go to the client yet, since a stream that was
  // given up ends in this way as well.
  bool holds() const { return holds_; }
  size_t memory() const {
    return capacity_ + ids_.capacity() * sizeof(uint32_t) + shape_.capacity() + state_.head.capacity() +
           state_.item.capacity() + finish_reason_.capacity();
  }

  // The ids of all tokens that were made, also of some whose text the client does not have yet: part of a character, or
  // of what may become a stop string. Known as long as each event with text has them.
  bool keeps_ids() const { return keeps_ids_; }
  const std::vector<uint32_t>& ids() const { return ids_; }
  // Of the events of a continuation, whose text is added in another way.
  void add_ids(const Chunk& chunk);
  void cut_ids(size_t count) { ids_.resize(count); }
  // They are not to be relied on. Text that stands for other tokens than it seems cannot be continued without them.
  void forget_ids();

  // Text, and the finish reason, that the client gets in events of ours.
  void add(std::string_view escaped);
  void finish(std::string_view reason, std::string_view stop_reason_json);

  // Append whole events ("data: {...}" and an empty line) as the stream's own server would have sent them: with the id,
  // the time and the model of the first one. `stop_reason_json` may be empty. Where the API says the reason together
  // with the usage, append_finish_event() appends nothing. append_end_events(), after finish(), appends all that
  // follows the reason: the usage, if there is one, and the end of the stream.
  void append_text_event(std::string& out, std::string_view escaped);
  void append_finish_event(std::string& out, std::string_view reason, std::string_view stop_reason_json) const;
  void append_end_events(std::string& out, const std::optional<Usage>& usage);
  // False: those would have to say the text again, and not all of it is remembered.
  bool can_end() const { return can_go_on() || keeps_on_ || !repeats_text_; }
  // What a stream that was whole but for its very end still needs.
  void append_last_event(std::string& out) const;

 private:
  bool add_plain(std::string_view escaped);
  bool add_checked(std::string_view escaped);
  void remember(std::string_view escaped);
  void append(std::string_view escaped);
  bool make_room(size_t bytes);
  void stop(ResumeObstacle obstacle);
  Took read(std::string_view data);
  Took read_noted(std::string_view data, const Chunk& chunk);
  Took read_choice(std::string_view data, const Chunk& chunk);
  void keep_shape(std::string_view data, const Chunk& chunk);
  void keep_numbered_shape(std::string_view data, const Chunk& chunk, bool ordinary);
  bool take_numbered(std::string_view data);

  std::unique_ptr<char[]> text_;
  std::vector<uint32_t> ids_;
  // The last event that was parsed, without its text: `before_` bytes in front of it, the rest behind it. "" while
  // there is none.
  std::string shape_;
  StreamState state_;
  std::string finish_reason_, stop_reason_;
  const StreamFormat& format_;
  uint32_t size_ = 0, capacity_ = 0;  // of the text
  uint32_t before_ = 0;
  uint32_t events_ = 0;
  ResumeObstacle obstacle_ = ResumeObstacle::none;
  bool matching_ = false;  // the next event may be as the shape says
  bool finished_ = false;
  bool holds_ = false;
  bool role_seen_ = false;
  bool keeps_ids_;
  bool replaced_ = false;       // the text has U+FFFD, which stands for bytes that are not known
  bool shape_repeats_ = false;  // events of ours may have the shape
  const bool repeats_text_;     // the last events say it again
  bool keeps_on_ = false;       // for these it is remembered, although it cannot go on any more
  uint32_t number_at_ = 0;      // where in the shape the event's number was; 0: events have none
  uint32_t longest_text_;
};

}  // namespace penstock::openai
