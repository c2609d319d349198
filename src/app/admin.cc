#include "admin.h"

#include <strings.h>

#include "penstock/http/writer.h"
#include "penstock/observability/gzip.h"
#include "penstock/proxy/error.h"

namespace penstock::app {

namespace {

using observability::AdminResponse;

constexpr size_t kLargePage = 64 * 1024;    // larger pages are written only while the budget has room for them
constexpr size_t kProbeRoom = 1024 * 1024;  // of the budget, for all others

std::string head_of(const AdminResponse& page, size_t size, std::string_view encoding, bool keep_alive) {
  std::string answer;
  http::HeadWriter head(answer);
  head.status_line(page.status);
  head.field("content-type", page.content_type);
  head.field("content-length", size);
  head.field("cache-control", "no-store");
  if (page.metrics) head.field("vary", "accept-encoding");
  if (!encoding.empty()) head.field("content-encoding", encoding);
  if (!page.allow.empty()) head.field("allow", page.allow);
  head.field("connection", keep_alive ? "keep-alive" : "close");
  head.end();
  return answer;
}

// The values of Accept-Encoding as one list.
std::string accepted_encodings(const http::Head& head) {
  constexpr std::string_view name = "accept-encoding";
  std::string out;
  for (const http::Header& header : head.headers()) {
    const bool wanted =
        header.name.size() == name.size() && strncasecmp(header.name.data(), name.data(), name.size()) == 0;
    if (wanted) out.append(out.empty() ? "" : ",").append(header.value);
  }
  return out;
}

}  // namespace

// One request to the admin port: remembers what was asked until the (ignored) body has ended, then answers.
class AdminService::Request final : public downstream::RequestHandler,
                                    public PageWriter::Reader,
                                    public net::Disposable {
 public:
  Request(AdminService& service, downstream::Connection& connection, const http::Head& head)
      : service_(service),
        connection_(connection),
        method_(head.method_text),
        target_(head.target),
        gzip_(observability::accepts_gzip(accepted_encodings(head))) {}

 private:
  void on_body(std::string_view) override {}
  void on_drained() override {}
  void on_request_end() override {
    AdminResponse page = service_.answer_to(
        {.method = method_, .target = target_, .local = observability::is_loopback(connection_.client_ip())});
    if (!page.metrics) return respond(page, page.body, "");
    waiting_ = true;
    service_.pages_.ask(*this);
  }
  void on_page(const PageWriter::Page& page) override {
    waiting_ = false;
    const AdminResponse response{.content_type = observability::metrics_content_type, .body = {}, .metrics = true};
    const std::string_view body = gzip_ ? page.gzip : page.plain;
    if (service_.has_room(body.size())) return respond(response, body, gzip_ ? "gzip" : "");
    ++service_.pages_refused_;
    const AdminResponse refused{.status = 503, .body = "clients read too many large pages too slowly; try again\n"};
    respond(refused, refused.body, "");
  }
  bool takes_gzip() const override { return gzip_; }
  void on_request_failed(const downstream::RequestFailure& failure) override {
    const std::string answer = proxy::error_answer(proxy::error_of(failure));
    send({{const_cast<char*>(answer.data()), answer.size()}}, downstream::After::close);
  }
  void on_gone(downstream::Gone) override {
    if (waiting_) service_.pages_.leave(*this);
    dispose();
  }

  void respond(const AdminResponse& page, std::string_view body, std::string_view encoding) {
    const bool keep_alive = connection_.can_keep_alive() && page.status < 500;
    const std::string head = head_of(page, body.size(), encoding, keep_alive);
    if (method_ == "HEAD") body = {};
    send({{const_cast<char*>(head.data()), head.size()}, {const_cast<char*>(body.data()), body.size()}},
         keep_alive ? downstream::After::keep_alive : downstream::After::close);
  }
  void send(std::initializer_list<iovec> pieces, downstream::After after) {
    downstream::Connection& connection = connection_;
    dispose();
    if (!connection.send_raw(std::span<const iovec>(pieces.begin(), pieces.size()))) return connection.abandon();
    connection.finish_response(after);
  }
  void dispose() { connection_.loop().dispose(std::unique_ptr<net::Disposable>(this)); }

  AdminService& service_;
  downstream::Connection& connection_;
  std::string method_, target_;
  const bool gzip_;
  bool waiting_ = false;  // for a page
};

AdminService::AdminService(net::EventLoop& loop, observability::AdminContext context, const MemoryBudget& budget)
    : context_(std::move(context)),
      budget_(budget),
      pages_(loop, [this] { return observability::collect_metrics(context_.gather()); }) {}

// Queued answers that nobody reads must leave room for probes.
bool AdminService::has_room(size_t bytes) const {
  return bytes < kLargePage || budget_.used() + bytes + kProbeRoom <= budget_.limit();
}

AdminResponse AdminService::answer_to(const observability::AdminRequest& request) {
  if (crowded_() && !observability::is_probe(request.target)) {
    ++pages_refused_;
    return {.status = 503, .body = "the admin port has too many connections: only probes are answered\n"};
  }
  AdminResponse page = observability::handle_admin(request, context_);
  if (has_room(page.body.size())) return page;
  ++pages_refused_;
  return {.status = 503, .body = "clients read too many large pages too slowly; try again\n"};
}

downstream::RequestHandler* AdminService::on_request(downstream::Responder& client, http::Head& head) {
  auto& connection = static_cast<downstream::Connection&>(client);
  return new Request(*this, connection, head);  // deletes itself at the end of the turn in which it ends
}

void AdminService::on_bad_head(downstream::Responder& client, const downstream::RequestFailure& failure) {
  const std::string answer = proxy::error_answer(proxy::error_of(failure), {}, failure.head_request);
  static_cast<void>(static_cast<downstream::Connection&>(client).send_raw(answer));
}

}  // namespace penstock::app
