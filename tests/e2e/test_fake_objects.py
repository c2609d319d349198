"""The fake Kubernetes API server itself: what it stores, what it refuses, server-side apply."""

import harness
from kube_client import PODS, POOLS, REWRITES, SLICES, FakeCase, accepted, parents, pod, pool


class Storage(FakeCase):
    def test_what_the_server_sets(self):
        _, client = self.both()
        made = client.post(POOLS, {**pool(), "status": parents(accepted())})
        meta = made.body["metadata"]
        self.assertEqual((made.status, meta["generation"], meta["namespace"]), (201, 1, "default"))
        self.assertTrue(meta["uid"] and meta["creationTimestamp"])
        self.assertNotIn("status", made.body)
        self.assertEqual(client.post(POOLS, pool()).body["reason"], "AlreadyExists")
        self.assertEqual(client.post("/api/v1/namespaces/nowhere/pods", pod("a")).status, 400)
        lost = pod("a")
        lost["metadata"]["namespace"] = "nowhere"
        self.assertEqual(client.post("/api/v1/namespaces/nowhere/pods", lost).status, 404)

    def test_generation_counts_changes_of_the_spec(self):
        _, client = self.both()
        client.post(POOLS, pool())
        changed = client.merge(POOLS + "/p", {"spec": {"targetPorts": [{"number": 9000}]}}).body
        self.assertEqual(changed["metadata"]["generation"], 2)
        same = client.merge(POOLS + "/p", {"spec": {"targetPorts": [{"number": 9000}]}}).body
        self.assertEqual(same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"])
        labelled = client.merge(POOLS + "/p", {"metadata": {"labels": {"a": "b"}}}).body
        self.assertEqual(labelled["metadata"]["generation"], 2)
        with_status = client.merge(POOLS + "/p/status", {"status": parents(accepted())}).body
        self.assertEqual(with_status["metadata"]["generation"], 2)

    def test_status_is_written_through_its_subresource_alone(self):
        _, client = self.both()
        made = client.post(POOLS, pool()).body
        self.assertNotIn("status", client.merge(POOLS + "/p", {"status": parents(accepted())}).body)
        both = {**made, "status": parents(accepted()), "spec": {**made["spec"], "appProtocol": "http"}}
        after = client.put(POOLS + "/p/status", both).body
        self.assertEqual(after["status"]["parents"][0]["parentRef"]["kind"], "Gateway")
        self.assertNotIn("appProtocol", after["spec"])
        self.assertIn("status", client.merge(POOLS + "/p", {"spec": {"appProtocol": "http"}}).body)

    def test_old_versions_conflict(self):
        _, client = self.both()
        made = client.post(POOLS, pool()).body
        client.merge(POOLS + "/p", {"metadata": {"labels": {"a": "b"}}})
        self.assertEqual(client.put(POOLS + "/p", made).body["reason"], "Conflict")
        stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"appProtocol": "http"}}
        self.assertEqual(client.merge(POOLS + "/p", stale).status, 409)
        del made["metadata"]["resourceVersion"]
        self.assertEqual(client.put(POOLS + "/p", made).status, 422)

    def test_pods_end_slowly(self):
        server, client = self.both()
        server.create(pod("a", node="n", phase="Running"))
        watch = client.watch(PODS, server.store.rv)
        gone = client.delete(PODS + "/a", gracePeriodSeconds=20).body
        self.assertEqual(gone["metadata"]["deletionGracePeriodSeconds"], 20)
        kind, marked = watch.next()
        self.assertEqual((kind, "deletionTimestamp" in marked["metadata"]), ("MODIFIED", True))
        self.assertEqual(client.get(PODS + "/a").status, 200)
        client.delete(PODS + "/a", {"gracePeriodSeconds": 0})
        self.assertEqual(watch.take(1), [("DELETED", "a")])
        self.assertEqual(client.get(PODS + "/a").status, 404)
        server.create(pod("waiting"))  # it runs nowhere yet: nothing to end
        client.delete(PODS + "/waiting")
        self.assertEqual(watch.take(2), [("ADDED", "waiting"), ("DELETED", "waiting")])

    def test_preconditions_and_finalizers(self):
        server, client = self.both()
        made = pool()
        made["metadata"]["finalizers"] = ["example.com/hold"]
        made = client.post(POOLS, made).body
        self.assertEqual(client.delete(POOLS + "/p", {"preconditions": {"uid": "other"}}).status, 409)
        client.delete(POOLS + "/p", {"preconditions": {"uid": made["metadata"]["uid"]}})
        self.assertIn("deletionTimestamp", server.get("inferencepools", "p")["metadata"])
        client.merge(POOLS + "/p", {"metadata": {"finalizers": None}})
        self.assertIsNone(server.get("inferencepools", "p"))

    def test_a_name_comes_again_with_another_uid(self):
        server, client = self.both()
        first = server.create(pod("a"))["metadata"]
        watch = client.watch(PODS, server.store.rv)
        server.delete("pods", "a", grace=0)
        server.create(pod("a"))
        self.assertEqual(watch.take(1), [("DELETED", "a")])
        kind, second = watch.next()
        self.assertEqual((kind, second["metadata"]["name"]), ("ADDED", "a"))
        self.assertNotEqual(second["metadata"]["uid"], first["uid"])

    def test_events_have_two_faces(self):
        _, client = self.both()
        new = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "e"},
            "reason": "Because",
            "type": "Normal",
        }
        path = "/apis/events.k8s.io/v1/namespaces/default/events"
        self.assertEqual(client.post(path, new).status, 422)
        new.update({"eventTime": "2026-01-01T00:00:00.000000Z", "action": "Route", "reportingController": "penstock"})
        new.update(
            {
                "reportingInstance": "penstock-0",
                "note": "hello",
                "regarding": {"kind": "Pod", "name": "a", "namespace": "default"},
            }
        )
        self.assertEqual(client.post(path, new).status, 201)
        core = client.get("/api/v1/namespaces/default/events/e").body
        self.assertEqual((core["message"], core["involvedObject"]["name"], core["apiVersion"]), ("hello", "a", "v1"))
        self.assertEqual(client.get(path).body["items"][0]["note"], "hello")
        old = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "old"},
            "involvedObject": {"namespace": "elsewhere"},
        }
        self.assertEqual(client.post("/api/v1/namespaces/default/events", old).status, 422)

    def test_leases(self):
        _, client = self.both()
        path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}
        lease["spec"] = {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
        made = client.post(path, lease).body
        self.assertEqual(client.put(path + "/l", lease).status, 422)  # without a version
        made["spec"]["holderIdentity"] = "b"
        self.assertEqual(client.put(path + "/l", made).status, 200)
        self.assertEqual(client.put(path + "/l", made).status, 409)

    def test_patch_types(self):
        _, client = self.both()
        client.post(PODS, pod("a"))
        container = {
            "spec": {
                "containers": [{"name": "vllm", "image": "new"}],
                "$setElementOrder/containers": [{"name": "vllm"}],
            }
        }
        strategic = "application/strategic-merge-patch+json"
        merged = client.request("PATCH", PODS + "/a", container, content_type=strategic).body
        self.assertEqual(merged["spec"]["containers"], [{"name": "vllm", "image": "new"}])
        self.assertNotIn("$setElementOrder/containers", merged["spec"])
        operations = [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]
        patched = client.request("PATCH", PODS + "/a", operations, content_type="application/json-patch+json").body
        self.assertEqual(patched["metadata"]["labels"], {"a": "b"})
        client.post(POOLS, pool())
        self.assertEqual(client.request("PATCH", POOLS + "/p", {}, content_type=strategic).status, 415)

    def test_scale(self):
        server, client = self.both()
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        server.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
        path = "/apis/apps/v1/namespaces/default/deployments/d"
        self.assertEqual(client.get(path + "/scale").body["spec"]["replicas"], 1)
        client.merge(path + "/scale", {"spec": {"replicas": 3}})
        after = client.get(path).body
        self.assertEqual((after["spec"]["replicas"], after["metadata"]["generation"]), (3, 2))


class Validation(FakeCase):
    def causes(self, reply):
        self.assertEqual(reply.status, 422, reply)
        return {(cause["field"], cause["reason"]) for cause in reply.body["details"]["causes"]}

    def test_pools(self):
        _, client = self.both()
        for changes, field in (
            ({"ports": ()}, "spec.targetPorts"),
            ({"ports": (0,)}, "spec.targetPorts[0].number"),
            ({"ports": tuple(range(1, 10))}, "spec.targetPorts"),
            ({"ports": (8000, 8000)}, "spec.targetPorts"),
            ({"selector": {}}, "spec.selector.matchLabels"),
            ({"appProtocol": "gopher"}, "spec.appProtocol"),
            ({"endpointPickerRef": {"name": "epp"}}, "spec.endpointPickerRef"),
        ):
            found = self.causes(client.post(POOLS, pool(**changes)))
            self.assertEqual({name for name, _ in found}, {field})
        reply = client.post(POOLS, pool(endpointPickerRef={"name": "epp", "port": {"number": 9002}}, surprise=1))
        self.assertEqual(reply.status, 201)
        self.assertEqual(reply.body["spec"]["endpointPickerRef"]["failureMode"], "FailClose")
        self.assertNotIn("surprise", reply.body["spec"])

    def test_an_applied_field_that_the_definition_has_not_is_refused(self):
        """With 500, as a real one does; other patches lose the field silently."""
        _, client = self.both()
        self.assertEqual(client.post(POOLS, pool()).status, 201)
        head = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "p"}}
        reply = client.apply(POOLS + "/p/status", {**head, "status": {"parents": [{"new": 1}]}})
        self.assertEqual(reply.status, 500)
        self.assertIn(".status.parents[0].new: field not declared in schema", reply.body["message"])
        self.assertEqual(client.merge(POOLS + "/p/status", {"status": {"new": 1}}).status, 200)
        self.assertNotIn("new", client.get(POOLS + "/p").body.get("status") or {})

    def test_status_of_pools(self):
        _, client = self.both()
        client.post(POOLS, pool())

        def write(status):
            return client.merge(POOLS + "/p/status", {"status": status})

        without_time = accepted()
        del without_time["lastTransitionTime"]
        first = "status.parents[0]."
        for status, cause in (
            (parents(without_time), (first + "conditions[0].lastTransitionTime", "FieldValueRequired")),
            (
                parents(accepted(lastTransitionTime="now")),
                (first + "conditions[0].lastTransitionTime", "FieldValueInvalid"),
            ),
            (parents(accepted("Maybe")), (first + "conditions[0].status", "FieldValueNotSupported")),
            (parents(accepted(reason="two words")), (first + "conditions[0].reason", "FieldValueInvalid")),
            (parents(accepted(), accepted()), (first + "conditions[1]", "FieldValueDuplicate")),
            (parents(*[accepted(type=f"T{i}") for i in range(9)]), (first + "conditions", "FieldValueTooMany")),
            (parents(accepted(), controllerName="penstock"), (first + "controllerName", "FieldValueInvalid")),
            (parents(accepted(), name=""), (first + "parentRef.name", "FieldValueInvalid")),
            ({"parents": [{"conditions": []}]}, (first + "parentRef", "FieldValueRequired")),
            ({"parents": parents()["parents"] * 33}, ("status.parents", "FieldValueTooMany")),
        ):
            self.assertIn(cause, self.causes(write(status)))
        self.assertEqual(write(parents(accepted(), controllerName="penstock.dev/gateway")).status, 200)

    def test_rewrites_and_objectives(self):
        _, client = self.both()
        rewrite = {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": "r"}}
        targets = [{"modelRewrite": "a", "weight": 1}, {"modelRewrite": "b"}]
        rewrite["spec"] = {
            "poolRef": {"name": "p"},
            "rules": [{"matches": [{"model": {"value": "m"}}], "targets": targets}],
        }
        self.assertIn(("spec.rules[0].targets", "FieldValueInvalid"), self.causes(client.post(REWRITES, rewrite)))
        targets[1]["weight"] = 0
        self.assertIn(
            ("spec.rules[0].targets[1].weight", "FieldValueInvalid"), self.causes(client.post(REWRITES, rewrite))
        )
        targets[1]["weight"] = 3
        made = client.post(REWRITES, rewrite)
        self.assertEqual(made.status, 201)
        self.assertEqual(made.body["spec"]["poolRef"]["kind"], "InferencePool")
        self.assertEqual(made.body["spec"]["rules"][0]["matches"][0]["model"]["type"], "Exact")
        objectives = "/apis/inference.networking.x-k8s.io/v1alpha2/namespaces/default/inferenceobjectives"
        objective = {"metadata": {"name": "o"}, "spec": {"priority": "high"}}
        found = self.causes(client.post(objectives, objective))
        self.assertEqual(found, {("spec.poolRef", "FieldValueRequired"), ("spec.priority", "FieldValueTypeInvalid")})

    def test_routes_and_gateways(self):
        _, client = self.both()
        base = "/apis/gateway.networking.k8s.io/v1"
        gateway = {"metadata": {"name": "g"}, "spec": {"gatewayClassName": "penstock", "listeners": []}}
        self.causes(client.post(base + "/namespaces/default/gateways", gateway))
        gateway["spec"]["listeners"] = [{"name": "http", "port": 80, "protocol": "HTTP"}]
        self.assertEqual(client.post(base + "/namespaces/default/gateways", gateway).status, 201)
        listener = {"name": "http", "attachedRoutes": 1, "conditions": [accepted()]}
        status = base + "/namespaces/default/gateways/g/status"
        self.assertEqual(client.merge(status, {"status": {"listeners": [listener]}}).status, 200)
        self.causes(client.merge(status, {"status": {"listeners": [{"name": "http"}]}}))
        routes = base + "/namespaces/default/httproutes"
        ref = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "p"}
        route = {
            "metadata": {"name": "r"},
            "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [ref, {"name": "svc"}]}]},
        }
        self.causes(client.post(routes, route))
        route["spec"]["rules"][0]["backendRefs"][1]["port"] = 80
        made = client.post(routes, route).body
        self.assertEqual(made["spec"]["rules"][0]["matches"], [{"path": {"type": "PathPrefix", "value": "/"}}])
        self.assertEqual(made["spec"]["rules"][0]["backendRefs"][0]["weight"], 1)
        parent = {"parentRef": {"name": "g"}, "conditions": [accepted()]}
        self.causes(client.merge(routes + "/r/status", {"status": {"parents": [parent]}}))
        parent["controllerName"] = "penstock.dev/gateway"
        self.assertEqual(client.merge(routes + "/r/status", {"status": {"parents": [parent]}}).status, 200)
        self.assertEqual(client.get(base + "/gatewayclasses").body["items"], [])

    def test_endpoint_slices(self):
        _, client = self.both()
        body = {
            "metadata": {"name": "s"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["nowhere"]}],
            "ports": None,
        }
        self.causes(client.post(SLICES, body))
        body["endpoints"] = [{"addresses": ["127.0.0.1"]}]
        self.assertEqual(client.post(SLICES, body).status, 201)


class Apply(FakeCase):
    def config(self, *conditions, **more):
        body = {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", **more}
        return {**body, "status": {"conditions": list(conditions)}} if conditions else body

    def rewrite(self, client, name="r", **meta):
        spec = {"poolRef": {"name": "p"}, "rules": []}
        return client.apply(f"{REWRITES}/{name}", self.config(metadata={"name": name, **meta}, spec=spec))

    def managers(self, obj):
        return {
            (e["manager"], e["operation"], e.get("subresource", "")) for e in obj["metadata"].get("managedFields", [])
        }

    def test_it_creates_and_changes(self):
        _, client = self.both()
        self.assertEqual(self.rewrite(client, labels={"a": "b", "c": "d"}).status, 201)
        again = self.rewrite(client, labels={"a": "b"})
        self.assertEqual((again.status, again.body["metadata"]["labels"]), (200, {"a": "b"}))
        same = self.rewrite(client, labels={"a": "b"})
        self.assertEqual(same.rv, again.rv)
        self.assertEqual(self.managers(same.body), {("test", "Apply", "")})

    def test_conditions_are_merged_by_their_type(self):
        _, client = self.both()
        self.rewrite(client)
        path = REWRITES + "/r/status"
        client.apply(path, self.config(accepted(type="Other")), manager="somebody")
        both = client.apply(path, self.config(accepted(), accepted(type="More")), manager="penstock").body
        self.assertEqual({c["type"] for c in both["status"]["conditions"]}, {"Other", "Accepted", "More"})
        fewer = client.apply(path, self.config(accepted("False")), manager="penstock").body
        self.assertEqual(
            {(c["type"], c["status"]) for c in fewer["status"]["conditions"]},
            {("Other", "True"), ("Accepted", "False")},
        )
        self.assertEqual(fewer["metadata"]["generation"], 1)

    def test_what_belongs_to_another_is_a_conflict(self):
        _, client = self.both()
        self.rewrite(client)
        path = REWRITES + "/r/status"
        client.apply(path, self.config(accepted()), manager="somebody")
        self.assertEqual(client.apply(path, self.config(accepted()), manager="penstock").status, 200)  # agrees
        refused = client.apply(path, self.config(accepted("False")), manager="penstock")
        self.assertEqual(
            (refused.status, refused.body["details"]["causes"][0]["reason"]), (409, "FieldManagerConflict")
        )
        forced = client.apply(path, self.config(accepted("False")), manager="penstock", force="true").body
        self.assertEqual(forced["status"]["conditions"][0]["status"], "False")
        self.assertEqual(client.apply(path, self.config(accepted()), manager="somebody").status, 409)

    def test_an_update_takes_fields_over(self):
        _, client = self.both()
        self.rewrite(client, labels={"a": "b"})
        client.merge(REWRITES + "/r", {"metadata": {"labels": {"a": "changed"}}}, fieldManager="editor")
        self.assertEqual(self.rewrite(client, labels={"a": "b"}).status, 409)

    def test_pool_parents_are_one_value(self):
        _, client = self.both()
        client.post(POOLS, pool())
        config = {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "status": parents(accepted()),
        }
        self.assertEqual(client.apply(POOLS + "/p/status", config, manager="a").status, 200)
        config["status"] = parents(accepted(), name="other")
        self.assertEqual(client.apply(POOLS + "/p/status", config, manager="b").status, 409)

    def test_what_an_applied_object_must_be(self):
        _, client = self.both()
        self.assertEqual(client.apply(REWRITES + "/none/status", self.config(accepted())).status, 404)
        self.rewrite(client)
        self.assertEqual(client.apply(REWRITES + "/r/status", {"status": {}}).status, 400)
        self.assertEqual(client.apply(REWRITES + "/r/status", self.config(accepted()), manager="").status, 422)
        stale = self.config(accepted(), metadata={"resourceVersion": "1"})
        self.assertEqual(client.apply(REWRITES + "/r/status", stale).status, 409)
        bad = client.apply(REWRITES + "/r/status", self.config(accepted("Maybe")))
        self.assertEqual(bad.status, 422)


if __name__ == "__main__":
    harness.main()
