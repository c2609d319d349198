#include "media.h"

#include <algorithm>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace penstock::openai {

void add_media(Request& request, std::string_view item) {
  if (item.empty() || request.media.size() >= Request::media_max) return;
  const uint64_t hash = XXH3_64bits(item.data(), item.size());
  if (std::find(request.media.begin(), request.media.end(), hash) == request.media.end()) request.media.push_back(hash);
}

bool identifies_media(std::string_view key) {
  return key == "url" || key == "data" || key == "file_id";
}

}  // namespace penstock::openai
