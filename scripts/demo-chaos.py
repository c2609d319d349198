#!/usr/bin/env python3
"""The part of scripts/demo --chaos that clients play: streams run, two of three servers are killed, the streams go on.

demo-chaos.py GATEWAY_PORT ADMIN_PORT PID:PORT... (of the servers; the last one stays)
"""
import http.client
import json
import os
import re
import signal
import statistics
import sys
import threading
import time
import urllib.request

STREAMS, TOKENS = 12, 150


class Stream(threading.Thread):
    def __init__(self, port, number, model="sim-model"):
        super().__init__(daemon=True)
        self.port, self.number = port, number
        self.body = {"model": model, "stream": True, "max_tokens": TOKENS, "stream_options": {"include_usage": True},
                     "messages": [{"role": "user", "content": f"Question {number}: how does water get to a turbine?"}]}
        self.text, self.pieces, self.ids, self.ends, self.problem = "", 0, set(), 0, None
        self.usage, self.server, self.longest_pause = None, "?", 0.0

    def run(self):
        try:
            self.read()
        except (OSError, http.client.HTTPException, ValueError) as problem:
            self.problem = problem

    def read(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps(self.body), {"content-type": "application/json"})
        answer = connection.getresponse()
        self.server = answer.getheader("x-sim-name") or "?"
        last = time.monotonic()
        while line := answer.readline():
            if not line.startswith(b"data: "):
                continue
            now = time.monotonic()
            if self.pieces:
                self.longest_pause = max(self.longest_pause, now - last)
            last = now
            if line.strip() == b"data: [DONE]":
                self.ends += 1
                continue
            event = json.loads(line[6:])
            if event.get("error"):
                raise ValueError(event["error"].get("message"))
            self.ids.add(event["id"])
            self.usage = event.get("usage") or self.usage
            for choice in event["choices"]:
                piece = choice["delta"].get("content") or ""
                self.text += piece
                self.pieces += bool(piece)
        connection.close()

    def saved(self, reference):
        usage = self.usage or {}
        return (self.problem is None and self.ends == 1 and len(self.ids) == 1 and self.text == reference.text
                and usage.get("completion_tokens") == TOKENS)


def show(streams, what):
    tails = "".join(f"\n    {s.server:6} {min(100, 100 * s.pieces // TOKENS):3} %  ...{s.text[-60:]!r}" for s in streams[:4])
    print(f"  {what}{tails}", flush=True)


def main():
    gateway, admin = int(sys.argv[1]), int(sys.argv[2])
    servers = [tuple(int(n) for n in server.split(":")) for server in sys.argv[3:]]
    streams = [Stream(gateway, number) for number in range(STREAMS)]
    for stream in streams:
        stream.start()
    for victim, (pid, _) in enumerate(servers[:-1]):
        while any(s.is_alive() and s.pieces < 25 * (victim + 1) for s in streams):
            time.sleep(0.02)
        show(streams, f"{sum(s.is_alive() for s in streams)} streams run (the first four of them); now llm-{victim} is killed (SIGKILL)")
        os.kill(pid, signal.SIGKILL)
    for stream in streams:
        stream.join()
    show(streams, "all streams have ended")
    references = [Stream(servers[-1][1], number) for number in range(STREAMS)]
    for reference in references:
        reference.start()
    for reference in references:
        reference.join()
    saved = [stream.saved(reference) for stream, reference in zip(streams, references)]
    on_victims = sum(stream.server != f"llm-{len(servers) - 1}" for stream in streams)
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as page:
        resumed = re.search(r'^penstock_stream_resumes_total\{result="resumed"\} (\d+)', page.read().decode(), re.M)
    pauses = [stream.longest_pause * 1000 for stream in streams if stream.server != f"llm-{len(servers) - 1}"]
    print(f"\n  streams                          {STREAMS}, of which {on_victims} began on servers that were killed")
    print(f"  went on at another server        {resumed[1] if resumed else 0} times")
    print(f"  whole, as from an unbroken run   {sum(saved)} of {STREAMS} (text, usage, one id, one end)")
    print(f"  longest pause of such a stream   {max(pauses, default=0):.0f} ms (median {statistics.median(pauses or [0]):.0f} ms)")
    for stream, good in zip(streams, saved):
        if not good:
            print(f"  stream {stream.number} is not whole: {stream.problem or stream.text[-80:]!r}")
    return 0 if all(saved) and on_victims > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
