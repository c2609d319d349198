#include "http2_session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "penstock/base/assert.h"
#include "penstock/base/text.h"

namespace penstock::downstream {

namespace {

std::string_view text_of(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

nghttp2_nv field_of(std::string_view name, std::string_view value) {
  auto* const name_bytes = reinterpret_cast<uint8_t*>(const_cast<char*>(name.data()));
  auto* const value_bytes = reinterpret_cast<uint8_t*>(const_cast<char*>(value.data()));
  return {name_bytes, value_bytes, name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

// RFC 9113, section 8.2.2.
bool of_connection(std::string_view name) {
  for (const std::string_view one :
       {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"}) {
    if (same_ignoring_case(name, one)) return true;
  }
  return false;
}

// Of an answer's head, put together here; one per thread, so that a head needs no memory of its own.
struct HeadScratch {
  std::vector<nghttp2_nv> fields;
  std::string names;

  // Lower case is what HTTP/2 demands of names. Called once for a head: views into `names` must stay.
  void add(const http::Fields& added) {
    names.clear();
    names.reserve(added.lines().size());
    added.each([this](std::string_view name, std::string_view value) {
      if (of_connection(name)) return;
      const size_t begin = names.size();
      for (const char c : name) names += lower(c);
      fields.push_back(field_of(std::string_view(names).substr(begin), value));
    });
  }
};
thread_local HeadScratch scratch;

}  // namespace

// What nghttp2 calls.
struct Http2Callbacks {
  static Http2Session& self(void* user) { return *static_cast<Http2Session*>(user); }
  static Http2Stream* stream_of(nghttp2_session* session, int32_t id) {
    return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }
  static int go_on(Http2Session& s, bool allowed) {
    if (!allowed) s.calm_ = true;
    return allowed ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static int on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& s = self(user);
    const int32_t id = frame->hd.stream_id;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      nghttp2_session_set_stream_user_data(session, id, &s.events_.on_head_begin(id));
      // All of the same urgency get their turns, whatever the client says.
      const nghttp2_extpri in_turns{NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};
      nghttp2_session_change_extpri_stream_priority(session, id, &in_turns, /*ignore_client_signal=*/1);
    } else if (Http2Stream* const stream = stream_of(session, id)) {
      s.events_.on_trailers_begin(*stream);
    }
    return 0;
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void* user) {
    if (stream_of(session, frame->hd.stream_id) == nullptr) return 0;
    self(user).events_.on_field(text_of(name, name_size), text_of(value, value_size));
    return 0;
  }

  // Without this, nghttp2 would leave such a field out and go on.
  static int on_invalid_header(nghttp2_session*, const nghttp2_frame*, const uint8_t*, size_t, const uint8_t*, size_t,
                               uint8_t, void*) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  static int on_frame_recv(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& s = self(user);
    Http2Stream* const stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_DATA && ends) s.events_.on_data_end(*stream);
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
      s.reset_by_client_ = frame->hd.stream_id;
      return go_on(s, s.events_.on_reset(*stream));
    }
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) s.events_.on_head_end(*stream, ends);
    else s.events_.on_trailers_end(*stream);
    return 0;
  }

  static int on_invalid_frame(nghttp2_session* session, const nghttp2_frame* frame, int error, void* user) {
    Http2Session& s = self(user);
    if (error == NGHTTP2_ERR_REFUSED_STREAM) {
      s.closed_.add(frame->hd.stream_id, Http2ClosedStreams::By::us);
      return go_on(s, s.events_.on_refused());
    }
    Http2Stream* const stream = stream_of(session, frame->hd.stream_id);
    const bool head = frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
    if (stream != nullptr && head) s.events_.on_bad_fields(*stream);
    return 0;
  }

  static int on_data_chunk(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* bytes, size_t size,
                           void* user) {
    Http2Session& s = self(user);
    if (Http2Stream* const stream = stream_of(session, id)) s.events_.on_data(*stream, text_of(bytes, size));
    else s.dropped(size);
    return 0;
  }

  static int on_stream_close(nghttp2_session* session, int32_t id, uint32_t, void* user) {
    Http2Session& s = self(user);
    const bool by_client = s.reset_by_client_ == id || nghttp2_session_get_stream_remote_close(session, id) == 1;
    s.closed_.add(id, by_client ? Http2ClosedStreams::By::client : Http2ClosedStreams::By::us);
    if (Http2Stream* const stream = stream_of(session, id)) s.events_.on_closed(*stream);
    return 0;
  }

  static int on_frame_send(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Stream* const stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    Http2Session& s = self(user);
    // A failure would make nghttp2 tell of this frame again: whoever sends looks at calm().
    if (frame->hd.type == NGHTTP2_RST_STREAM && !s.events_.on_reset(*stream)) s.calm_ = true;
    const bool of_answer = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (of_answer && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) s.events_.on_answer_sent(*stream);
    return 0;
  }

  static ssize_t send(nghttp2_session*, const uint8_t* bytes, size_t size, int, void* user) {
    Http2Session& s = self(user);
    if (!s.events_.takes_more()) return NGHTTP2_ERR_WOULDBLOCK;
    const iovec piece{const_cast<uint8_t*>(bytes), size};
    if (s.events_.write_frame({&piece, 1})) return static_cast<ssize_t>(size);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static ssize_t read(nghttp2_session*, int32_t id, uint8_t*, size_t most, uint32_t* flags, nghttp2_data_source* source,
                      void* user) {
    Http2Session& s = self(user);
    if (!s.events_.takes_more()) return NGHTTP2_ERR_PAUSE;
    const auto [bytes, ends, trailers] = s.events_.available(*static_cast<Http2Stream*>(source->ptr));
    if (bytes == 0 && !ends) return NGHTTP2_ERR_DEFERRED;
    if (bytes <= most && ends) *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (bytes <= most && ends && trailers != nullptr && s.submit_trailers(id, *trailers)) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    }
    if (bytes > 0) *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return static_cast<ssize_t>(std::min(bytes, most));
  }

  // Follows read() at once.
  static int send_data(nghttp2_session*, nghttp2_frame* frame, const uint8_t* header, size_t size,
                       nghttp2_data_source* source, void* user) {
    constexpr size_t header_size = 9;
    PENSTOCK_ASSERT(frame->data.padlen == 0);
    Http2Session& s = self(user);
    auto& stream = *static_cast<Http2Stream*>(source->ptr);
    if (s.events_.write_data(stream, text_of(header, header_size), size)) return 0;
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static const nghttp2_session_callbacks* table();
};

const nghttp2_session_callbacks* Http2Callbacks::table() {
  static const auto callbacks = [] {
    nghttp2_session_callbacks* c = nullptr;
    PENSTOCK_ASSERT(nghttp2_session_callbacks_new(&c) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(c, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_send);
    nghttp2_session_callbacks_set_send_callback(c, send);
    nghttp2_session_callbacks_set_send_data_callback(c, send_data);
    return std::unique_ptr<nghttp2_session_callbacks, void (*)(nghttp2_session_callbacks*)>(
        c, nghttp2_session_callbacks_del);
  }();
  return callbacks.get();
}

Http2Session::Http2Session(Http2Events& events, const Http2Options& options, size_t head_bytes_max, Http2Memory& memory)
    : events_(events) {
  nghttp2_option* option = nullptr;
  PENSTOCK_ASSERT(nghttp2_option_new(&option) == 0);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  session_ = memory.make_session(Http2Callbacks::table(), this, option);
  nghttp2_option_del(option);
  const std::array<nghttp2_settings_entry, 4> settings{{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(options.stream_window)},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(std::min<size_t>(head_bytes_max, UINT32_MAX))},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  }};
  PENSTOCK_ASSERT(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) == 0);
  const auto window = static_cast<int32_t>(options.connection_window);
  PENSTOCK_ASSERT(nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, window) == 0);
}

Http2Session::~Http2Session() {
  nghttp2_session_del(session_);
}

// Frame by frame, so that each is judged when all before it have had their effect.
Http2Session::Received Http2Session::receive(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t size = frames_.next(bytes);
    if (const Http2FrameHead* const frame = frames_.head(); frame != nullptr && !judge(*frame)) return Received::calm;
    if (!feed(bytes.substr(0, size))) return calm_ ? Received::calm : Received::broken;
    bytes.remove_prefix(size);
  }
  return Received::all;
}

bool Http2Session::feed(std::string_view bytes) {
  // NGHTTP2_ERR_TOO_MANY_CONTINUATIONS: not every header of a version that has the limit has its name.
  constexpr ssize_t too_many_continuations = -905;
  const auto* const data = reinterpret_cast<const uint8_t*>(bytes.data());
  const ssize_t used = nghttp2_session_mem_recv(session_, data, bytes.size());
  calm_ = calm_ || used == NGHTTP2_ERR_FLOODED || used == too_many_continuations;
  return used >= 0;
}

// False: the client has used up what it may ask of us.
bool Http2Session::judge(const Http2FrameHead& frame) {
  const bool ends = (frame.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  const bool works = frame.type == NGHTTP2_HEADERS || frame.type == NGHTTP2_CONTINUATION ||
                     (frame.type == NGHTTP2_DATA && (frame.length > 0 || ends));
  if (!events_.on_frame(works ? Http2Frame::works : Http2Frame::idle)) calm_ = true;
  if (calm_) return false;
  if (frame.type == NGHTTP2_PRIORITY && (frame.stream == 0 || frame.depends_on == frame.stream)) {
    terminate(Http2Error::protocol_error);
  } else if (frame.type == NGHTTP2_HEADERS && frame.stream > newest_) {
    newest_ = frame.stream;
  } else if ((frame.type == NGHTTP2_HEADERS || frame.type == NGHTTP2_DATA) && frame.stream % 2 == 1 &&
             frame.stream <= newest_ && Http2Callbacks::stream_of(session_, frame.stream) == nullptr) {
    judge_late(frame);
  }
  return true;
}

// RFC 9113, section 5.1: for a stream that the client has ended or reset itself it must send nothing more. Of one that
// we have reset it may not know that yet.
void Http2Session::judge_late(const Http2FrameHead& frame) {
  const Http2ClosedStreams::By by = closed_.find(frame.stream);
  if (by == Http2ClosedStreams::By::client) terminate(Http2Error::stream_closed);
  // A stream that was never opened has been passed over: section 5.1.1.
  if (by == Http2ClosedStreams::By::unknown && frame.type == NGHTTP2_HEADERS) terminate(Http2Error::protocol_error);
}

bool Http2Session::send() {
  return nghttp2_session_send(session_) == 0;
}

bool Http2Session::wants_to_send() const {
  return nghttp2_session_want_write(session_) != 0;
}

bool Http2Session::alive() const {
  return nghttp2_session_want_read(session_) != 0 || nghttp2_session_want_write(session_) != 0;
}

bool Http2Session::submit_head(int32_t id, uint16_t status, const http::Fields& fields, bool with_body) {
  const char digits[] = {static_cast<char>('0' + status / 100 % 10), static_cast<char>('0' + status / 10 % 10),
                         static_cast<char>('0' + status % 10)};
  scratch.fields.clear();
  scratch.fields.push_back(field_of(":status", {digits, sizeof digits}));
  scratch.add(fields);
  nghttp2_data_provider body;
  body.source.ptr = nghttp2_session_get_stream_user_data(session_, id);
  body.read_callback = Http2Callbacks::read;
  return nghttp2_submit_response(session_, id, scratch.fields.data(), scratch.fields.size(),
                                 with_body ? &body : nullptr) == 0;
}

// False: there are none that may be sent.
bool Http2Session::submit_trailers(int32_t id, const http::Fields& fields) {
  scratch.fields.clear();
  scratch.add(fields);
  if (scratch.fields.empty()) return false;
  return nghttp2_submit_trailer(session_, id, scratch.fields.data(), scratch.fields.size()) == 0;
}

void Http2Session::submit_continue(int32_t id) {
  const nghttp2_nv status = field_of(":status", "100");
  nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, id, nullptr, &status, 1, nullptr);
}

void Http2Session::resume(int32_t id) {
  nghttp2_session_resume_data(session_, id);
}

void Http2Session::reset(int32_t id, Http2Error code) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, static_cast<uint32_t>(code));
}

void Http2Session::took(int32_t id, size_t bytes) {
  nghttp2_session_consume(session_, id, bytes);
}

void Http2Session::dropped(size_t bytes) {
  nghttp2_session_consume_connection(session_, bytes);
}

void Http2Session::forget(int32_t id) {
  nghttp2_session_set_stream_user_data(session_, id, nullptr);
}

void Http2Session::announce_end() {
  nghttp2_submit_shutdown_notice(session_);
}

void Http2Session::end_requests() {
  const int32_t last = nghttp2_session_get_last_proc_stream_id(session_);
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
}

void Http2Session::terminate(Http2Error code) {
  nghttp2_session_terminate_session(session_, static_cast<uint32_t>(code));
}

}  // namespace penstock::downstream
