// An API server of collections, behind kube::Transport on virtual time: streams lists, watches, takes writes. Honest
// unless told otherwise; the faults of a network are the reflector's tests' business.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/kube/transport.h"
#include "penstock/net/event_loop.h"

namespace penstock::discovery::test {

class FakeApi final : public kube::Transport {
 public:
  enum class Mode : uint8_t { serves, absent, forbidden, silent };
  struct Write {
    std::string method, path, body;
  };

  explicit FakeApi(net::EventLoop& loop) : loop_(loop) {}

  kube::CallId start(kube::Call call, kube::CallEvents& events) override;
  void cancel(kube::CallId id) override { calls_.erase(id); }
  void refresh_credentials() override {}

  // `collection`: as in "/api/v1/pods". Lists begun from now on.
  void set_mode(const std::string& collection, Mode mode) { modes_[collection] = mode; }
  // Adds or replaces; whoever watches hears of it. `json` without resourceVersion.
  void put(const std::string& collection, const std::string& ns, const std::string& name, const std::string& uid,
           const std::string& more);
  void remove(const std::string& collection, const std::string& ns, const std::string& name);
  // Answers of collections that were silent.
  void speak(const std::string& collection);

  // Collections that are listed or watched now, with namespace and selector as asked for.
  std::set<std::string> asked() const;
  size_t calls_to(std::string_view part) const;  // ever, with this in the path
  std::vector<Write> writes;

 private:
  struct Object {
    std::string ns, name, json;  // json: without the final brace and with "metadata" open
  };
  struct Running {
    kube::Call call;
    kube::CallEvents* events;
    std::string collection, ns, selector, name;
    bool watching = false;
  };

  void answer(kube::CallId id);
  void answer_status(kube::CallId id, int status, const std::string& body);
  void stream(Running& running);
  bool concerns(const Running& running, const Object& object) const;
  std::string with_version(const Object& object) const;
  void tell(const std::string& type, const std::string& collection, const Object& object);

  net::EventLoop& loop_;
  std::map<kube::CallId, Running> calls_;
  std::map<std::string, Mode> modes_;
  std::map<std::string, std::map<std::string, Object>> objects_;  // by collection, then "ns/name"
  std::vector<std::string> paths_;
  kube::CallId last_id_ = 0;
  uint64_t version_ = 10;
};

}  // namespace penstock::discovery::test
