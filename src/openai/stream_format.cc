#include "stream_format.h"

#include "penstock/openai/resume_request.h"

namespace penstock::openai {

const StreamFormat* stream_format_of(Api api) {
  switch (api) {
    case Api::completions:
      return &text_format;
    case Api::chat_completions:
      return &chat_format;
    case Api::messages:
      return &messages_format;
    case Api::responses:
      return &responses_format;
    case Api::conversations:
    case Api::embeddings:
    case Api::other:
      return nullptr;
  }
  return nullptr;
}

bool ResumeRequest::knows(Api api) {
  return stream_format_of(api) != nullptr;
}

}  // namespace penstock::openai
