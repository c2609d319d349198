"""What tests of and with the fake API server share: a small client, objects, the test case."""

import http.client
import json
import ssl
import unittest
import urllib.parse

import harness
from kubefake.server import FakeApiServer

PODS = "/api/v1/namespaces/default/pods"
POOLS = "/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools"
REWRITES = "/apis/llm-d.ai/v1alpha2/namespaces/default/inferencemodelrewrites"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_TIME = "2026-01-01T00:00:00Z"


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.raw = status, headers, body
        self.body = json.loads(body) if body[:1] in (b"{", b"[") else body.decode("utf-8", "replace")

    @property
    def rv(self):
        return self.body["metadata"]["resourceVersion"]

    def names(self):
        return [item["metadata"]["name"] for item in self.body["items"] or []]

    def __repr__(self):
        return f"<{self.status} {self.raw[:300]!r}>"


class WatchReader:
    """An open watch. Iterates over (type, object); ends with the stream's end."""

    def __init__(self, connection, response):
        self.connection, self.response, self.status = connection, response, response.status

    def line(self):
        """The next line, b"" at a clean end; raises when the stream breaks or nothing comes in time."""
        return self.response.readline()

    def next(self):
        line = self.line()
        if not line:
            raise EOFError("the watch has ended")
        event = json.loads(line)
        return event["type"], event["object"]

    def take(self, count):
        """(type, name) of the next events."""
        return [(kind, obj["metadata"].get("name")) for kind, obj in (self.next() for _ in range(count))]

    def until_end(self):
        found = []
        while line := self.line():
            found.append(json.loads(line))
        return found

    def close(self):
        self.connection.close()


class KubeClient:
    def __init__(self, server, token=None, ca=None, client=None, agent="test/1"):
        self.server, self.token, self.agent = server, token, agent
        self.context = None
        if ca:
            self.context = ssl.create_default_context(cafile=ca)
            if client:
                self.context.load_cert_chain(*client)
        self._connections = []

    def connect(self):
        where = (self.server.host, self.server.port)
        if self.context:
            connection = http.client.HTTPSConnection(*where, timeout=harness.PATIENCE, context=self.context)
        else:
            connection = http.client.HTTPConnection(*where, timeout=harness.PATIENCE)
        self._connections.append(connection)
        return connection

    def _headers(self, more):
        headers = {"User-Agent": self.agent, "Accept": "application/json", **more}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        return headers

    def request(self, method, path, body=None, query=None, content_type="application/json", connection=None, **headers):
        own = connection or self.connect()
        if query:
            path += "?" + urllib.parse.urlencode(query)
        data = None if body is None else body if isinstance(body, (bytes, str)) else json.dumps(body)
        headers = self._headers({name.replace("_", "-"): value for name, value in headers.items()})
        own.request(method, path, data, {**headers, "Content-Type": content_type} if data is not None else headers)
        response = own.getresponse()
        reply = Reply(response.status, response.headers, response.read())
        if connection is None:
            own.close()
        return reply

    def get(self, path, **query):
        return self.request("GET", path, query=query)

    def post(self, path, body):
        return self.request("POST", path, body)

    def put(self, path, body):
        return self.request("PUT", path, body)

    def delete(self, path, body=None, **query):
        return self.request("DELETE", path, body, query)

    def merge(self, path, body, **query):
        return self.request("PATCH", path, body, query, "application/merge-patch+json")

    def apply(self, path, body, manager="test", **query):
        return self.request("PATCH", path, body, {"fieldManager": manager, **query}, "application/apply-patch+yaml")

    def watch(self, path, rv=None, **query):
        """A WatchReader, or the Reply when the answer is no stream."""
        connection = self.connect()
        query = {"watch": "1", **({} if rv is None else {"resourceVersion": rv}), **query}
        connection.request("GET", path + "?" + urllib.parse.urlencode(query), headers=self._headers({}))
        response = connection.getresponse()
        if response.status != 200:
            return Reply(response.status, response.headers, response.read())
        return WatchReader(connection, response)

    def close(self):
        for connection in self._connections:
            connection.close()


# ---- objects and test case ----


def pod(name, labels=None, node=None, **status):
    spec = {"containers": [{"name": "vllm", "image": "sim"}], **({"nodeName": node} if node else {})}
    meta = {"name": name, "namespace": "default", **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, **({"status": status} if status else {})}


def pool(name="p", ports=(8000,), **spec):
    spec = {"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [{"number": port} for port in ports], **spec}
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": spec,
    }


def accepted(status="True", **more):
    return {
        "type": "Accepted",
        "status": status,
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": _TIME,
        **more,
    }


def parents(*conditions, name="gw", **more):
    return {"parents": [{"parentRef": {"name": name}, "conditions": list(conditions), **more}]}


class FakeCase(unittest.TestCase):
    maxDiff = 3000

    def server(self, **options):
        server = FakeApiServer(**options)
        self.addCleanup(server.close)
        return server

    def client(self, server, **options):
        client = KubeClient(server, **options)
        self.addCleanup(client.close)
        return client

    def both(self, **options):
        server = self.server(**options)
        return server, self.client(server)
