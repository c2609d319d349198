"""Dashboard and alert rules against the metrics that the program exports: names, labels, values of closed labels."""

import re
import unittest

import deploy_files as files

PAGE = files.text("tests/golden/metrics/page.txt")
EPP = files.text("tests/golden/metrics/epp_metrics.txt")
# Labels that Prometheus adds when it scrapes a pod (a metric's own namespace then is exported_namespace), and the one of histograms.
ADDED = {"namespace", "exported_namespace", "pod", "le"}
# Closed sets: a value that does not exist would match nothing, for ever and in silence.
CLOSED = ("outcome", "reason", "result", "engine", "status", "direction", "stage")
FUNCTIONS = {"sum", "max", "min", "rate", "increase", "count", "absent", "time", "histogram_quantile", "label_values"}
WORDS = {"by", "on", "ignoring", "and", "or", "unless", "without", "group_left"}


def exported():
    """{family: labels} and {(family, label): values} of the golden page."""
    labels, values = {}, {}
    for line in PAGE.splitlines():
        found = re.match(r"([a-z_]+)(?:\{(.*)\})? \S+$", line)
        if line.startswith("#") or not found:
            continue
        pairs = re.findall(r'(\w+)="([^"]*)"', found[2] or "")
        labels.setdefault(found[1], set()).update(k for k, _ in pairs)
        for key, value in pairs:
            values.setdefault((found[1], key), set()).add(value)
    for line in EPP.splitlines():
        if line.startswith("#"):
            continue
        name, kind, keys, _ = (part.strip() for part in line.split("|"))
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            labels.setdefault(name + suffix, set()).update(keys.split())
    # Metrics that the golden page's process does not have, because it has no access log.
    for name in re.findall(r'"(penstock_access_log_\w+)"', files.text("src/observability/metrics_own.cc")):
        labels.setdefault(name, set())
    return labels, values


LABELS, VALUES = exported()


def strip(expression):
    """PromQL without strings, variables and durations."""
    return re.sub(r"\[[^\]]*\]|\$\w+|\$\{\w+\}", " ", re.sub(r'"[^"]*"', '""', expression))


def metrics_in(expression):
    """(name, [(label, operator, value)]) of each selector."""
    found = []
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left)\s*\([^)]*\)", " ", expression)
    bare = re.sub(r"\[[^\]]*\]", " ", bare)
    for match in re.finditer(
        r"(?<![\w\"$.{])([a-z_][a-z0-9_]*)\b(\s*\{([^}]*)\})?(\s*\()?", re.sub(r'"[^"]*"', quoted, bare)
    ):
        name = match[1]
        if match[4] and not match[2] or name in WORDS:
            continue
        found.append((name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', unquoted(match[3] or ""))))
    return found


def quoted(match):
    """Names inside strings must not look like metrics."""
    return '"' + match[0][1:-1].encode().hex().upper() + '"'


def unquoted(matchers):
    return re.sub(r'"([0-9A-F]*)"', lambda m: '"' + bytes.fromhex(m[1]).decode() + '"', matchers)


def grouped_by(expression):
    return {label.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in group.split(",")}


def problems_of(expression):
    found = []
    used = metrics_in(expression)
    if not used:
        found.append("names no metric")
    allowed = set(ADDED)
    for name, matchers in used:
        if name not in LABELS:
            found.append(f"no metric {name}")
            continue
        allowed |= LABELS[name]
        for label, operator, value in matchers:
            if label not in LABELS[name] | ADDED:
                found.append(f"{name} has no label {label}")
            elif label in CLOSED and "$" not in value:
                missing = set(value.split("|")) - VALUES.get((name, label), set())
                if missing:
                    found.append(f"{name}: {label} is never {sorted(missing)}")
    for label in grouped_by(expression) - allowed:
        found.append(f"grouped by {label}, which none of its metrics has")
    for function in re.findall(r"\b([a-z_]+)\s*\(", strip(expression)):
        if function not in FUNCTIONS | WORDS:
            found.append(f"function {function} is not known here")
    return found


def panels():
    return [p for p in files.dashboard()["panels"] if p["type"] != "row"]


class Dashboard(unittest.TestCase):
    def test_every_query_names_what_exists(self):
        queries = [(p["title"], t["expr"], t["legendFormat"]) for p in panels() for t in p["targets"]]
        self.assertGreater(len(queries), 40)
        for title, expression, legend in queries:
            with self.subTest(title, expression=expression):
                self.assertEqual(problems_of(expression), [])
                self.assertLessEqual(set(re.findall(r"\{\{(\w+)\}\}", legend)), grouped_by(expression))

    def test_variables_are_defined_and_queries_that_fill_them_work(self):
        variables = {v["name"]: v for v in files.dashboard()["templating"]["list"]}
        used = set()
        for panel in panels():
            used |= set(
                re.findall(r"\$\{?(\w+)\}?", " ".join(t["expr"] for t in panel["targets"]) + panel["datasource"]["uid"])
            )
        self.assertEqual(used - {"__rate_interval"}, set(variables))
        for variable in variables.values():
            if variable["type"] == "query":
                metric = re.match(r"label_values\((\w+)", variable["query"])[1]
                self.assertIn(metric, LABELS)

    def test_panels_have_ids_of_their_own_and_do_not_overlap(self):
        everything = files.dashboard()["panels"]
        self.assertEqual(len({p["id"] for p in everything}), len(everything))
        taken = set()
        for panel in everything:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells

    def test_the_endpoint_pickers_metrics_are_on_it(self):
        text = " ".join(t["expr"] for p in panels() for t in p["targets"])
        families = [line.split("|")[0].strip() for line in EPP.splitlines() if not line.startswith("#")]
        shown = [f for f in families if f in text]
        self.assertGreaterEqual(len(shown), 15, set(families) - set(shown))


class Alerts(unittest.TestCase):
    def rules(self):
        return [rule for group in files.alerts()["groups"] for rule in group["rules"]]

    def test_every_rule_names_what_exists(self):
        self.assertGreaterEqual(len(self.rules()), 12)
        for rule in self.rules():
            with self.subTest(rule["alert"]):
                self.assertEqual(problems_of(rule["expr"]), [])

    def test_annotations_use_labels_that_the_expression_leaves(self):
        for rule in self.rules():
            used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
            kept = grouped_by(rule["expr"]) or {"namespace", "pod"}
            self.assertLessEqual(used, kept, rule["alert"])

    def test_names_are_unique(self):
        names = [rule["alert"] for rule in self.rules()]
        self.assertEqual(len(names), len(set(names)))

    def test_the_scaling_metric_exists(self):
        for objects in files.rendered_sets().values():
            for scaler in files.of_kind(objects, "HorizontalPodAutoscaler"):
                for metric in scaler["spec"]["metrics"]:
                    if metric["type"] == "Pods":
                        self.assertIn(metric["pods"]["metric"]["name"], LABELS)


class TheCheck(unittest.TestCase):
    """The checker itself: each of these mistakes must be seen."""

    def test_mistakes_are_found(self):
        for expression, expected in {
            "rate(penstock_request_total[5m])": "no metric penstock_request_total",
            'penstock_requests_total{outcom="ok"}': "has no label outcom",
            'penstock_requests_total{outcome=~"ok|fine"}': "is never ['fine']",
            "sum by (endpoint) (penstock_requests_total)": "grouped by endpoint",
            "avrg(penstock_requests_total)": "function avrg",
            "1 > 0": "names no metric",
            'histogram_quantile(0.9, sum by (le) (rate(penstock_inter_token_seconds{pod="a"}[5m])))': "no metric",
        }.items():
            self.assertIn(expected, "\n".join(problems_of(expression)), expression)
        self.assertEqual(
            problems_of('sum by (outcome) (rate(penstock_requests_total{outcome="ok",pod=~"$pod"}[5m]))'), []
        )


if __name__ == "__main__":
    unittest.main()
