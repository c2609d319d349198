#include "penstock/observability/admin.h"

#include "penstock/base/assert.h"

namespace penstock::observability {
namespace {

AdminResponse plain(uint16_t status, std::string body) {
  return {.status = status, .body = std::move(body)};
}

AdminResponse metrics(const AdminContext&, bool) {
  return {.content_type = metrics_content_type, .body = {}, .metrics = true};
}

// Alive is all it says: it answers from the thread that would be stuck otherwise.
AdminResponse healthz(const AdminContext&, bool) {
  return plain(200, "ok\n");
}

AdminResponse readyz(const AdminContext& context, bool) {
  const std::string reason = context.not_ready();
  return reason.empty() ? plain(200, "ready\n") : plain(503, "not ready: " + reason + "\n");
}

AdminResponse status(const AdminContext& context, bool full) {
  const StatusDetail detail = full ? StatusDetail::full : StatusDetail::reduced;
  return {.content_type = "application/json", .body = status_json(context.gather(), context.not_ready(), detail)};
}

AdminResponse page(const AdminContext&, bool) {
  return {.content_type = "text/html; charset=utf-8", .body = std::string(status_page())};
}

AdminResponse decisions(const AdminContext& context, bool full) {
  if (!full) {
    return plain(403,
                 "debug pages answer requests from this host (loopback) only; admin.debug: true opens them to all\n");
  }
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

// `full`: with what is for this host alone.
struct Page {
  std::string_view path;
  AdminResponse (*answer)(const AdminContext&, bool full);
};
constexpr Page pages[] = {
    {"/healthz", healthz}, {"/readyz", readyz}, {"/metrics", metrics},
    {"/status", status},   {"/", page},         {"/debug/decisions", decisions},
};

std::string_view path_of(std::string_view target) {
  return target.substr(0, target.find('?'));
}

}  // namespace

bool is_probe(std::string_view target) {
  const std::string_view path = path_of(target);
  return path == "/healthz" || path == "/readyz";
}

bool is_loopback(std::string_view ip) {
  if (ip.starts_with("::ffff:")) ip.remove_prefix(7);
  return ip == "::1" || ip.starts_with("127.");
}

AdminResponse handle_admin(const AdminRequest& request, const AdminContext& context) {
  PENSTOCK_ASSERT(context.gather && context.not_ready && context.debug);
  const std::string_view path = path_of(request.target);
  for (const Page& page : pages) {
    if (page.path != path) continue;
    if (request.method == "GET" || request.method == "HEAD") {
      return page.answer(context, request.local || context.debug());
    }
    AdminResponse refused = plain(405, "only GET and HEAD\n");
    refused.allow = "GET, HEAD";
    return refused;
  }
  std::string known = "no such page; there are:";
  for (const Page& page : pages) known.append(" ").append(page.path);
  return plain(404, known + "\n");
}

}  // namespace penstock::observability
