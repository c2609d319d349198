#include "tests/support/http2_client.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>

#include "penstock/base/assert.h"

namespace penstock::test {

const std::string http2_preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2_frame(4, 0, 0, "");

std::string http2_frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out += static_cast<char>(payload.size() >> shift & 0xff);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(stream >> shift & 0xff);
  return out.append(payload);
}

std::string http2_block(const Http2Fields& fields) {
  std::string out;
  for (const auto& [name, value] : fields) {
    out += '\0';
    for (const std::string& text : {name, value}) {
      size_t rest = text.size();  // an integer with a prefix of 7 bits: RFC 7541, section 5.1
      if (rest < 127) {
        out += static_cast<char>(rest);
      } else {
        out += '\x7f';
        for (rest -= 127; rest >= 128; rest >>= 7) out += static_cast<char>(0x80 | (rest & 0x7f));
        out += static_cast<char>(rest);
      }
      out += text;
    }
  }
  return out;
}

std::string Http2Client::Answer::field(std::string_view name) const {
  for (const auto& [n, value] : fields) {
    if (n == name) return value;
  }
  return {};
}

struct Http2ClientCallbacks {
  static Http2Client& self(void* user) { return *static_cast<Http2Client*>(user); }

  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void* user) {
    Http2Client::Answer& answer = self(user).answers[frame->hd.stream_id];
    const std::string n(reinterpret_cast<const char*>(name), name_size);
    const std::string v(reinterpret_cast<const char*>(value), value_size);
    if (n == ":status") {
      answer.status = std::stoi(v);
      ++answer.heads;
      answer.fields.clear();
    }
    answer.fields.emplace_back(n, v);
    return 0;
  }
  static int on_data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* bytes, size_t size, void* user) {
    self(user).answers[id].body.append(reinterpret_cast<const char*>(bytes), size);
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Http2Client& client = self(user);
    const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
      case NGHTTP2_DATA:
        client.answers[frame->hd.stream_id].ended |= ends;
        break;
      case NGHTTP2_GOAWAY:
        ++client.goaways;
        client.goaway_error = frame->goaway.error_code;
        client.last_stream = frame->goaway.last_stream_id;
        break;
      case NGHTTP2_PING:
        client.pings += (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
        break;
      case NGHTTP2_SETTINGS:
        for (size_t i = 0; i < frame->settings.niv; ++i) {
          client.settings[static_cast<uint16_t>(frame->settings.iv[i].settings_id)] = frame->settings.iv[i].value;
        }
        break;
      default:
        break;
    }
    return 0;
  }
  static int on_close(nghttp2_session*, int32_t id, uint32_t error, void* user) {
    self(user).answers[id].closed = true;
    self(user).answers[id].error = error;
    return 0;
  }
  static ssize_t read(nghttp2_session*, int32_t id, uint8_t* out, size_t most, uint32_t* flags, nghttp2_data_source*,
                      void* user) {
    Http2Client::Body& body = self(user).bodies_[id];
    if (body.bytes.empty() && !body.ends) return NGHTTP2_ERR_DEFERRED;
    const size_t size = std::min(most, body.bytes.size());
    std::memcpy(out, body.bytes.data(), size);
    body.bytes.erase(0, size);
    if (body.bytes.empty() && body.ends) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
  }
};

Http2Client::Http2Client(SimNetwork& network, const net::Address& at, const Settings& settings) : peer(network) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Http2ClientCallbacks::on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Http2ClientCallbacks::on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Http2ClientCallbacks::on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Http2ClientCallbacks::on_close);
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_auto_window_update(option, settings.updates ? 0 : 1);
  PENSTOCK_ASSERT(nghttp2_session_client_new2(&session_, callbacks, this, option) == 0);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  const nghttp2_settings_entry window{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings.window};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &window, 1);
  peer.on_event = [this](SimPeer&) { on_event(); };
  static_cast<void>(peer.connect(at));  // where the network may refuse that, the client never hears anything
  flush();
}

Http2Client::~Http2Client() {
  peer.on_event = {};
  nghttp2_session_del(session_);
}

void Http2Client::on_event() {
  const std::string bytes = peer.take();
  if (!bytes.empty()) {
    const ssize_t used =
        nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    PENSTOCK_ASSERT(used == static_cast<ssize_t>(bytes.size()));
  }
  flush();
}

void Http2Client::flush() {
  for (;;) {
    const uint8_t* bytes = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
    PENSTOCK_ASSERT(size >= 0);
    if (size == 0) return;
    peer.send({reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)});
  }
}

int32_t Http2Client::ask(const Http2Fields& fields, bool ends) {
  std::vector<nghttp2_nv> nva;
  for (const auto& [name, value] : fields) {
    nva.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                   reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                   NGHTTP2_NV_FLAG_NONE});
  }
  nghttp2_data_provider body{};
  body.read_callback = Http2ClientCallbacks::read;
  const int32_t id = nghttp2_submit_request(session_, nullptr, nva.data(), nva.size(), ends ? nullptr : &body, nullptr);
  PENSTOCK_ASSERT(id > 0);
  flush();
  return id;
}

int32_t Http2Client::post(std::string_view path, std::string_view body, bool ends) {
  const int32_t id = ask({{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", std::string(path)}},
                         /*ends=*/false);
  send_body(id, body, ends);
  return id;
}

void Http2Client::send_body(int32_t id, std::string_view body, bool ends) {
  bodies_[id].bytes.append(body);
  bodies_[id].ends = ends;
  nghttp2_session_resume_data(session_, id);
  flush();
}

void Http2Client::reset(int32_t id, uint32_t code) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
  flush();
}

void Http2Client::open_windows(size_t bytes) {
  const auto more = static_cast<int32_t>(bytes);
  nghttp2_submit_window_update(session_, NGHTTP2_FLAG_NONE, 0, more);
  for (const auto& [id, answer] : answers) {
    if (!answer.closed) nghttp2_submit_window_update(session_, NGHTTP2_FLAG_NONE, id, more);
  }
  flush();
}

void Http2Client::ping() {
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  flush();
}

}  // namespace penstock::test
