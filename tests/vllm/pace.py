"""A logits processor for vLLM that changes nothing, and before which each token of a server waits: PENSTOCK_VLLM_PACE_MS. The engine
of a model as small as ours would otherwise have computed an answer to its end before a busy machine has passed on its first tokens."""

import os
import threading

from vllm.v1.sample.logits_processor import LogitsProcessor


class Pace(LogitsProcessor):
    def __init__(self, _vllm_config, _device, _is_pin_memory):
        self.seconds = float(os.environ["PENSTOCK_VLLM_PACE_MS"]) / 1000
        self.never = threading.Event()

    def apply(self, logits):
        self.never.wait(self.seconds)
        return logits

    def is_argmax_invariant(self):
        return False  # otherwise it is not asked where sampling is greedy

    def update_state(self, _batch_update):
        pass
