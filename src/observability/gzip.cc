#include "penstock/observability/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <optional>

#include "penstock/base/assert.h"
#include "penstock/base/text.h"

namespace penstock::observability {
namespace {

constexpr int window_bits = 15, gzip_framing = 16, memory_level = 8;  // zlib's own words and defaults

std::string_view next(std::string_view& rest, char separator) {
  const size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = trimmed(rest.substr(0, end));
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

// A weight: "0", "0." and "0.000" refuse.
bool is_zero(std::string_view weight) {
  return weight.starts_with('0') && weight.find_first_of("123456789") == std::string_view::npos;
}

bool refused(std::string_view parameters) {
  while (!parameters.empty()) {
    std::string_view value = next(parameters, ';');
    const std::string_view name = next(value, '=');
    if (same_ignoring_case(name, "q")) return is_zero(value);
  }
  return false;
}

}  // namespace

std::string gzip(std::string_view text) {
  z_stream stream{};
  const int begun = deflateInit2(&stream, 1, Z_DEFLATED, window_bits + gzip_framing, memory_level, Z_DEFAULT_STRATEGY);
  PENSTOCK_ASSERT(begun == Z_OK);  // fails only without memory or with other headers than the library
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int ended = deflate(&stream, Z_FINISH);
  PENSTOCK_ASSERT(ended == Z_STREAM_END);  // there is room for everything
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

bool accepts_gzip(std::string_view accept_encoding) {
  std::optional<bool> named, any;
  while (!accept_encoding.empty()) {
    std::string_view parameters = next(accept_encoding, ',');
    const std::string_view coding = next(parameters, ';');
    if (same_ignoring_case(coding, "gzip") || same_ignoring_case(coding, "x-gzip")) named = !refused(parameters);
    if (coding == "*") any = !refused(parameters);
  }
  return named.value_or(any.value_or(false));
}

}  // namespace penstock::observability
