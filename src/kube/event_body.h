// The JSON of an Event (events.k8s.io/v1).
#pragma once

#include <cstdint>
#include <string>

#include "penstock/kube/writer.h"

namespace penstock::kube {

// `number` makes names of events of one microsecond differ.
std::string event_body(const Event& event, const WriterOptions& options, int64_t wall_us, uint64_t number);

}  // namespace penstock::kube
