// Reads `listeners` and `admin.tls` of the file. Private to config.
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <string>
#include <vector>

#include "check.h"
#include "penstock/config/load.h"

namespace penstock::config {

// Adds to options.listeners; `complain` gets the node, the key and what is wrong. `places` gets where each was given.
using Complain = std::function<void(const YAML::Node& at, std::string key, std::string message)>;
void read_listeners(const YAML::Node& list, Options& options, std::vector<EndpointPlace>& places,
                    const Complain& complain);

// `admin.tls`, which says what the `tls` of a listener says.
void read_admin_tls(const YAML::Node& map, Options& options, const Complain& complain);

// --listen-tls, --tls-cert and --tls-key: one listener more.
class ListenerFlags {
 public:
  // False: the flag is none of them.
  bool take(const Flag& flag);
  // "": done, or there is nothing to do; else what is wrong.
  std::string finish(Options& options, std::vector<EndpointPlace>& places);

 private:
  std::string address_, certs_, keys_;
};

}  // namespace penstock::config
