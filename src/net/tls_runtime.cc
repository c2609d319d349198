#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <new>

#include "tls_context.h"
#include "tls_layer.h"

namespace penstock::net {

std::string_view to_string(TlsFailure failure) {
  constexpr std::array<std::string_view, tls_failures> words = {
      "timed_out",        "closed",          "not_tls",   "no_agreement", "unknown_name",
      "peer_certificate", "refused_by_peer", "no_memory", "protocol",
  };
  return words[static_cast<size_t>(failure)];
}

// ---- the order of handshakes ----

void TlsRuntime::queue(TlsLayer& layer) {
  if (layer.ListNode<TlsWaitingTag>::linked()) return;
  waiting_.push_back(layer);
  loop_.flush_later(*this);
}

void TlsRuntime::flush() {
  for (int step = 0; step < steps_per_turn; ++step) {
    TlsLayer* const next = waiting_.pop_front();
    if (next == nullptr) return;
    next->handshake_step();
  }
  if (!waiting_.empty()) loop_.flush_later(*this);  // in the next turn, which does not wait
}

// ---- session tickets ----

namespace {
TlsTicketKeys::Key new_key() {
  TlsTicketKeys::Key key;
  const bool good = RAND_bytes(key.name.data(), static_cast<int>(key.name.size())) == 1 &&
                    RAND_priv_bytes(key.cipher.data(), static_cast<int>(key.cipher.size())) == 1 &&
                    RAND_priv_bytes(key.mac.data(), static_cast<int>(key.mac.size())) == 1;
  if (!good) throw std::bad_alloc();  // no entropy: nothing of TLS can work
  return key;
}
}  // namespace

TlsTicketKeys::TlsTicketKeys() : keys_{new_key()} {}

void TlsTicketKeys::rotate() {
  const Key key = new_key();
  const std::lock_guard lock(mutex_);
  keys_.insert(keys_.begin(), key);
  if (keys_.size() > kept) keys_.pop_back();
}

TlsTicketKeys::Key TlsTicketKeys::current() const {
  const std::lock_guard lock(mutex_);
  return keys_.front();
}

std::optional<TlsTicketKeys::Key> TlsTicketKeys::find(const unsigned char (&name)[16]) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(keys_, [&](const Key& key) { return std::ranges::equal(key.name, name); });
  if (found == keys_.end()) return std::nullopt;
  return *found;
}

void TlsSession::forget() {
  SSL_SESSION_free(session_);
  session_ = nullptr;
  context_.reset();
}

}  // namespace penstock::net
