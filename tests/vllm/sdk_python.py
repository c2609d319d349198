"""Asks for a stream with OpenAI's SDK and says what it hands to its caller: sdk_python.py BASE_URL, with the request on the
standard input, as {"chat": bool, "body": {...}}."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
asked = json.load(sys.stdin)
create = client.chat.completions.create if asked["chat"] else client.completions.create
text, finish, usage, ids = "", [], None, set()
for chunk in create(**asked["body"]):
    ids.add((chunk.id, chunk.created, chunk.model))
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += (choice.delta.content if asked["chat"] else choice.text) or ""
        finish += [choice.finish_reason] if choice.finish_reason else []
counts = [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens] if usage else None
print(json.dumps({"text": text, "finish": finish, "usage": counts, "ids": len(ids)}))
