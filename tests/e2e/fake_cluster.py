"""FakeCluster: what a cluster does around an API server. Pods are real processes on loopback addresses of their own.

Three controllers, each driven by the events of the store like the real ones, so that it makes no difference whether a
test or kubectl changes an object:

  deployments  keeps as many pods as replicas says
  kubelet      starts the processes of a pod, reports readiness, ends them: deletionTimestamp, then preStop, SIGTERM,
               SIGKILL after the grace period, a last status, DELETED
  endpoints    writes the EndpointSlice of the Service, a settable moment after the pods have changed

Threads: one for each controller and one for each pod; close() ends them all and their processes.
"""

import itertools
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import harness
from kubefake.errors import ApiError
from kubefake.ownership import now

_SUBNETS = itertools.count(random.randrange(1, 200 * 250))


def sim_command(*flags):
    """The command of a pod's process: penstock-sim. Any program will do that prints "listening on HOST:PORT"."""
    return lambda pod, address, port: [
        harness.SIM, "--host", address, "--port", str(port), "--name", pod, "--ring", "epoll", *flags,
    ]  # fmt: skip


def free_subnet(port):
    """The first three numbers of a loopback network that no other test uses, and the socket that marks it as taken."""
    while True:
        number = next(_SUBNETS) % (200 * 250)
        prefix = f"127.{number // 250 + 20}.{number % 250 + 1}"
        mark = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            mark.bind((prefix + ".254", port))
            return prefix, mark
        except OSError:
            mark.close()


def condition(kind, status, reason=""):
    return {"type": kind, "status": "True" if status else "False", "lastTransitionTime": now(), "reason": reason}


def is_ready(pod):
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") == "Running"


class PodLife:
    """The kubelet's care of one pod, in a thread of its own. Ends when the pod is gone."""

    def __init__(self, cluster, pod):
        self.cluster, self.name, self.uid = cluster, pod["metadata"]["name"], pod["metadata"]["uid"]
        self.orders = queue.Queue()
        self.address, self.processes = None, []
        self._probe = True  # what the readiness probe would say
        self._pre_stop_s = cluster.pre_stop_s
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def order(self, what, **details):
        self.orders.put((what, details))

    # ---- the course of a life ----

    def _live(self):
        try:
            self._start()
            while self._obey(*self.orders.get()):
                pass
        except ApiError:
            pass  # the object has gone meanwhile
        except AssertionError as error:
            self.cluster.fail(error)
        finally:
            self._kill()
            self.cluster.pod_has_ended(self)

    def _start(self):
        self._patch({"spec": {"nodeName": "node-1"}})
        self.address = self.cluster.take_address()
        self._status(False, phase="Pending")
        self._run_processes()
        self._status(False)
        self._status(self._probe)
        self.cluster.note("ready", self.name)

    def _run_processes(self):
        self.processes = []
        for port in self.cluster.ports:
            process = harness.Process(self.cluster.command(self.name, self.address, port))
            self.processes.append(process)
            threading.Thread(target=self._watch_process, args=(process,), daemon=True).start()
        for process in self.processes:
            if process.out.wait(r"listening on (\S+):(\d+)") is None:
                raise AssertionError(f"the process of pod {self.name} ended:\n{process.log()}")

    def _watch_process(self, process):
        process.popen.wait()
        self.order("exited", process=process)

    def _obey(self, what, details):
        """Does what happens to the pod next; returns whether it lives on."""
        if what == "deleted":
            self._terminate(details["grace_s"])
            self._remove()
            return False
        if what == "gone":  # force-deleted: the process hears of it when everybody else has
            self.cluster.pause(self.cluster.sigterm_after_s)
            self._stop_processes(self.cluster.force_grace_s)
            return False
        if what == "evict":
            self._evict(details["grace_s"])
            return False
        if what == "probe":
            self._probe = details["ready"]
            self._status(self._probe)
        if what == "pre-stop":
            self._pre_stop_s = details["seconds"]
        if what == "exited" and details["process"] in self.processes:
            self._restart_container()
        return what != "end"

    def _restart_container(self):
        self._status(False)
        self.cluster.note("crashed", self.name)
        self._kill()
        if self.cluster.pause(self.cluster.restart_s):
            self._run_processes()
            self._status(self._probe)
            self.cluster.note("ready", self.name)

    def _terminate(self, grace_s):
        begun = time.monotonic()
        self.cluster.pause(max(self._pre_stop_s, self.cluster.sigterm_after_s))
        self.cluster.note("sigterm", self.name)
        self._stop_processes(max(0.0, grace_s - (time.monotonic() - begun)))
        self.cluster.note("exited", self.name)

    def _remove(self):
        """The last status, which still has the address, and the end of the object."""
        self._status(False)
        self.cluster.pause(self.cluster.teardown_s)
        server, namespace = self.cluster.server, self.cluster.namespace
        with server.store.lock:
            pod = server.get("pods", self.name, namespace)
            if pod is not None and pod["metadata"]["uid"] == self.uid:
                server.api.remove(server.kinds.named("pods"), pod)

    def _evict(self, grace_s):
        """As for node pressure: Failed, without an address, no deletionTimestamp, and then the end of the processes."""
        message = "The node was low on resource: memory."
        body = {
            "phase": "Failed",
            "reason": "Evicted",
            "message": message,
            "podIP": None,
            "podIPs": None,
            "conditions": None,
        }
        self._patch({"status": body}, "status")
        self.cluster.note("evicted", self.name)
        self.cluster.pause(self.cluster.sigterm_after_s)
        self._stop_processes(grace_s)

    # ---- processes ----

    def _stop_processes(self, grace_s):
        deadline = time.monotonic() + grace_s
        for process in self.processes:
            process.signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._slay(process)
        self.processes = []

    def _kill(self):
        processes, self.processes = self.processes, []
        for process in processes:
            self._slay(process)

    @staticmethod
    def _slay(process):
        """SIGKILL alone: a stopped process must not run once more, and obey a SIGTERM, on its way out."""
        process.popen.kill()
        process.wait()

    # ---- the object ----

    def _patch(self, body, subresource=""):
        body = {**body, "metadata": {"uid": self.uid}}
        return self.cluster.server.patch("pods", self.name, body, self.cluster.namespace, subresource)

    def _status(self, ready, phase="Running"):
        running = phase == "Running"
        status = {
            "phase": phase,
            "hostIP": "192.0.2.1",
            "conditions": [
                condition("PodScheduled", True),
                condition("Initialized", True),
                condition("ContainersReady", ready and running),
                condition("Ready", ready and running, "" if ready else "ContainersNotReady"),
            ],
            "containerStatuses": [
                {
                    "name": "vllm",
                    "ready": ready and running,
                    "restartCount": 0,
                    "image": "sim",
                    "imageID": "",
                    "started": running,
                }
            ],
        }
        if running:
            status.update({"podIP": self.address, "podIPs": [{"ip": self.address}], "startTime": now()})
        self._patch({"status": status}, "status")


class FakeCluster:
    """Pods of one Deployment in one namespace, with a Service and (if `pool`) an InferencePool over them."""

    def __init__(self, server, command, name="vllm", namespace="default", pool="gaie-sim", ports=(8000,), labels=None,
                 service=True, endpoint_delay_s=0.015, sigterm_after_s=0.02, pre_stop_s=0.0, grace_s=30,
                 teardown_s=0.05, restart_s=0.5, force_grace_s=30.0):  # fmt: skip
        self.server, self.command, self.name, self.namespace, self.ports = server, command, name, namespace, list(ports)
        self.labels = labels or {"app": name}
        self.endpoint_delay_s, self.sigterm_after_s, self.pre_stop_s = endpoint_delay_s, sigterm_after_s, pre_stop_s
        self.grace_s, self.teardown_s, self.restart_s, self.force_grace_s = (
            grace_s,
            teardown_s,
            restart_s,
            force_grace_s,
        )
        self.notes = []  # (monotonic seconds, what, pod)
        self._subnet, self._mark = free_subnet(self.ports[0])
        self._addresses = itertools.count(1)
        self._recycled = []
        self._lives = {}  # uid -> PodLife
        self._failure = None
        self._counter = 0  # of pods made
        self._ending = threading.Event()
        self._inboxes = {one: queue.Queue() for one in ("kubelet", "deployments", "endpoints")}
        self._make_objects(pool, service)
        server.store.subscribe(self._on_event)
        self._threads = [
            threading.Thread(target=loop, daemon=True)
            for loop in (self._kubelet_loop, self._deployment_loop, self._endpoint_loop)
        ]
        for thread in self._threads:
            thread.start()

    def _make_objects(self, pool, service):
        container = {
            "name": "vllm",
            "image": "penstock-sim",
            "ports": [{"containerPort": port} for port in self.ports],
            "env": [{"name": f"SETTING_{number}", "value": "x" * 40} for number in range(8)],
        }
        template = {"metadata": {"labels": self.labels}, "spec": {"containers": [container]}}
        template["spec"]["terminationGracePeriodSeconds"] = self.grace_s
        base = {"name": self.name, "namespace": self.namespace}
        spec = {"replicas": 0, "selector": {"matchLabels": self.labels}, "template": template}
        self.server.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": base, "spec": spec})
        if service:
            ports = [{"name": f"p{port}", "port": port, "targetPort": port} for port in self.ports]
            spec = {"selector": self.labels, "ports": ports}
            self.server.create({"apiVersion": "v1", "kind": "Service", "metadata": base, "spec": spec})
        if pool:
            self.create_pool(pool)

    def create_pool(self, name, **spec):
        spec = {
            "selector": {"matchLabels": self.labels},
            "targetPorts": [{"number": port} for port in self.ports],
            **spec,
        }
        meta = {"name": name, "namespace": self.namespace}
        obj = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": meta, "spec": spec}
        return self.server.create(obj)

    # ---- small services for the controllers ----

    def note(self, what, pod):
        with self.server.store.changed:
            self.notes.append((time.monotonic(), what, pod))
            self.server.store.changed.notify_all()

    def fail(self, error):
        """Something that a real cluster would show as a pod that never comes up: every wait of the test raises it."""
        with self.server.store.changed:
            self._failure = error
            self.server.store.changed.notify_all()

    def _wait(self, what, probe, timeout=None):
        def checked():
            if self._failure is not None:
                raise self._failure
            return probe()

        return self.server.wait(what, checked, timeout or harness.PATIENCE)

    def pause(self, seconds):
        """Lets time pass, as the real thing would; False when the cluster ends meanwhile."""
        return not self._ending.wait(seconds)

    def take_address(self):
        with self.server.store.lock:
            number = self._recycled.pop(0) if self._recycled else next(self._addresses)
        return f"{self._subnet}.{number}"

    def recycle_addresses(self):
        """Addresses of pods that have ended are given to the next ones."""
        with self.server.store.lock:
            used = {life.address for life in self._lives.values()}
            last = next(self._addresses)
            self._recycled = [n for n in range(1, last) if f"{self._subnet}.{n}" not in used]
            self._addresses = itertools.count(last)

    def pod_has_ended(self, life):
        with self.server.store.changed:
            self._lives.pop(life.uid, None)
            self.server.store.changed.notify_all()

    def _on_event(self, resource, event):
        """With the store's lock held."""
        if event.key[0] == self.namespace:
            if resource == "pods":
                for inbox in self._inboxes.values():
                    inbox.put(event)
            elif resource == "deployments.apps":
                self._inboxes["deployments"].put(event)
            elif resource == "services":
                self._inboxes["endpoints"].put(event)

    def _ours(self, pod):
        labels = pod["metadata"].get("labels") or {}
        return all(labels.get(name) == value for name, value in self.labels.items())

    # ---- kubelet ----

    def _kubelet_loop(self):
        while (event := self._inboxes["kubelet"].get()) is not None:
            meta = event.object["metadata"]
            with self.server.store.lock:
                life = self._lives.get(meta["uid"])
                if event.type == "ADDED" and self._ours(event.object):
                    self._lives[meta["uid"]] = PodLife(self, event.object)
            if life is None:
                continue
            if event.type == "DELETED":
                life.order("gone")
            elif meta.get("deletionTimestamp") and not event.previous["metadata"].get("deletionTimestamp"):
                life.order("deleted", grace_s=meta["deletionGracePeriodSeconds"])

    # ---- the Deployment's controller ----

    def _deployment_loop(self):
        while self._inboxes["deployments"].get() is not None:
            with self.server.store.lock:
                deployment = self.server.get("deployments.apps", self.name, self.namespace)
                if deployment is None or self._ending.is_set():
                    continue
                live = self.pods(owned=True)
                missing = deployment["spec"]["replicas"] - len(live)
                for _ in range(missing):
                    self.add_pod(owner=deployment)
                # Those that are not ready go first, then the youngest.
                live.sort(key=lambda pod: (is_ready(pod), -int(pod["metadata"]["labels"]["fake/number"])))
                for pod in live[: max(0, -missing)]:
                    self.server.delete("pods", pod["metadata"]["name"], self.namespace)
                self._report(deployment, live)

    def _report(self, deployment, live):
        ready = sum(is_ready(pod) for pod in live)
        status = {"replicas": len(live), "readyReplicas": ready, "availableReplicas": ready}
        if (deployment.get("status") or {}).get("readyReplicas") != ready or deployment["status"]["replicas"] != len(
            live
        ):
            self.server.patch("deployments.apps", self.name, {"status": status}, self.namespace, "status")

    # ---- the EndpointSlice's controller ----

    def _endpoint_loop(self):
        inbox = self._inboxes["endpoints"]
        while inbox.get() is not None:
            if not self.pause(self.endpoint_delay_s):
                return
            while not inbox.empty():
                if inbox.get() is None:
                    return
            with self.server.store.lock:
                if self.server.get("services", self.name, self.namespace) is not None:
                    self._write_slice()

    def _write_slice(self):
        endpoints = [self._endpoint(pod) for pod in self.server.list("pods", self.namespace) if self._in_slice(pod)]
        name = self.name + "-slice"
        labels = {
            "kubernetes.io/service-name": self.name,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in self.ports],
        }
        if self.server.get("endpointslices", name, self.namespace) is None:
            self.server.create(body)
        else:
            self.server.patch("endpointslices", name, {"endpoints": endpoints}, self.namespace)

    def _in_slice(self, pod):
        status = pod.get("status") or {}
        return self._ours(pod) and status.get("podIP") and status.get("phase") not in ("Succeeded", "Failed")

    @staticmethod
    def _endpoint(pod):
        meta, conditions = pod["metadata"], pod["status"].get("conditions") or []
        serving = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        terminating = "deletionTimestamp" in meta
        return {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": serving and not terminating, "serving": serving, "terminating": terminating},
            "nodeName": pod["spec"].get("nodeName"),
            "targetRef": {"kind": "Pod", "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
        }

    # ---- what tests do ----

    def scale(self, count):
        self.server.patch("deployments.apps", self.name, {"spec": {"replicas": count}}, self.namespace)

    def add_pod(self, name=None, owner=None, labels=None):
        """A pod; one without an owner (the default) is not replaced when it ends. Returns its name."""
        with self.server.store.lock:
            self._counter += 1
            name = name or f"{self.name}-{self._counter}-" + "".join(random.choices("bcdfghjklmnpqrstvwxz", k=5))
            deployment = self.server.get("deployments.apps", self.name, self.namespace)
            meta = {"name": name, "namespace": self.namespace}
            meta["labels"] = {**self.labels, "fake/number": str(self._counter), **(labels or {})}
            if owner is not None:
                reference = {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": self.name,
                    "uid": owner["metadata"]["uid"],
                }
                meta["ownerReferences"] = [{**reference, "controller": True}]
            spec = deployment["spec"]["template"]["spec"]
            self.server.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        return name

    def pods(self, owned=False):
        """Pods that are to stay: neither being deleted nor at their end. `owned`: of the Deployment only."""
        found = []
        for pod in self.server.list("pods", self.namespace):
            ended = pod["metadata"].get("deletionTimestamp") or pod["status"].get("phase") in ("Succeeded", "Failed")
            if self._ours(pod) and not ended and (not owned or pod["metadata"].get("ownerReferences")):
                found.append(pod)
        return found

    def ready_pods(self):
        return [pod["metadata"]["name"] for pod in self.pods() if is_ready(pod)]

    def wait_ready(self, count, timeout=None):
        """Until exactly so many pods are ready; returns their names."""
        self._wait(f"{count} ready pods", lambda: len(self.ready_pods()) == count, timeout)
        return self.ready_pods()

    def wait_note(self, what, pod, timeout=None, count=1):
        """When (monotonic seconds) this happened for the count-th time: ready, sigterm, exited, evicted, crashed."""

        def probe():
            found = [at for at, kind, name in self.notes if (kind, name) == (what, pod)]
            return len(found) >= count and found[count - 1]

        return self._wait(f"{what} of {pod}", probe, timeout)

    def wait_gone(self, name, timeout=None):
        self._wait(f"pod {name} is gone", lambda: self.server.get("pods", name, self.namespace) is None, timeout)

    def lives(self):
        """How many pods the kubelet still has to do with, deleted ones included."""
        with self.server.store.lock:
            return len(self._lives)

    def _life(self, name):
        with self.server.store.lock:
            pod = self.server.get("pods", name, self.namespace)
            return self._lives[pod["metadata"]["uid"]]

    def address(self, name):
        return self._life(name).address

    def process(self, name, number=0):
        return self._life(name).processes[number]

    def delete_pod(self, name, grace=None, pre_stop_s=None):
        """kubectl delete pod: returns at once."""
        if pre_stop_s is not None:
            self._life(name).order("pre-stop", seconds=pre_stop_s)
        self.server.delete("pods", name, self.namespace, grace)

    def force_delete(self, name):
        """kubectl delete pod --force --grace-period=0: the object vanishes while the process still runs."""
        self.server.delete("pods", name, self.namespace, 0)

    def evict(self, name, grace_s=1.0):
        self._life(name).order("evict", grace_s=grace_s)

    def crash(self, name):
        """SIGKILL to the processes; the kubelet starts them again."""
        for process in self._life(name).processes:
            process.signal(signal.SIGKILL)

    def set_ready(self, name, ready):
        """What the readiness probe says from now on."""
        self._life(name).order("probe", ready=ready)

    def recreate(self, name, force=False):
        """As a StatefulSet: the same name again with another uid, once the old one is gone."""
        uid = self.server.get("pods", name, self.namespace)["metadata"]["uid"]
        self.server.delete("pods", name, self.namespace, 0 if force else None)
        self.wait_gone(name)
        self.add_pod(name)
        return uid

    def close(self):
        self._ending.set()
        self.server.store.unsubscribe(self._on_event)
        for inbox in self._inboxes.values():
            inbox.put(None)
        for thread in self._threads:
            thread.join(harness.PATIENCE)
        with self.server.store.lock:
            lives = list(self._lives.values())
        for life in lives:
            for process in list(life.processes):
                process.signal(signal.SIGKILL)
            life.order("end")
        for life in lives:
            life.thread.join(harness.PATIENCE)
        self._mark.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def python_command(pod, address, port):
    """A pod's process for tests that need no program of ours: answers every GET with its name, ends at SIGTERM."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_pod.py")
    return [sys.executable, "-I", "-S", script, pod, address, str(port)]
