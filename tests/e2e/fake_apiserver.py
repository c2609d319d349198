#!/usr/bin/env python3
"""A Kubernetes API server for tests and for trying things out, alone or with pods that are real processes.

  fake_apiserver.py [--port P] [--tls DIR] [--token T] [--manifests DIR] [--without-crds]
                    [--pods PROGRAM [--replicas N]]

Prints its address and the path of a kubeconfig, and serves until SIGINT or SIGTERM. With that kubeconfig kubectl can
get, list, watch, apply (with --validate=false), delete and scale. Faults: see kubefake/control.py, for example

  curl -d '{"resource": "pods", "how": "rst"}' http://127.0.0.1:P/_fake/faults/cut

--manifests reads *.json, each with one object or a List. --pods runs PROGRAM (penstock-sim) for each pod of the
Deployment "vllm" in the namespace "default", which is made with a Service, an InferencePool "gaie-sim" and N replicas.
"""

import argparse
import glob
import json
import os
import signal
import sys
import threading

from kubefake.errors import ApiError
from kubefake.server import FakeApiServer


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", metavar="DIR", help="serve HTTPS; certificates are kept in DIR")
    parser.add_argument("--token", action="append", help="a Bearer token that is accepted (repeatable)")
    parser.add_argument("--manifests", metavar="DIR")
    parser.add_argument("--without-crds", action="store_true", help="install no CRD; they can be applied later")
    parser.add_argument("--kubeconfig", metavar="FILE", help="where to write it (default: a temporary directory)")
    parser.add_argument("--pods", metavar="PROGRAM")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--pod-port", type=int, default=8000)
    return parser.parse_args()


def load(server, directory):
    """Stores every object of the directory's *.json, CustomResourceDefinitions first."""
    objects = []
    for path in sorted(glob.glob(os.path.join(directory, "*.json"))):
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        objects += document["items"] if document.get("kind", "").endswith("List") else [document]
    for obj in sorted(objects, key=lambda obj: obj["kind"] != "CustomResourceDefinition"):
        server.create(obj)
    return len(objects)


def run_pods(server, options):
    import harness  # only pods need it  # pylint: disable=import-outside-toplevel
    from fake_cluster import FakeCluster, sim_command  # pylint: disable=import-outside-toplevel

    harness.SIM = options.pods
    cluster = FakeCluster(server, sim_command(), ports=(options.pod_port,))
    cluster.scale(options.replicas)
    return cluster


def main():
    options = arguments()
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    crds = [] if options.without_crds else None
    with FakeApiServer(options.port, options.host, tls=options.tls, tokens=options.token, crds=crds) as server:
        try:
            count = load(server, options.manifests) if options.manifests else 0
        except (OSError, ValueError, KeyError, ApiError) as error:
            print(f"fake_apiserver.py: {options.manifests}: {error}", file=sys.stderr)
            return 1
        cluster = run_pods(server, options) if options.pods else None
        path = os.path.abspath(options.kubeconfig) if options.kubeconfig else "kubeconfig"
        print(f"listening on {server.host}:{server.port}, {count} objects", flush=True)
        print(f"kubeconfig {server.kubeconfig(path)}", flush=True)
        ending.wait()
        if cluster:
            cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
