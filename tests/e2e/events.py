"""What a client makes of the events of a stream: for the tests of streams, of chaos and of real vLLM."""

import json


class Stream:
    """Of the completions APIs, with one choice. `response`: whole, or what there is of it. `finish`: each finish_reason with
    its stop_reason."""

    def __init__(self, response):
        self.events = response.events()
        self.done = self.events.count("[DONE]")
        self.chunks = [json.loads(event) for event in self.events if event != "[DONE]"]
        self.errors = [chunk for chunk in self.chunks if chunk.get("error")]
        self.text, self.roles, self.finish, self.usage = "", 0, [], None
        for chunk in self.chunks:
            self.usage = chunk.get("usage") or self.usage
            for choice in chunk.get("choices", ()):
                delta = choice.get("delta", {})
                self.roles += "role" in delta
                self.text += delta.get("content") or choice.get("text") or ""
                if choice.get("finish_reason"):
                    self.finish.append((choice["finish_reason"], choice.get("stop_reason")))
        self.ids = {(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in self.chunks if "id" in chunk}


def without_details(usage):
    """Without which tokens were cached: that differs between two runs."""
    return {name: value for name, value in usage.items() if name != "prompt_tokens_details"}
