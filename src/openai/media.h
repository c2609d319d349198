// What tells the media of a prompt apart: a hash of each image, audio or video, and the limit on how many are kept.
#pragma once

#include <string_view>

#include "penstock/openai/request.h"

namespace penstock::openai {

// One more image, audio or video in the prompt: its URL, or its data as they stand in the body. One that was there
// before does not count again, and none does beyond Request::media_max.
void add_media(Request& request, std::string_view item);
// The field of a media object that says which one it is: {"url": ...}, {"data": ..., "format": ...}.
bool identifies_media(std::string_view key);

}  // namespace penstock::openai
