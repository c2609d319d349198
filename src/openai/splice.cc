#include "penstock/openai/splice.h"

#include "penstock/base/assert.h"
#include "penstock/base/text.h"

namespace penstock::openai {

Spliced splice_model(std::string_view body, const Range& model_value, std::string_view model) {
  Spliced spliced;
  if (model_value.empty()) {
    spliced.before = body;
    return spliced;
  }
  PENSTOCK_ASSERT(model_value.begin <= body.size() && model_value.size <= body.size() - model_value.begin);
  spliced.before = body.substr(0, model_value.begin);
  append_json_string(spliced.value, model);
  spliced.after = body.substr(model_value.begin + model_value.size);
  return spliced;
}

}  // namespace penstock::openai
