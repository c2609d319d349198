#!/usr/bin/env python3
"""The load that a build with profile-guided optimisation learns from (scripts/build --pgo): small requests, long
prompts and streams, on each engine that works here. Sends to loopback only, and a fixed amount."""
import argparse
import os
import signal
import sys
import tempfile

import check_budget

WORK = (("request", 40_000), ("prompt", 400), ("chunk", 64_000))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="build folder")
    options = parser.parse_args()
    options.penstock = os.path.join(options.build, "src/app/penstock")
    options.sse_load = os.path.join(options.build, "perf/sse_load")
    options.backend = os.path.join(options.build, "perf/bench_backend")
    with tempfile.TemporaryDirectory(prefix="penstock-train-") as folder:
        rig = check_budget.Rig(options, folder)
        try:
            for ring in ("epoll", "io_uring"):
                if not check_budget.usable(options, ring):
                    continue
                rig.start_gateway(ring)
                for work, amount in WORK:
                    rig.load(work, amount)
                rig.stop_gateway(signal.SIGTERM)  # a profile is written at a proper end
        finally:
            rig.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
