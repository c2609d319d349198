// The decoder of Kubernetes objects, fed with anything. First byte: which kind ('a' is the first); '!' before it:
// strict. It must not fall over, must say what is wrong when it refuses, and what it accepts must resolve.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "penstock/objects/decode.h"
#include "penstock/objects/resolve.h"

namespace {

using namespace penstock::objects;

void resolve(Kind kind, Object object) {
  Store store;
  Resolver resolver(store, ResolveOptions{.implicit_gateway = true});
  resolver.update(1);
  const std::string ns = meta_of(object).ns, name = meta_of(object).name;
  store.apply(kind, std::move(object));
  if (resolver.update(2).describe().empty()) std::abort();
  if (const auto& routes = resolver.desired().routes; routes->mode() == RoutingMode::routes) {
    RouteQuery query{.host = "a.example.com", .path = "/v1/models", .query = "a=b%20c&d", .method = "POST"};
    if (const Route* const route = routes->match(query)) route->pick(7);
  }
  store.erase(kind, ns, name, "");
  if (!resolver.update(3).pools.empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const bool strict = bytes.starts_with('!');
  if (strict) bytes.remove_prefix(1);
  if (bytes.empty()) return 0;
  const Kind kind = static_cast<Kind>(static_cast<unsigned char>(bytes[0] - 'a') % kind_count);
  Decoder decoder(strict ? Strictness::strict : Strictness::lenient);
  auto object = decoder.decode(kind, bytes.substr(1));
  if (!object) {
    if (object.error().problems.empty() || object.error().text().empty()) std::abort();
    return 0;
  }
  if (meta_of(*object).name.empty()) std::abort();
  resolve(kind, std::move(object).value());
  return 0;
}
