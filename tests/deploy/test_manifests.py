"""The manifests as helm and kustomize render them: of the right shape, and each name in them leads somewhere."""

import os
import re
import subprocess
import sys
import unittest

import yaml

import deploy_files as files
import kube_schema

SETS = files.rendered_sets()
HELM = {name: objects for name, objects in SETS.items() if "/helm/" in name}
READ = {"get", "list", "watch"}
STATUS = {"get", "patch", "update"}
# What the writer needs besides the status of what is read.
EVENTS = (("", "events"), ("events.k8s.io", "events"))
STATUS_NOT_WRITTEN = {"pods", "endpointslices", "services", "namespaces", "referencegrants", "secrets", "configmaps"}


def for_each_set(test):
    def run(self):
        self.assertGreaterEqual(len(SETS), 7)
        for name, objects in SETS.items():
            with self.subTest(name):
                test(self, objects)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def read_resources():
    """(group, resource, namespaced) of everything that the program reads, from its own table."""
    source = files.text("src/objects/kinds.cc")
    constants = dict(re.findall(r'constexpr std::string_view (\w+) = "([^"]*)";', source))
    rows = re.findall(r'\{Kind::\w+, ("[^"]*"|\w+), "v\w+", "(\w+)", "\w+", (true|false)\}', source)
    return [(g.strip('"') if g.startswith('"') else constants[g], name, flag == "true") for g, name, flag in rows]


def granted(objects, kinds):
    found = set()
    for role in files.of_kind(objects, *kinds):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                found |= {(group, resource, verb) for resource in rule["resources"] for verb in rule["verbs"]}
    return found


class Rendering(unittest.TestCase):
    def test_the_golden_files_are_what_is_rendered(self):
        done = subprocess.run(
            [sys.executable, files.path("scripts/render"), "--check"], capture_output=True, text=True, check=False
        )
        print(done.stdout, end="")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_yaml_and_json_of_the_folder_is_well_formed(self):
        count = 0
        for folder, _, names in os.walk(files.path("deploy")):
            for name in names:
                if name.endswith((".yaml", ".json")) and "templates" not in folder:
                    count += 1
                    with self.subTest(os.path.join(folder, name)):
                        self.assertTrue(
                            files.documents(os.path.relpath(os.path.join(folder, name), files.TOP))
                            or name == "default.values.yaml"
                        )
        self.assertGreater(count, 25)

    def test_values_of_the_chart_and_their_schema_have_the_same_keys(self):
        def compare(values, schema, where):
            properties = schema.get("properties")
            if not isinstance(values, dict) or not properties or schema.get("additionalProperties") is not False:
                return
            known = set(properties) - ({"global"} if where == "" else set())
            self.assertEqual(set(values), known, where)
            for key in values:
                compare(values[key], properties[key], f"{where}.{key}")

        schema = files.documents("deploy/helm/penstock/values.schema.json")[0]
        compare(files.documents("deploy/helm/penstock/values.yaml")[0], schema, "")
        self.assertIs(schema["additionalProperties"], False)


class Shape(unittest.TestCase):
    @for_each_set
    def test_fields_and_types(self, objects):
        problems = [p for o in objects for p in kube_schema.manifest_problems(o)]
        self.assertEqual(problems, [])

    def test_the_files_that_no_kustomization_names(self):
        folder = "deploy/kustomize/overlays/kind/"
        server = files.documents(folder + "vllm-sim.yaml")[0]
        pool = files.documents(folder + "inferencepool.yaml")[0]
        for manifest in (server, pool):
            self.assertEqual(kube_schema.manifest_problems(manifest), [])
        self.assertTrue(
            files.selects(files.pod_of(server)["metadata"]["labels"], pool["spec"]["selector"]["matchLabels"])
        )
        ports = {p["containerPort"] for p in files.container_of(server)["ports"]}
        self.assertEqual({t["number"] for t in pool["spec"]["targetPorts"]}, ports)
        kind = SETS["deploy/kustomize/golden/kind.yaml"]
        gateway = files.container_of(files.one(kind, "Deployment"))
        self.assertEqual(gateway["image"], files.container_of(server)["image"])
        self.assertIn({"name": "POOL_NAME", "value": pool["metadata"]["name"]}, gateway["env"])

    def test_the_schema_refuses(self):
        """The checker itself: each of these mistakes must be seen."""
        good = yaml.safe_load(yaml.safe_dump(files.one(HELM["deploy/helm/golden/default.yaml"], "Deployment")))
        self.assertEqual(kube_schema.manifest_problems(good), [])
        mistakes = {
            "terminationGracePeriodSecond": lambda d: d["spec"]["template"]["spec"].update(
                terminationGracePeriodSecond=1
            ),
            "is no whole number": lambda d: d["spec"].update(replicas="2"),
            "selector is missing": lambda d: d["spec"].pop("selector"),
            "is no dns name": lambda d: d["metadata"].update(name="Not_A_Name"),
            "is none of": lambda d: files.container_of(d).update(imagePullPolicy="Sometimes"),
            "is no quantity": lambda d: files.container_of(d)["resources"]["limits"].update(cpu="two"),
            "is no list": lambda d: files.container_of(d).update(args="serve"),
            "is not known": lambda d: d.update(apiVersion="apps/v1beta1"),
        }
        for expected, damage in mistakes.items():
            bad = yaml.safe_load(yaml.safe_dump(good))
            damage(bad)
            self.assertIn(expected, "\n".join(kube_schema.manifest_problems(bad)))

    @for_each_set
    def test_no_two_objects_share_a_name(self, objects):
        names = [(o["apiVersion"], o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
        self.assertEqual(len(names), len(set(names)), names)


class References(unittest.TestCase):
    @for_each_set
    def test_selectors_choose_our_pods(self, objects):
        deployment = files.one(objects, "Deployment")
        labels = files.pod_of(deployment)["metadata"]["labels"]
        selectors = [deployment["spec"]["selector"]["matchLabels"]]
        selectors += [o["spec"]["selector"] for o in files.of_kind(objects, "Service")]
        selectors += [
            o["spec"]["selector"]["matchLabels"] for o in files.of_kind(objects, "PodDisruptionBudget", "PodMonitor")
        ]
        selectors += [o["spec"]["podSelector"]["matchLabels"] for o in files.of_kind(objects, "NetworkPolicy")]
        spread = files.pod_of(deployment)["spec"]["topologySpreadConstraints"]
        self.assertGreaterEqual(len(spread), 2)
        selectors += [c["labelSelector"]["matchLabels"] for c in spread]
        self.assertGreaterEqual(len(selectors), 4)
        for selector in selectors:
            self.assertTrue(files.selects(labels, selector), selector)
        for test_pod in files.of_kind(objects, "Pod"):
            self.assertFalse(
                files.selects(test_pod["metadata"]["labels"], selectors[0]), "the test pod would get traffic"
            )

    @for_each_set
    def test_service_monitors_choose_exactly_the_metrics_service(self, objects):
        for monitor in files.of_kind(objects, "ServiceMonitor"):
            wanted = monitor["spec"]["selector"]["matchLabels"]
            chosen = [s for s in files.of_kind(objects, "Service") if files.selects(s["metadata"]["labels"], wanted)]
            self.assertEqual([s["metadata"]["name"].endswith("-metrics") for s in chosen], [True])
            ports = {p["name"] for p in chosen[0]["spec"]["ports"]}
            self.assertLessEqual({e["port"] for e in monitor["spec"]["endpoints"]}, ports)

    @for_each_set
    def test_ports_by_name_exist(self, objects):
        container = files.container_of(files.one(objects, "Deployment"))
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        https = {"https": 8443} if "--listen-tls=:8443" in container["args"] else {}
        self.assertEqual(ports, {"http": 8080, "metrics": 9090, **https})
        for service in files.of_kind(objects, "Service"):
            for port in service["spec"]["ports"]:
                self.assertIn(port["targetPort"], ports)
        for monitor in files.of_kind(objects, "PodMonitor"):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                self.assertEqual(endpoint["port"], "metrics")
        for policy in files.of_kind(objects, "NetworkPolicy"):
            self.assertEqual({p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]}, set(ports))

    @for_each_set
    def test_the_pod_names_what_exists(self, objects):
        deployment = files.one(objects, "Deployment")
        spec, container = files.pod_of(deployment)["spec"], files.container_of(deployment)
        volumes = {v["name"] for v in spec["volumes"]}
        self.assertEqual({m["name"] for m in container["volumeMounts"]}, volumes)
        mount = next(m for m in container["volumeMounts"] if m["name"] == "config")
        self.assertIn(f"--config={mount['mountPath']}/penstock.yaml", container["args"])
        self.assertTrue(files.configuration_of(objects))
        defined = {e["name"] for e in container["env"]}
        used = set(re.findall(r"\$\((\w+)\)", " ".join(container["args"])))
        self.assertLessEqual(used, defined)
        if files.of_kind(objects, "ServiceAccount"):
            self.assertEqual(files.one(objects, "ServiceAccount")["metadata"]["name"], spec["serviceAccountName"])

    @for_each_set
    def test_scaling_names_the_deployment_and_nobody_else_sets_replicas(self, objects):
        deployment = files.one(objects, "Deployment")
        scalers = files.of_kind(objects, "HorizontalPodAutoscaler")
        self.assertEqual("replicas" in deployment["spec"], not scalers)
        for scaler in scalers:
            self.assertEqual(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"])
            self.assertLess(scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"])

    def test_one_replica_runs_where_nobody_asks_for_more(self):
        """Two that know nothing of each other choose worse than one."""
        for name in ("deploy/helm/golden/default.yaml", "deploy/helm/golden/guide.yaml", "deploy/kustomize/golden/base.yaml",
                     "deploy/kustomize/golden/kind.yaml"):
            self.assertEqual(files.one(SETS[name], "Deployment")["spec"]["replicas"], 1, name)
        for name, objects in SETS.items():
            for scaler in files.of_kind(objects, "HorizontalPodAutoscaler"):
                self.assertEqual(scaler["spec"]["minReplicas"], 1, name)

    @for_each_set
    def test_a_disruption_budget_is_made_where_more_than_one_replica_may_run(self, objects):
        most = [s["spec"]["maxReplicas"] for s in files.of_kind(objects, "HorizontalPodAutoscaler")]
        most.append(files.one(objects, "Deployment")["spec"].get("replicas", 1))
        self.assertEqual(bool(files.of_kind(objects, "PodDisruptionBudget")), max(most) > 1)

    def test_autoscalers_ask_for_custom_metrics_only_where_told(self):
        """One metric that nobody serves keeps an autoscaler from ever scaling down."""
        kinds = {
            name: [m["type"] for o in files.of_kind(objects, "HorizontalPodAutoscaler") for m in o["spec"]["metrics"]]
            for name, objects in SETS.items()
        }
        self.assertEqual(kinds.pop("deploy/helm/golden/full.yaml"), ["Resource", "Pods"])
        self.assertEqual(kinds["deploy/kustomize/golden/production.yaml"], ["Resource"])
        self.assertLessEqual({kind for found in kinds.values() for kind in found}, {"Resource"})

    @for_each_set
    def test_roles_are_bound_to_the_account_of_the_pod(self, objects):
        deployment = files.one(objects, "Deployment")
        account = files.pod_of(deployment)["spec"]["serviceAccountName"]
        roles = {
            (r["kind"], r["metadata"].get("namespace"), r["metadata"]["name"])
            for r in files.of_kind(objects, "Role", "ClusterRole")
        }
        bindings = files.of_kind(objects, "RoleBinding", "ClusterRoleBinding")
        bound = {(b["roleRef"]["kind"], b["metadata"].get("namespace"), b["roleRef"]["name"]) for b in bindings}
        self.assertEqual(roles, bound)
        for binding in bindings:
            self.assertEqual(
                [(s["name"], s["namespace"]) for s in binding["subjects"]],
                [(account, deployment["metadata"]["namespace"])],
            )

    def test_the_pool_that_is_made_is_the_pool_that_is_served(self):
        objects = HELM["deploy/helm/golden/full.yaml"]
        pool = files.one(objects, "InferencePool")
        self.assertIn(
            f"--pool={pool['metadata']['name']}", files.container_of(files.one(objects, "Deployment"))["args"]
        )
        owned = files.of_kind(objects, "InferenceObjective", "InferenceModelRewrite")
        self.assertEqual(len(owned), 3)
        for thing in owned:
            self.assertEqual(thing["spec"]["poolRef"]["name"], pool["metadata"]["name"])
            self.assertEqual(thing["metadata"]["namespace"], pool["metadata"]["namespace"])
        self.assertEqual({thing["apiVersion"] for thing in owned}, {"llm-d.ai/v1alpha2"})
        ports = {t["number"] for t in pool["spec"]["targetPorts"]}
        egress = files.one(objects, "NetworkPolicy")["spec"]["egress"]
        self.assertLessEqual(ports, {p["port"] for rule in egress for p in rule["ports"]})

    def test_objectives_and_rewrites_are_of_the_api_that_is_there(self):
        owned = files.of_kind(
            HELM["deploy/helm/golden/guide.yaml"], "InferenceObjective", "InferenceModelRewrite"
        )
        self.assertEqual(len(owned), 2)
        self.assertEqual({thing["apiVersion"] for thing in owned}, {"inference.networking.x-k8s.io/v1alpha2"})

    def test_the_network_policy_lets_out_to_where_kv_events_are_published(self):
        def ports(name):
            egress = files.one(HELM[f"deploy/helm/golden/{name}.yaml"], "NetworkPolicy")["spec"]["egress"]
            return [(p["port"], p.get("endPort", p["port"])) for p in egress[0]["ports"]]

        # Told, and as the configuration has it: for each of the two ports two ranks, from the program's own default on.
        self.assertEqual(ports("full"), [(8000, 8000), (5557, 5557), (5558, 5558)])
        default = re.search(r"`kv_events.port` \| whole number \| `(\d+)`", files.text("docs/CONFIGURATION.md"))
        first = int(default[1])
        self.assertEqual(ports("selector"), [(8000, 8000), (8001, 8001), (first, first + 3), (5600, 5603)])


class Permissions(unittest.TestCase):
    """Roles against the program's own table of what it reads."""

    GATEWAY_API = ("deploy/helm/golden/full.yaml", "deploy/helm/golden/guide.yaml", "deploy/helm/golden/https.yaml")
    # Only by name, unless all are asked for.
    NAMED = {
        "deploy/helm/golden/full.yaml": {"secrets": ["gateway-cert"], "configmaps": ["model-ca"]},
        "deploy/helm/golden/https.yaml": {"secrets": None, "configmaps": None},
    }

    def test_all_that_is_read_is_granted(self):
        table = read_resources()
        self.assertGreaterEqual(len(table), 14)
        for name, objects in SETS.items():
            if not files.of_kind(objects, "Role", "ClusterRole"):
                continue
            anywhere = granted(objects, ("Role", "ClusterRole"))
            gateway_api = name in self.GATEWAY_API
            for group, resource, namespaced in table:
                if resource in ("secrets", "configmaps") and name not in self.NAMED:
                    self.assertFalse([g for g in anywhere if g[1] == resource], name)
                    continue
                if not gateway_api and (group == "gateway.networking.k8s.io" or resource == "namespaces"):
                    self.assertFalse([g for g in anywhere if g[:2] == (group, resource)], name)
                    continue
                with self.subTest(name, resource=f"{group}/{resource}"):
                    have = anywhere if namespaced else granted(objects, ("ClusterRole",))
                    self.assertLessEqual({(group, resource, verb) for verb in READ}, have)

    def test_secrets_are_read_by_the_names_that_are_told(self):
        for name, named in self.NAMED.items():
            for resource, names in named.items():
                rules = [r for role in files.of_kind(SETS[name], "Role", "ClusterRole") for r in role["rules"]]
                rules = [rule for rule in rules if resource in rule["resources"]]
                self.assertEqual([rule.get("resourceNames") for rule in rules], [names], name)
                self.assertEqual(rules[0]["resources"], [resource])

    def test_all_that_is_written_is_granted_and_nothing_where_writing_is_off(self):
        written = {(g, f"{r}/status") for g, r, _ in read_resources() if r not in STATUS_NOT_WRITTEN}
        # The legacy pool's status has another shape and is left alone.
        written -= {("inference.networking.x-k8s.io", "inferencepools/status")}
        for name, objects in SETS.items():
            have = granted(objects, ("Role", "ClusterRole"))
            writes = {g for g in have if g[2] not in READ}
            deployment = files.container_of(files.one(objects, "Deployment"))
            if "--kubernetes" not in deployment["args"] or "--kube-write=false" in deployment["args"]:
                self.assertEqual(writes, set(), name)
                continue
            for group, resource in written:
                if group == "gateway.networking.k8s.io" and name not in self.GATEWAY_API:
                    continue
                with self.subTest(name, resource=f"{group}/{resource}"):
                    self.assertLessEqual({(group, resource, verb) for verb in STATUS}, have)
            for group, resource in EVENTS:
                self.assertLessEqual({(group, resource, "create"), (group, resource, "patch")}, have)

    def test_events_about_what_has_no_namespace_may_be_written(self):
        """They belong to "default"."""
        for name in self.GATEWAY_API:
            objects = SETS[name]
            reach = [role for role in files.of_kind(objects, "Role") if role["metadata"].get("namespace") == "default"]
            reach += files.of_kind(objects, "ClusterRole")
            rules = [rule for role in reach for rule in role["rules"] if "events" in rule["resources"]]
            self.assertEqual(len(rules), 1, name)
            self.assertLessEqual({"create"}, set(rules[0]["verbs"]))

    @for_each_set
    def test_routes_are_asked_for_where_they_may_be_read(self, objects):
        arguments = files.container_of(files.one(objects, "Deployment"))["args"]
        may = any(group == "gateway.networking.k8s.io" for group, *_ in granted(objects, ("Role", "ClusterRole")))
        self.assertEqual("--gateway-api=false" in arguments, "--kubernetes" in arguments and not may)

    def test_the_chart_tells_its_own_service(self):
        """The address of Gateways whose own is not told: without one their status never says Programmed."""
        addresses = {}
        for name, objects in SETS.items():
            told = yaml.safe_load(files.configuration_of(objects)).get("kubernetes", {})
            if "/helm/" in name and told.get("enabled"):
                self.assertIn(told["own_service"], [s["metadata"]["name"] for s in files.of_kind(objects, "Service")])
            addresses[name] = told.get("gateway_address")
        self.assertEqual(
            {name: address for name, address in addresses.items() if address},
            {"deploy/helm/golden/full.yaml": "llm.example.com"},
        )

    @for_each_set
    def test_nothing_more_is_granted(self, objects):
        known = {(g, r) for g, r, _ in read_resources()}
        known |= {(g, f"{r}/status") for g, r, _ in read_resources()} | set(EVENTS)
        for group, resource, verb in granted(objects, ("Role", "ClusterRole")):
            self.assertIn((group, resource), known)
            self.assertNotIn("*", (group, resource, verb))
            if verb not in READ:
                self.assertTrue(resource.endswith("/status") or resource == "events", resource)


class Hardening(unittest.TestCase):
    @for_each_set
    def test_pods_meet_the_restricted_level(self, objects):
        specs = [files.pod_of(files.one(objects, "Deployment"))["spec"]]
        specs += [p["spec"] for p in files.of_kind(objects, "Pod")]
        for spec in specs:
            self.assertIs(spec["securityContext"]["runAsNonRoot"], True)
            self.assertIn(spec["securityContext"].get("runAsUser"), (65532, None))
            self.assertIn(spec["securityContext"]["seccompProfile"]["type"], ("RuntimeDefault", "Localhost"))
            for container in spec["containers"]:
                context = container["securityContext"]
                self.assertIs(context["allowPrivilegeEscalation"], False)
                self.assertIs(context["readOnlyRootFilesystem"], True)
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            # Only what asks the API server gets a token.
            wants_token = any("--kubernetes" in c.get("args", []) for c in spec["containers"])
            self.assertIs(spec["automountServiceAccountToken"], wants_token)

    def test_the_user_is_fixed_unless_the_platform_is_to_give_one(self):
        # An OpenShift namespace has users of its own and takes no other.
        for name, objects in SETS.items():
            spec = files.pod_of(files.one(objects, "Deployment"))["spec"]
            user = [spec["securityContext"].get(key) for key in ("runAsUser", "runAsGroup")]
            self.assertEqual(user, [None, None] if "selector" in name else [65532, 65532], name)

    @for_each_set
    def test_cpus_are_whole_and_requests_are_limits(self, objects):
        resources = files.container_of(files.one(objects, "Deployment"))["resources"]
        self.assertEqual(resources["requests"], resources["limits"])
        self.assertRegex(str(resources["limits"]["cpu"]), r"^[1-9][0-9]*$")

    @for_each_set
    def test_probes(self, objects):
        container = files.container_of(files.one(objects, "Deployment"))
        paths = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
        self.assertEqual(
            {k: v["path"] for k, v in paths.items()},
            {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"},
        )
        self.assertEqual({v["port"] for v in paths.values()}, {"metrics"})
        self.assertEqual(container["readinessProbe"]["periodSeconds"], 2)
        known = files.text("src/observability/admin.cc")
        for probe in paths.values():
            self.assertIn(f'"{probe["path"]}"', known)

    @for_each_set
    def test_the_admin_port_is_asked_in_what_it_speaks(self, objects):
        container = files.container_of(files.one(objects, "Deployment"))
        tls = yaml.safe_load(files.configuration_of(objects)).get("admin", {}).get("tls")
        probes = [container[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")]
        self.assertEqual({probe.get("scheme", "HTTP") for probe in probes}, {"HTTPS" if tls else "HTTP"})
        scrapes = [e for o in files.of_kind(objects, "PodMonitor") for e in o["spec"]["podMetricsEndpoints"]]
        scrapes += [e for o in files.of_kind(objects, "ServiceMonitor") for e in o["spec"]["endpoints"]]
        for scrape in scrapes:
            self.assertEqual((scrape.get("scheme"), "tlsConfig" in scrape), ("https" if tls else None, bool(tls)))
        mounted = {m["mountPath"] for m in container["volumeMounts"]}
        for pair in tls["certificates"] if tls else ():
            self.assertEqual({os.path.dirname(path) for path in pair.values()} - mounted, set())

    def test_scrapes_verify_the_certificate_of_the_admin_port_unless_told_otherwise(self):
        objects = HELM["deploy/helm/golden/full.yaml"]
        volumes = files.pod_of(files.one(objects, "Deployment"))["spec"]["volumes"]
        (secret,) = [volume["secret"]["secretName"] for volume in volumes if volume["name"] == "admin-tls"]
        names = [f"{s['metadata']['name']}.{s['metadata']['namespace']}.svc" for s in files.of_kind(objects, "Service")]
        (scrape,) = files.one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
        self.assertEqual(scrape["tlsConfig"]["ca"], {"secret": {"name": secret, "key": "ca.crt"}})
        self.assertIn(scrape["tlsConfig"]["serverName"], names)
        (told,) = files.one(objects, "ServiceMonitor")["spec"]["endpoints"]
        self.assertEqual(told["tlsConfig"], {"insecureSkipVerify": True})

    @for_each_set
    def test_rollouts_keep_all_replicas(self, objects):
        rolling = files.one(objects, "Deployment")["spec"]["strategy"]["rollingUpdate"]
        self.assertEqual((rolling["maxUnavailable"], rolling["maxSurge"]), (0, 1))


if __name__ == "__main__":
    unittest.main()
