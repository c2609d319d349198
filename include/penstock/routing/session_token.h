// The token that keeps a session on its endpoint: the endpoint's name in base64 (RFC 4648), given to the client as
// x-session-token and read by session-affinity-scorer. Opaque to clients, and no secret: x-penstock-endpoint says the
// same. Pure.
#pragma once

#include <string>
#include <string_view>

namespace penstock::routing {

void append_session_token(std::string& out, std::string_view endpoint_name);
// True when `token` is this endpoint's.
bool is_session_token(std::string_view token, std::string_view endpoint_name);

}  // namespace penstock::routing
