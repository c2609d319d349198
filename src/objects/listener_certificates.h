// The Secrets whose certificates a Gateway's listener shows to clients.
#pragma once

#include "gateways.h"

namespace penstock::objects {

// Fills in what the listener's certificateRefs lead to: its certificates, and what stands against its references.
void find_certificates(const View& view, const ListenerMap& map, ListenerState& listener);
// Whether clients can be shown one.
bool shows_certificate(const ListenerState& listener);

// Adds them to what our own listeners show that take its requests.
void add_certificates(const View& view, const ListenerMap& map, const ListenerState& listener, Certificates& out);

}  // namespace penstock::objects
