"""What tests do with the server from within its process: objects, credentials, waiting."""

import os
import time

from . import schemas
from .tls import ServiceAccount, write_kubeconfig


class Convenience:
    """The part of FakeApiServer that tests call."""

    # ---- for tests: objects ----

    def install_crd(self, name):
        crd = schemas.crd_objects()[name]
        return self.api.create(self.kinds.named("customresourcedefinitions"), "", crd, "kubectl")

    def remove_crd(self, name):
        kind = self.kinds.named("customresourcedefinitions")
        self.api.remove(kind, self.api.get(kind, "", name))

    def create(self, obj, with_status=True):
        """Stores an object of any served kind, with its status, making its namespace when needed."""
        kind = self.kinds.of_object(obj)
        namespace = obj["metadata"].get("namespace") or "default"
        if kind.namespaced:
            self.api.create_namespace(namespace)
        return self.api.create(kind, namespace if kind.namespaced else "", obj, "test", with_status)

    def get(self, resource, name, namespace="default"):
        """The object, or None."""
        kind = self.kinds.named(resource)
        return self.store.get(kind.storage, namespace if kind.namespaced else "", name)

    def list(self, resource, namespace=None):
        return [obj for _, obj in self.api.items(self.kinds.named(resource), namespace)]

    def patch(self, resource, name, body, namespace="default", subresource=""):
        """A merge patch."""
        kind = self.kinds.named(resource)
        where = namespace if kind.namespaced else ""
        return self.api.patch(kind, where, name, "application/merge-patch+json", body, subresource, "test")[0]

    def delete(self, resource, name, namespace="default", grace=None):
        kind = self.kinds.named(resource)
        options = {"gracePeriodSeconds": grace}
        return self.api.delete(kind, namespace if kind.namespaced else "", name, options)[0]

    # ---- for tests: credentials ----

    def set(self, **settings):
        with self.store.changed:
            for name, value in settings.items():
                if not hasattr(self.settings, name):
                    raise KeyError(f"no setting {name}")
                setattr(self.settings, name, value)
            self.store.changed.notify_all()

    def rotate_token(self, token, keep_old=False):
        with self.store.lock:
            self.tokens = {token} | (self.tokens if keep_old and self.tokens else set())

    def present(self, certificate):
        """New connections get this certificate: "good", "wrong-san", "expired" or "other-ca"."""
        self._tls = self.certificates.server_context(certificate)

    def rotate_ca(self):
        """A new CA and a new server certificate of it. Files that clients have are theirs to replace."""
        self.certificates.replace_ca()
        self.present("good")

    def kubeconfig(self, name="kubeconfig", **options):
        """Writes one and returns its path. Options as of write_kubeconfig; without any, the first token is in it."""
        if self.certificates:
            options.setdefault("ca", self.certificates.path("ca.crt"))
        if self.tokens and not {"token", "token_file", "client", "exec_command"} & set(options):
            options["token"] = sorted(self.tokens)[0]
        return write_kubeconfig(os.path.join(self.directory, name), self.url, **options)

    def service_account(self, namespace="default", token=None):
        """A ServiceAccount directory; in the environment of a pod KUBERNETES_SERVICE_HOST and _PORT go with it."""
        number = 1
        while os.path.exists(path := os.path.join(self.directory, f"serviceaccount-{number}")):
            number += 1
        token = token if token is not None else sorted(self.tokens or {"none"})[0]
        ca = self.certificates.path("ca.crt") if self.certificates else None
        return ServiceAccount(path, token, ca, namespace)

    # ---- for tests: waiting ----

    def wait(self, what, probe, timeout=20):
        """Until probe() is true; asked again at every change."""
        deadline = time.monotonic() + timeout
        with self.store.changed:
            while not (result := probe()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"waited in vain: {what}")
                self.store.changed.wait(min(left, 1))
            return result

    def watches(self, resource=None):
        """How many watches are open."""
        with self.store.lock:
            return sum(1 for kind, _, _ in self._open_watches if resource in (None, kind.id, kind.plural))

    def wait_watches(self, resource, count, timeout=20):
        self.wait(f"{count} watches of {resource}", lambda: self.watches(resource) == count, timeout)

    def seen(self, since=0, **fields):
        """Requests from position `since` on whose fields (of Seen) are these; resource may be a plural."""
        with self.store.lock:
            return [
                one
                for one in self.requests[since:]
                if all(self._is(one, name, value) for name, value in fields.items())
            ]

    @staticmethod
    def _is(one, name, value):
        have = getattr(one, name)
        return have == value or name == "resource" and have.split(".")[0] == value

    def wait_seen(self, count=1, since=0, timeout=20, **fields):
        """Waits for the count-th such request and returns all of them."""
        found = self.wait(
            f"{count} requests {fields}", lambda: (f := self.seen(since, **fields)) and len(f) >= count and f, timeout
        )
        return found
