"""What the tests of deploy/ share: the rendered manifests, by set, and the files beside them."""

import json
import os

import yaml

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PENSTOCK = os.environ.get("PENSTOCK", "penstock")
GOLDENS = ("deploy/helm/golden", "deploy/kustomize/golden")


def path(name):
    return os.path.join(TOP, name)


def text(name):
    with open(path(name), encoding="utf-8") as file:
        return file.read()


class UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; manifests must not have any."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{node.start_mark}: key {key!r} twice")
        return super().construct_mapping(node, deep)


def documents(name):
    return [d for d in yaml.load_all(text(name), Loader=UniqueKeys) if d]


def dashboard():
    return json.loads(text("deploy/helm/penstock/files/dashboard.json"))


def alerts():
    return documents("deploy/helm/penstock/files/alerts.yaml")[0]


def rendered_sets():
    """{name of the set: its objects}, for every golden file."""
    sets = {}
    for folder in GOLDENS:
        for name in sorted(os.listdir(path(folder))):
            if name.endswith(".yaml") and not name.endswith(".values.yaml"):
                sets[f"{folder}/{name}"] = documents(f"{folder}/{name}")
    return sets


def of_kind(objects, *kinds):
    return [o for o in objects if o["kind"] in kinds]


def one(objects, kind, name=None):
    found = [o for o in of_kind(objects, kind) if name is None or o["metadata"]["name"] == name]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} objects {kind} {name or ''}")
    return found[0]


def pod_of(deployment):
    return deployment["spec"]["template"]


def container_of(deployment):
    containers = pod_of(deployment)["spec"]["containers"]
    if len(containers) != 1:
        raise AssertionError(f"{len(containers)} containers")
    return containers[0]


def selects(labels, selector):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def configuration_of(objects):
    """The text of penstock.yaml that the Deployment mounts."""
    deployment = one(objects, "Deployment")
    volume = next(v for v in pod_of(deployment)["spec"]["volumes"] if v["name"] == "config")
    return one(objects, "ConfigMap", volume["configMap"]["name"])["data"]["penstock.yaml"]
