#include "penstock/observability/admin.h"

#include "penstock/base/assert.h"

namespace penstock::observability {
namespace {

AdminResponse plain(uint16_t status, std::string body) {
  return {.status = status, .body = std::move(body)};
}

AdminResponse metrics(const AdminContext& context) {
  AdminResponse response{.content_type = metrics_content_type};
  export_metrics(response.body, context.gather());
  return response;
}

// Alive is all it says: it answers from the thread that would be stuck otherwise.
AdminResponse healthz(const AdminContext&) {
  return plain(200, "ok\n");
}

AdminResponse readyz(const AdminContext& context) {
  const std::string reason = context.not_ready();
  return reason.empty() ? plain(200, "ready\n") : plain(503, "not ready: " + reason + "\n");
}

AdminResponse status(const AdminContext& context) {
  return {.content_type = "application/json", .body = status_json(context.gather(), context.not_ready())};
}

AdminResponse page(const AdminContext&) {
  return {.content_type = "text/html; charset=utf-8", .body = std::string(status_page())};
}

AdminResponse decisions(const AdminContext& context) {
  AdminResponse response{.content_type = "application/json", .body = "{\"decisions\":["};
  bool first = true;
  for (size_t shard = 0; shard < context.decisions.size(); ++shard) {
    std::string part;
    context.decisions[shard]->append_json(part, shard);
    if (part.empty()) continue;
    response.body.append(first ? "\n" : ",\n").append(part);
    first = false;
  }
  response.body += "]}\n";
  return response;
}

struct Page {
  std::string_view path;
  AdminResponse (*answer)(const AdminContext&);
};
constexpr Page pages[] = {
    {"/", page},           {"/status", status}, {"/metrics", metrics},
    {"/healthz", healthz}, {"/readyz", readyz}, {"/debug/decisions", decisions},
};

}  // namespace

AdminResponse handle_admin(std::string_view method, std::string_view target, const AdminContext& context) {
  PENSTOCK_ASSERT(context.gather && context.not_ready);
  const std::string_view path = target.substr(0, target.find('?'));
  for (const Page& page : pages) {
    if (page.path != path) continue;
    if (method == "GET" || method == "HEAD") return page.answer(context);
    AdminResponse refused = plain(405, "only GET and HEAD\n");
    refused.allow = "GET, HEAD";
    return refused;
  }
  std::string known = "no such page; there are:";
  for (const Page& page : pages) known.append(" ").append(page.path);
  return plain(404, known + "\n");
}

}  // namespace penstock::observability
