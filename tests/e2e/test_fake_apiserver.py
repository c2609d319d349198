"""The fake Kubernetes API server itself: reading and watching by the rules of the real one, faults, access."""

import gzip
import http.client
import json
import os
import socket
import ssl
import time

import harness
from harness import wait_for
from kube_client import PODS, POOLS, REWRITES, SLICES, FakeCase, pod, pool


class Lists(FakeCase):
    def test_items_of_typed_apis_have_no_kind_and_those_of_crds_have(self):
        server, client = self.both()
        server.create(pod("a"))
        self.assertEqual(client.post(POOLS, pool()).status, 201)
        typed, custom = client.get(PODS).body, client.get(POOLS).body
        self.assertEqual((typed["kind"], typed["apiVersion"]), ("PodList", "v1"))
        self.assertNotIn("kind", typed["items"][0])
        self.assertEqual(custom["items"][0]["kind"], "InferencePool")

    def test_no_items_may_be_null(self):
        server, client = self.both()
        self.assertEqual(client.get(PODS).body["items"], [])
        server.set(null_items=True)
        self.assertIsNone(client.get(PODS).body["items"])
        self.assertEqual(client.get(POOLS).body["items"], [])

    def test_pages_are_of_one_moment(self):
        server, client = self.both()
        for number in range(5):
            server.create(pod(f"pod-{number}"))
        first = client.get(PODS, limit=2)
        self.assertEqual((first.names(), first.body["metadata"]["remainingItemCount"]), (["pod-0", "pod-1"], 3))
        server.delete("pods", "pod-3", grace=0)
        server.create(pod("pod-2-and-a-half"))
        second = client.get(PODS, limit=2, **{"continue": first.body["metadata"]["continue"]})
        self.assertEqual((second.names(), second.rv), (["pod-2", "pod-3"], first.rv))
        last = client.get(PODS, limit=2, **{"continue": second.body["metadata"]["continue"]})
        self.assertEqual(last.names(), ["pod-4"])
        self.assertNotIn("continue", last.body["metadata"])
        both = client.get(PODS, resourceVersion=first.rv, **{"continue": first.body["metadata"]["continue"]})
        self.assertEqual(both.status, 400)

    def test_an_expired_page_is_410_with_a_token_for_the_rest(self):
        server, client = self.both()
        for number in range(4):
            server.create(pod(f"pod-{number}"))
        token = client.get(PODS, limit=2).body["metadata"]["continue"]
        server.delete("pods", "pod-2", grace=0)
        server.store.compact()
        expired = client.get(PODS, limit=2, **{"continue": token})
        self.assertEqual((expired.status, expired.body["reason"]), (410, "Expired"))
        rest = client.get(PODS, limit=2, **{"continue": expired.body["metadata"]["continue"]})
        self.assertEqual(rest.names(), ["pod-3"])

    def test_version_0_is_not_paged(self):
        server, client = self.both()
        for number in range(3):
            server.create(pod(f"pod-{number}"))
        self.assertEqual(len(client.get(PODS, limit=1, resourceVersion="0").names()), 3)

    def test_a_version_that_is_not_there_yet_is_504(self):
        server, client = self.both(fresh_wait_s=0.05)
        reply = client.get(PODS, resourceVersion=server.store.rv + 100)
        self.assertEqual((reply.status, reply.body["reason"]), (504, "Timeout"))
        self.assertEqual(reply.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge")
        self.assertEqual(reply.body["details"]["retryAfterSeconds"], 1)

    def test_a_version_that_comes_meanwhile_is_waited_for(self):
        server, client = self.both(fresh_wait_s=harness.PATIENCE)
        rv, names = server.store.rv + 1, []
        harness.in_threads(
            2, lambda i: server.create(pod("late")) if i else names.extend(client.get(PODS, resourceVersion=rv).names())
        )
        self.assertEqual(names, ["late"])

    def test_selectors(self):
        server, client = self.both()
        server.create(pod("a", {"app": "vllm", "tier": "x"}))
        server.create(pod("b", {"app": "vllm"}))
        server.create(pod("c", {"app": "other"}))
        for text, names in (
            ("app=vllm", ["a", "b"]),
            ("app==vllm,tier=x", ["a"]),
            ("app!=vllm", ["c"]),
            ("app in (vllm, other),tier", ["a"]),
            ("!tier", ["b", "c"]),
            ("app notin (vllm)", ["c"]),
        ):
            self.assertEqual(client.get(PODS, labelSelector=text).names(), names, text)
        self.assertEqual(client.get(PODS, fieldSelector="metadata.name=b").names(), ["b"])
        self.assertEqual(client.get(PODS, labelSelector="a b c").status, 400)
        self.assertEqual(client.get(PODS, fieldSelector="spec.nonsense=1").status, 400)

    def test_only_large_answers_are_compressed(self):
        server, client = self.both()
        server.create(pod("a"))
        self.assertIsNone(client.request("GET", PODS, Accept_Encoding="gzip").headers["content-encoding"])
        for number in range(200):
            server.create(pod(f"big-{number}", {f"label-{i}": "x" * 60 for i in range(12)}))
        reply = client.request("GET", PODS, Accept_Encoding="gzip")
        self.assertEqual(reply.headers["content-encoding"], "gzip")
        self.assertEqual(len(json.loads(gzip.decompress(reply.raw))["items"]), 201)

    def test_a_server_that_lags_behind(self):
        first = self.server()
        first.create(pod("old"))
        second = self.server(store=first.store, fresh_wait_s=0.05)
        second.freeze()
        first.create(pod("new"))
        behind = self.client(second)
        self.assertEqual(behind.get(PODS, resourceVersion="0").names(), ["old"])
        self.assertEqual(behind.get(PODS).names(), ["new", "old"])
        self.assertEqual(behind.get(PODS, resourceVersion=first.store.rv).status, 504)
        watch = behind.watch(PODS, "0")
        self.assertEqual(watch.take(1), [("ADDED", "old")])
        second.freeze(False)
        self.assertEqual(watch.take(1), [("ADDED", "new")])


class Watches(FakeCase):
    def test_changes_after_the_version(self):
        server, client = self.both()
        server.create(pod("before"))
        watch = client.watch(PODS, client.get(PODS).rv)
        server.create(pod("a"))
        server.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}})
        server.delete("pods", "a", grace=0)
        self.assertEqual(watch.take(2), [("ADDED", "a"), ("MODIFIED", "a")])
        kind, last = watch.next()
        self.assertEqual((kind, last["metadata"]["resourceVersion"]), ("DELETED", str(server.store.rv)))
        self.assertEqual((last["kind"], last["metadata"]["labels"]), ("Pod", {"x": "y"}))

    def test_an_object_enters_and_leaves_a_selector(self):
        server, client = self.both()
        server.create(pod("a", {"app": "other"}))
        watch = client.watch(PODS, client.get(PODS).rv, labelSelector="app=vllm")
        for app in ("vllm", "other"):
            server.patch("pods", "a", {"metadata": {"labels": {"app": app}}})
        self.assertEqual(watch.take(1), [("ADDED", "a")])
        kind, last = watch.next()
        self.assertEqual((kind, last["metadata"]["labels"]), ("DELETED", {"app": "vllm"}))
        self.assertEqual(last["metadata"]["resourceVersion"], str(server.store.rv))

    def test_other_namespaces_are_not_seen(self):
        server, client = self.both()
        watch = client.watch(PODS, client.get(PODS).rv)
        elsewhere = pod("far")
        elsewhere["metadata"]["namespace"] = "elsewhere"
        server.create(elsewhere)
        server.create(pod("near"))
        self.assertEqual(watch.take(1), [("ADDED", "near")])

    def test_without_a_version_the_state_comes_first(self):
        server, client = self.both()
        server.create(pod("a"))
        for rv in (None, "0"):
            self.assertEqual(client.watch(PODS, rv).take(1), [("ADDED", "a")])

    def test_what_has_left_the_window_is_410_in_the_stream(self):
        server, client = self.both(history=3)
        begin = int(client.get(PODS).rv)
        for number in range(5):
            server.create(pod(f"pod-{number}"))
        self.assertEqual(client.watch(PODS, begin + 2).take(1), [("ADDED", "pod-2")])
        events = client.watch(PODS, begin + 1).until_end()
        self.assertEqual([event["type"] for event in events], ["ERROR"])
        self.assertEqual((events[0]["object"]["code"], events[0]["object"]["reason"]), (410, "Expired"))
        server.faults.http_410("pods")
        self.assertEqual(client.watch(PODS, begin + 1).status, 410)

    def test_it_ends_in_time_and_the_connection_can_be_used_again(self):
        server, client = self.both()
        connection = client.connect()
        begun = time.monotonic()
        query = {"watch": "1", "resourceVersion": server.store.rv, "timeoutSeconds": 1}
        self.assertEqual(client.request("GET", PODS, query=query, connection=connection).raw, b"")
        self.assertGreaterEqual(time.monotonic() - begun, 1)
        self.assertEqual(client.request("GET", PODS, connection=connection).status, 200)

    def test_bookmarks(self):
        server, client = self.both(bookmark_period_s=0.05)
        watch = client.watch(PODS, server.store.rv, allowWatchBookmarks="true")
        # The version moves on with changes of other resources too.
        server.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
        rv = str(server.store.rv)
        while (event := watch.next())[1]["metadata"]["resourceVersion"] != rv:
            self.assertEqual(event[0], "BOOKMARK")
        self.assertEqual((event[0], event[1]["kind"]), ("BOOKMARK", "Pod"))

    def test_a_bookmark_before_the_end_or_none_at_all(self):
        server, client = self.both(bookmark_period_s=1000)
        events = client.watch(PODS, server.store.rv, allowWatchBookmarks="true", timeoutSeconds=1).until_end()
        self.assertEqual([event["type"] for event in events], ["BOOKMARK"])
        server.set(bookmark_period_s=None)
        self.assertEqual(
            client.watch(PODS, server.store.rv, allowWatchBookmarks="true", timeoutSeconds=1).until_end(), []
        )

    STREAM = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}

    def test_initial_events_end_with_their_mark(self):
        server, client = self.both(history=1)
        old = client.get(PODS).rv
        for name in "abc":
            server.create(pod(name))
        for rv in (None, old):  # also where a plain watch would be told 410
            watch = client.watch(PODS, rv, **self.STREAM)
            self.assertEqual(watch.take(3), [("ADDED", name) for name in "abc"])
            kind, mark = watch.next()
            self.assertEqual(
                (kind, mark["metadata"]["annotations"]), ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
            )
            self.assertEqual(mark["metadata"]["resourceVersion"], str(server.store.rv))
            server.patch("pods", "a", {"metadata": {"labels": {"x": rv or "first"}}})
            self.assertEqual(watch.take(1), [("MODIFIED", "a")])

    def test_servers_that_know_no_initial_events(self):
        server, client = self.both(initial_events="invalid")
        server.create(pod("a"))
        self.assertEqual(client.watch(PODS, **self.STREAM).status, 422)
        server.set(initial_events="ignore", bookmark_period_s=None)
        watch = client.watch(PODS, timeoutSeconds=1, **self.STREAM)
        self.assertEqual([event["type"] for event in watch.until_end()], ["ADDED"])
        server.set(initial_events="error")
        watch = client.watch(PODS, **self.STREAM)
        self.assertEqual((watch.status, [event["object"]["code"] for event in watch.until_end()]), (200, [500]))
        server.set(initial_events="on")
        self.assertEqual(client.watch(PODS, sendInitialEvents="true").status, 422)

    def test_a_client_that_leaves_is_noticed(self):
        server, client = self.both()
        watch = client.watch(PODS, server.store.rv)
        server.wait_watches("pods", 1)
        watch.response.close()
        watch.close()
        server.wait_watches("pods", 0)

    def test_the_removal_of_a_crd_ends_its_watches(self):
        server, client = self.both()
        client.post(POOLS, pool())
        watch = client.watch(POOLS, server.store.rv)
        server.remove_crd("inferencepools.inference.networking.k8s.io")
        self.assertEqual(watch.until_end(), [])
        self.assertEqual(client.get(POOLS).status, 404)


class Faults(FakeCase):
    def watch(self, server, client, **query):
        watch = client.watch(PODS, server.store.rv, **query)
        server.wait_watches("pods", 1)
        return watch

    def test_watches_are_cut(self):
        server, client = self.both()
        watch = self.watch(server, client)
        server.faults.cut("pods", "eof")
        self.assertEqual(watch.until_end(), [])
        for how, error in (
            ("close", http.client.IncompleteRead),
            ("rst", ConnectionResetError),
            ("rst-mid-line", ConnectionResetError),
        ):
            watch = self.watch(server, client)
            server.create(pod(how))
            self.assertEqual(watch.take(1), [("ADDED", how)])
            server.faults.cut("pods", how)
            with self.assertRaises(error, msg=how):
                self.assertEqual(watch.response.read(), b"nothing")

    def test_only_the_resource_that_was_meant(self):
        server, client = self.both()
        others = client.watch(SLICES, server.store.rv, timeoutSeconds=2)
        watch = self.watch(server, client)
        server.faults.cut("pods")
        self.assertEqual(watch.until_end(), [])
        self.assertEqual(server.watches("endpointslices"), 1)
        others.close()

    def test_a_stalled_watch_says_nothing_and_then_everything(self):
        server, client = self.both()
        watch = self.watch(server, client)
        server.faults.stall("pods")
        server.create(pod("a"))
        watch.connection.sock.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            watch.line()
        server.faults.stall("pods", False)
        late = client.watch(PODS, server.store.rv - 1)
        self.assertEqual(late.take(1), [("ADDED", "a")])

    def raw_watch(self, server):
        """The bytes of a watch, a list of what each receive brought."""
        sock = socket.create_connection((server.host, server.port), timeout=harness.PATIENCE)
        self.addCleanup(sock.close)
        sock.sendall(f"GET {PODS}?watch=1&resourceVersion={server.store.rv} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        server.wait_watches("pods", 1)
        return sock

    def test_events_in_pieces(self):
        server, _ = self.both()
        server.faults.drip("pods", size=5, interval=0.002)
        sock = self.raw_watch(server)
        server.create(pod("a"))
        text, pieces = b"", 0
        while b"}\n\r\n" not in text:
            text += sock.recv(65536)
            pieces += 1
        self.assertGreater(pieces, 10)
        self.assertIn(b'"type":"ADDED"', text)

    def test_several_events_in_one_piece(self):
        server, _ = self.both()
        server.faults.batch("pods", 0.2)
        sock = self.raw_watch(server)
        while b"\r\n\r\n" not in sock.recv(65536):
            pass
        for name in "abcd":
            server.create(pod(name))
        self.assertEqual(sock.recv(1 << 20).count(b'"type":"ADDED"'), 4)

    def test_lost_deletes_are_found_by_a_list_alone(self):
        server, client = self.both()
        server.create(pod("a"))
        watch = self.watch(server, client)
        server.faults.lose_deletes("pods")
        server.delete("pods", "a", grace=0)
        server.faults.lose_deletes("pods", False)
        server.create(pod("b"))
        self.assertEqual(watch.take(1), [("ADDED", "b")])
        self.assertEqual(client.get(PODS).names(), ["b"])

    def test_added_twice(self):
        server, client = self.both()
        server.faults.duplicate_added("pods")
        watch = self.watch(server, client)
        server.create(pod("a"))
        self.assertEqual(watch.take(2), [("ADDED", "a")] * 2)

    def test_lines_that_nobody_expects(self):
        server, client = self.both()
        watch = self.watch(server, client)
        server.faults.inject("pods", {"type": "SURPRISE", "object": {"metadata": {}}})
        server.faults.inject("pods", '{"type":"MODIFIED","object":{"metadata":[]}}')
        server.faults.inject("pods", b"no json \xff")
        self.assertEqual(watch.take(1), [("SURPRISE", None)])
        self.assertEqual(watch.next(), ("MODIFIED", {"metadata": []}))
        self.assertEqual(watch.line(), b"no json \xff\n")

    def test_short_watches(self):
        server, client = self.both()
        server.faults.short_watches("pods", 2)
        for _ in range(2):
            self.assertEqual(client.watch(PODS, server.store.rv).until_end(), [])
        self.watch(server, client)
        self.assertEqual(server.watches("pods"), 1)

    def test_refusals(self):
        server, client = self.both()
        server.faults.fail("pods", 429, count=1, retry_after=7)
        server.faults.fail("pods", 500, count=2, verbs=["list"])
        limited = client.get(PODS)
        self.assertEqual((limited.status, limited.headers["retry-after"]), (429, "7"))
        self.assertEqual(limited.body["details"]["retryAfterSeconds"], 7)
        self.assertEqual([client.get(PODS).status for _ in range(3)], [500, 500, 200])
        server.faults.fail("*", 503, seconds=0.2)
        self.assertEqual(client.get(SLICES).status, 503)
        wait_for("the server is well again", lambda: client.get(SLICES).status == 200)

    def test_a_request_that_hangs(self):
        server, client = self.both()
        server.faults.hang("pods")
        connection = client.connect()
        connection.request("GET", PODS)
        connection.sock.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            connection.getresponse()
        self.assertEqual(client.get(SLICES).status, 200)
        server.faults.clear()
        self.assertEqual(client.get(PODS).status, 200)

    def test_a_restart_forgets_the_history(self):
        server, client = self.both()
        server.create(pod("a"))
        before = server.store.rv
        watch = self.watch(server, client)
        server.create(pod("b"))
        self.assertEqual(watch.take(1), [("ADDED", "b")])
        server.stop()
        with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
            watch.response.read()
        with self.assertRaises(ConnectionRefusedError):
            client.get(PODS)
        server.forget()
        server.serve()
        self.assertEqual(client.get(PODS).names(), ["a", "b"])
        self.assertEqual([event["type"] for event in client.watch(PODS, before).until_end()], ["ERROR"])

    def test_the_version_goes_back(self):
        server, client = self.both(fresh_wait_s=0.05)
        for name in "abc":
            server.create(pod(name))
        before = server.store.rv
        server.restart(rv=before - 50)
        listed = client.get(PODS)
        self.assertEqual((listed.names(), int(listed.rv)), (["a", "b", "c"], before - 50))
        self.assertEqual(client.get(PODS, resourceVersion=before).status, 504)
        server.create(pod("d"))
        self.assertEqual(client.watch(PODS, listed.rv).take(1), [("ADDED", "d")])

    def test_partitions(self):
        server, client = self.both()
        watch = self.watch(server, client)
        server.partition("blackhole")
        server.create(pod("a"))
        watch.connection.sock.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            watch.line()
        connection = client.connect()
        connection.timeout = 0.2
        with self.assertRaises(TimeoutError):
            connection.request("GET", PODS)
            connection.getresponse()
        server.heal(reset=True)
        server.wait_watches("pods", 0)
        self.assertEqual(client.get(PODS).names(), ["a"])
        server.partition("drop")
        with self.assertRaises((ConnectionResetError, http.client.RemoteDisconnected, BrokenPipeError)):
            client.get(PODS)
        server.partition("refuse")
        with self.assertRaises(ConnectionRefusedError):
            client.get(PODS)
        server.heal()
        self.assertEqual(client.get(PODS).status, 200)


class Access(FakeCase):
    def test_tokens_and_their_rotation(self):
        server = self.server(tokens=["old"])
        nobody, client = self.client(server), self.client(server, token="old")
        self.assertEqual((nobody.get(PODS).status, client.get(PODS).status), (401, 200))
        self.assertEqual(nobody.get("/version").status, 200)
        watch = client.watch(PODS, server.store.rv)
        server.rotate_token("new")
        self.assertEqual(client.get(PODS).body["reason"], "Unauthorized")
        self.assertEqual(self.client(server, token="new").get(PODS).status, 200)
        server.create(pod("a"))  # what runs goes on
        self.assertEqual(watch.take(1), [("ADDED", "a")])

    def test_the_files_of_a_service_account_change_at_once(self):
        server = self.server(tokens=["one"], tls=True)
        account = server.service_account("ns")

        def content(name):
            with open(os.path.join(account.directory, name), encoding="utf-8") as file:
                return file.read()

        self.assertEqual((content("token"), content("namespace")), ("one", "ns"))
        target = os.path.realpath(os.path.join(account.directory, "token"))
        account.write("two", server.certificates.path("ca.crt"), "ns")
        self.assertEqual(content("token"), "two")
        self.assertNotEqual(os.path.realpath(os.path.join(account.directory, "token")), target)
        self.assertIn("BEGIN CERTIFICATE", content("ca.crt"))

    def test_403_for_a_resource_and_verb(self):
        server, client = self.both()
        server.faults.forbid("pods", ["watch"])
        server.faults.forbid("inferencepools/status", ["patch"])
        refused = client.watch(PODS, server.store.rv)
        self.assertEqual((refused.status, refused.body["reason"]), (403, "Forbidden"))
        self.assertEqual(client.get(PODS).status, 200)
        client.post(POOLS, pool())
        self.assertEqual(client.merge(POOLS + "/p/status", {"status": {}}).status, 403)
        self.assertEqual(client.merge(POOLS + "/p", {"metadata": {"labels": {"a": "b"}}}).status, 200)
        server.faults.allow("pods")
        self.assertEqual(client.watch(PODS, server.store.rv).status, 200)

    def test_nothing_but_what_is_granted(self):
        server, client = self.both()
        server.faults.grant_only(
            [
                ("pods", ["get", "list"], "default"),
                ("inferencepools/status.inference.networking.k8s.io", ["patch"], None),
            ]
        )
        self.assertEqual(client.get(PODS).status, 200)
        self.assertEqual(client.get("/api/v1/pods").status, 403)
        self.assertEqual(client.get(SLICES).status, 403)
        self.assertEqual(client.merge(POOLS + "/p/status", {}).status, 404)

    def test_certificates(self):
        server = self.server(tls=True)
        ca = server.certificates.path("ca.crt")
        self.assertEqual(self.client(server, ca=ca).get(PODS).status, 200)
        for name, words in (
            ("wrong-san", "IP address mismatch"),
            ("expired", "expired"),
            ("other-ca", "verify failed"),
        ):
            server.present(name)
            with self.assertRaisesRegex(ssl.SSLCertVerificationError, words):
                self.client(server, ca=ca).get(PODS)
        before = self.client(server, ca=ca)
        server.rotate_ca()
        with self.assertRaises(ssl.SSLCertVerificationError):
            before.get(PODS)
        self.assertEqual(self.client(server, ca=ca).get(PODS).status, 200)

    def test_a_client_certificate_is_as_good_as_a_token(self):
        server = self.server(tls=True, tokens=["secret"])
        ca = server.certificates.path("ca.crt")
        self.assertEqual(self.client(server, ca=ca).get(PODS).status, 401)
        self.assertEqual(self.client(server, ca=ca, client=server.certificates.client_files()).get(PODS).status, 200)

    def test_watches_and_faults_over_tls(self):
        server = self.server(tls=True)
        client = self.client(server, ca=server.certificates.path("ca.crt"))
        watch = client.watch(PODS, server.store.rv)
        server.create(pod("a"))
        self.assertEqual(watch.take(1), [("ADDED", "a")])
        server.faults.cut("pods", "rst")
        with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
            watch.response.read()
        client.watch(PODS, server.store.rv)
        server.wait_watches("pods", 1)
        server.stop()
        server.wait_watches("pods", 0)

    def test_discovery_follows_the_crds(self):
        server, client = self.both(crds=[])
        llmd = "/apis/llm-d.ai/v1alpha2"
        self.assertEqual((client.get(llmd).status, client.get(REWRITES).status), (404, 404))
        self.assertEqual(client.get(llmd).body, "404 page not found\n")
        self.assertIn("v1", client.get("/api").body["versions"])
        server.install_crd("inferencemodelrewrites.llm-d.ai")
        names = [one["name"] for one in client.get(llmd).body["resources"]]
        self.assertEqual(names, ["inferencemodelrewrites", "inferencemodelrewrites/status"])
        self.assertIn("llm-d.ai", [group["name"] for group in client.get("/apis").body["groups"]])
        self.assertEqual(client.get("/apis/llm-d.ai").body["preferredVersion"]["version"], "v1alpha2")
        self.assertEqual(client.get(REWRITES).body["items"], [])

    def test_a_crd_of_somebody_else_can_be_applied(self):
        _, client = self.both()
        schema = {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        }
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        names = {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"}
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.x.io"},
        }
        crd["spec"] = {"group": "x.io", "names": names, "scope": "Namespaced", "versions": [version]}
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self.assertEqual(client.post(crds, crd).status, 201)
        thing = {"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": "large"}}
        things = "/apis/x.io/v1/namespaces/default/things"
        self.assertEqual(client.post(things, thing).status, 422)
        thing["spec"] = {"size": 3, "unknown": 1}
        self.assertEqual(client.post(things, thing).body["spec"], {"size": 3})


if __name__ == "__main__":
    harness.main()
