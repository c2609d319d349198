"""What the end-to-end tests on the fake cluster share: traffic that must not fail, and how fast the gateway follows."""

import re
import threading
import time

import harness
from fake_cluster import FakeCluster, is_ready, sim_command
from harness import E2E, Client, ConnectionEnded, completion, wait_for
from kubefake.server import FakeApiServer

POOL = "gaie-sim"
# A stream of the long kind takes 300 steps of 4 ms.
SIM = ("--seed", "3", "--prefill-tokens-per-s", "20000", "--decode-ms", "4", "--drain-timeout-s", "30")
LONG_TOKENS = 300
# The promise is 100 ms; a single event may come late on a machine that does something else, and all of them on a build
# with a sanitizer, which is given more patience.
PROMPT_S, LATE_S = 0.1 * harness.PATIENCE / 20, harness.SOON


class Answer:
    """One request that was answered whole."""

    def __init__(self, begun, ended, endpoint, long):
        self.begun, self.ended, self.endpoint, self.long = begun, ended, endpoint, long


class Traffic:
    """Clients that send one request after the other, and clients with one long stream after the other."""

    def __init__(self, port, short=6, long=4):
        self.port = port
        self.changed = threading.Condition()
        self.answers, self.errors, self.broken = [], [], []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i, i >= short)) for i in range(short + long)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def _run(self, number, long):
        client, turn = None, 0
        while not self._stopping.is_set():
            turn += 1
            begun = time.monotonic()
            streaming = long or (number + turn) % 2 == 0
            body = completion(f"client {number}, turn {turn}", LONG_TOKENS if long else 10, stream=streaming)
            try:
                client = client or Client(self.port)
                answer = client.post("/v1/completions", body)
                self._count(answer, begun, long, streaming)
            except ConnectionEnded as end:
                client.close()
                client = None
                self._count_end(end, begun, streaming)
            except Exception as error:  # pylint: disable=broad-except
                self._note(self.errors, f"{begun}: {error!r}")
                break
        if client is not None:
            client.close()

    def _note(self, where, what):
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def _count(self, answer, begun, long, streaming):
        whole = answer.status == 200 and (not streaming or answer.events()[-1:] == ["[DONE]"])
        if not whole:
            self._note(self.broken if answer.status == 200 else self.errors, repr(answer))
        else:
            self._note(self.answers, Answer(begun, time.monotonic(), pod_of(answer), long))

    def _count_end(self, end, begun, streaming):
        had_begun = streaming and end.response is not None and end.response.status == 200 and end.response.body
        self._note(self.broken if had_begun else self.errors, f"{begun}: {end!r}")

    def wait_until(self, what, probe, timeout=None):
        """Until probe(answers) holds; at once when a request has failed."""
        deadline = time.monotonic() + (timeout or harness.PATIENCE)
        with self.changed:
            while not (probe(self.answers) or self.errors):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"waited in vain: {what}; {len(self.answers)} answers")
                self.changed.wait(left)

    def wait_more(self, count, since=None):
        """So many more requests, of those begun after `since`, are answered."""
        since = time.monotonic() if since is None else since
        self.wait_until(f"{count} answers", lambda answers: sum(one.begun >= since for one in answers) >= count)

    def wait_pod(self, name, count=1):
        """The pod gets requests from now on."""
        since = time.monotonic()
        probe = lambda answers: sum(a.endpoint == name and a.begun >= since for a in answers) >= count  # noqa: E731
        self.wait_until(f"requests at {name}", probe)

    def pods_of(self, since, until=float("inf")):
        """Which pods answered requests begun in this time."""
        with self.changed:
            return {one.endpoint for one in self.answers if since <= one.begun < until}

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join(harness.PATIENCE)


def pod_of(answer):
    """The pod that the answer names: "<pod>-rank-<i>"."""
    return re.sub(r"-rank-\d+$", "", answer.header("x-penstock-endpoint") or "")


class ReadyFollower:
    """Compares `inference_pool_ready_pods` with the truth, all the time."""

    def __init__(self, cluster, gateway, pool=POOL):
        self.cluster, self.gateway, self.pool = cluster, gateway, pool
        self.truth = [(time.monotonic(), self._count())]
        self.samples = []  # (monotonic seconds, value)
        self._stopping = threading.Event()
        cluster.server.store.subscribe(self._on_event)
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _count(self):
        return sum(is_ready(pod) for pod in self.cluster.server.list("pods", self.cluster.namespace))

    def _on_event(self, resource, _):
        if resource == "pods" and (count := self._count()) != self.truth[-1][1]:
            self.truth.append((time.monotonic(), count))

    def _sample(self):
        client = Client(self.gateway.admin_port)
        while not self._stopping.wait(0.005):
            metrics = harness.Metrics(client.request("GET", "/metrics").body.decode())
            self.samples.append((time.monotonic(), metrics.sum("inference_pool_ready_pods", name=self.pool)))
        client.close()

    def value(self):
        return self.samples[-1][1] if self.samples else None

    def settled(self):
        """The gauge has the last value, and that is so old that it counts."""
        return self.value() == self.truth[-1][1] and time.monotonic() - self.truth[-1][0] >= 2 * PROMPT_S

    def stop(self):
        self.cluster.server.store.unsubscribe(self._on_event)
        self._stopping.set()
        self._thread.join(harness.PATIENCE)

    def lags(self):
        """For each change of the truth that lasted: the seconds until the gauge said so."""
        found = []
        for (at, count), (until, after) in zip(self.truth[1:], self.truth[2:] + [(float("inf"), None)]):
            if until - at < 2 * PROMPT_S:
                continue  # over before anybody could have asked
            # Who is late may have the next value at once.
            right = lambda when, value: when >= at and value == count or when >= until and value == after  # noqa: E731
            seen = [when for when, value in self.samples if right(when, value)]
            found.append((seen[0] - at) if seen else float("inf"))
        return found


class KubernetesCase(E2E):
    def api(self, **options):
        server = FakeApiServer(**options)
        self.addCleanup(server.close)
        return server

    def cluster(self, count=0, server=None, sim=SIM, **options):
        """A cluster with `count` ready pods, and an API server of its own unless one is given."""
        cluster = FakeCluster(server or self.api(), sim_command(*sim), **options)
        self.addCleanup(cluster.close)
        cluster.scale(count)
        cluster.wait_ready(count)
        return cluster

    def follower_of(self, cluster, gateway):
        follower = ReadyFollower(cluster, gateway)
        self.addCleanup(follower.stop)
        return follower

    def penstock(self, server, *flags, ready=True, namespace="default", pool=POOL, access=None, config="", **options):
        """A gateway on the API server. `access`: flags that say where it is (default: its plain URL)."""
        words = ["--kubernetes", "--namespace", namespace, *(["--pool", pool] if pool else [])]
        words += access or ["--kube-api", server.url]
        return self.gateway(config=config, flags=[*words, *flags], ready=ready, **options)

    def traffic(self, gateway, **options):
        traffic = Traffic(gateway.port, **options)
        self.addCleanup(traffic.stop)
        return traffic

    def wait_busy_pod(self, cluster, gateway):
        """A ready pod that the gateway has a request on."""

        def busy():
            series = gateway.metrics().series("penstock_endpoint_requests_in_flight")
            names = " ".join(str(list(labels.values())) for labels, value in series if value)
            ready = cluster.ready_pods()
            return next((name for name in ready if name in names or cluster.address(name) + ":" in names), None)

        return wait_for("a pod has a request", busy)

    def wait_left_out(self, gateway, name):
        """Waits until the gateway takes the pod for one that is not ready, never much later than the cluster does. From
        the moment that this returns, a moment later, no request may go there."""

        def ready():
            series = gateway.metrics().series("penstock_endpoint_ready")
            return any(value and name in str(labels) for labels, value in series)

        wait_for(f"{name} is left out", lambda: not ready(), LATE_S)
        return time.monotonic() + PROMPT_S  # shards are in the turn that they are in

    def assert_prompt(self, follower):
        """The gauge followed the truth, never much later: what else the machine does is in it. Without that, and for
        the promise: Quiet."""
        wait_for("the gauge has the last value", lambda: follower.value() == follower.truth[-1][1])
        lags = sorted(follower.lags())
        self.assertTrue(lags, "nothing has changed")
        self.assertLess(lags[-1], LATE_S, lags)
        return lags

    def assert_nothing_failed(self, traffic, gateway):
        traffic.stop()
        self.assertEqual((traffic.errors, traffic.broken), ([], []))
        gateway.wait_outcomes({"ok": len(traffic.answers)})
