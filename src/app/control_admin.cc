// The admin port of the control thread: how many connections it takes, and from whom it parts for a new one.
#include <unistd.h>

#include <algorithm>

#include "control.h"
#include "penstock/base/log.h"
#include "penstock/config/detect.h"

namespace penstock::app {

namespace {

// The admin pages. A client that scrapes once a minute keeps its connection. The room for probes is for connections
// that come while all others are being answered: nothing but a probe is answered then, which takes no time.
constexpr uint64_t kAdminConnections = 128, kAdminConnectionsLeast = 4, kProbeConnections = 16;
constexpr Duration kAdminIdle = seconds(90), kAdminHeader = seconds(10), kAdminBody = seconds(10),
                   kAdminWrite = seconds(30);

downstream::ServerOptions admin_options() {
  downstream::ServerOptions out;
  out.idle_timeout = kAdminIdle;
  out.header_timeout = kAdminHeader;
  out.body_timeout = kAdminBody;
  out.write_timeout = kAdminWrite;
  return out;
}

}  // namespace

bool Control::start_admin() {
  const auto address = net::Address::parse(options_.admin);
  PENSTOCK_ASSERT(address.ok());  // validated by config
  observability::AdminContext context;
  context.gather = [this] { return gather(); };
  context.not_ready = [this] { return not_ready(); };
  context.debug = [this] { return options_.admin_debug; };
  for (const auto& decisions : decisions_) context.decisions.push_back(decisions.get());
  admin_ = std::make_unique<AdminService>(*loop_, std::move(context), admin_budget_);
  admin_server_ = std::make_unique<downstream::Server>(*loop_, admin_pool_, *admin_, admin_options());
  admin_connections_max_ = std::clamp(config::raise_open_file_limit() / 8, kAdminConnectionsLeast, kAdminConnections);
  admin_->set_crowded([this] { return admin_server_->connections() > admin_connections_max_; });
  admin_server_->set_placement([this](int fd, size_t) { return place_admin(fd); });
  const auto bound = admin_server_->listen(*address, /*reuse_port=*/false);
  if (!bound.ok()) {
    log::error("cannot listen for the admin pages",
               {{"error", bound.error().text}, {"hint", "choose another address with --admin"}});
    return false;
  }
  if (admin_context_ != nullptr) publish_admin_tls(admin_context_);
  log::info("admin pages",
            {{"listen", bound->to_string()}, {"protocol", admin_context_ != nullptr ? "https" : "http"}});
  if (options_.admin_debug) {
    log::warn("admin.debug: everybody who reaches the admin port sees the debug pages and the full status");
  }
  return true;
}

// The first one is known before the port is open.
void Control::publish_admin_tls(TlsFiles::Context context) {
  admin_context_ = std::move(context);
  if (admin_server_ != nullptr) admin_server_->set_tls(0, {&*admin_tls_, admin_context_});
}

// Admin connections must not use up the descriptors that clients and endpoints need. One that asks nothing gives way,
// the longest silent one first. True: all are being answered, and the new one was one too many and has been closed.
bool Control::place_admin(int fd) {
  if (admin_server_->connections() < admin_connections_max_) return false;
  if (admin_server_->cut_longest_silent()) {
    ++admin_connections_evicted_;
    return false;
  }
  if (admin_server_->connections() < admin_connections_max_ + kProbeConnections) return false;
  ++admin_connections_refused_;
  if (admin_server_->secure(0)) {  // it could not read an answer without a handshake
    ::close(fd);
    return true;
  }
  answer_and_close(fd, proxy::error_answer(proxy::ErrorCode::too_many_connections,
                                           {.message = "The admin port has as many connections as it may have (" +
                                                       std::to_string(admin_connections_max_) + ")."}));
  return true;
}

}  // namespace penstock::app
