#include "admin.h"

#include "penstock/http/writer.h"
#include "penstock/proxy/error.h"

namespace penstock::app {

namespace {

std::string whole_answer(const observability::AdminResponse& page, bool keep_alive, bool head_only) {
  std::string answer;
  http::HeadWriter head(answer);
  head.status_line(page.status);
  head.field("content-type", page.content_type);
  head.field("content-length", page.body.size());
  head.field("cache-control", "no-store");
  if (!page.allow.empty()) head.field("allow", page.allow);
  head.field("connection", keep_alive ? "keep-alive" : "close");
  head.end();
  if (!head_only) answer += page.body;
  return answer;
}

}  // namespace

// One request to the admin port: remembers what was asked until the (ignored) body has ended, then answers.
class AdminService::Request final : public downstream::RequestHandler, public net::Disposable {
 public:
  Request(AdminService& service, downstream::Connection& connection, const http::Head& head)
      : service_(service), connection_(connection), method_(head.method_text), target_(head.target) {}

 private:
  void on_body(std::string_view) override {}
  void on_drained() override {}
  void on_request_end() override {
    const bool keep_alive = connection_.can_keep_alive();
    respond(
        whole_answer(observability::handle_admin(method_, target_, service_.context_), keep_alive, method_ == "HEAD"),
        keep_alive ? downstream::After::keep_alive : downstream::After::close);
  }
  void on_request_failed(const downstream::RequestFailure& failure) override {
    respond(proxy::error_answer(proxy::error_of(failure)), downstream::After::close);
  }
  void on_gone(downstream::Gone) override { dispose(); }

  void respond(const std::string& answer, downstream::After after) {
    downstream::Connection& connection = connection_;
    dispose();
    if (!connection.send(answer)) return connection.abandon();
    connection.finish_response(after);
  }
  void dispose() { connection_.loop().dispose(std::unique_ptr<net::Disposable>(this)); }

  AdminService& service_;
  downstream::Connection& connection_;
  std::string method_, target_;
};

downstream::RequestHandler* AdminService::on_request(downstream::Connection& connection, http::Head& head) {
  return new Request(*this, connection, head);  // deletes itself at the end of the turn in which it ends
}

void AdminService::on_bad_head(downstream::Connection& connection, const downstream::RequestFailure& failure) {
  const std::string answer = proxy::error_answer(proxy::error_of(failure), {.head_only = failure.head_request});
  static_cast<void>(connection.send(answer));
}

}  // namespace penstock::app
