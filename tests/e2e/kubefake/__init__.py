"""A Kubernetes API server for tests that is honest: it keeps the rules of the real one, and misbehaves on request.

  errors     the Status answers            kinds       which resources there are, discovery documents
  schemas    what the CRDs demand          validate    structural schemas: check, prune, fill in defaults
  selection  label and field selectors     patches     merge and strategic merge
  ownership  server-side apply             store       objects, resourceVersion and history
  api        the verbs on the store        faults      what goes wrong, per resource
  wire       connections and HTTP/1.1      watching    one watch
  handling   one request                   routing     paths
  server     FakeApiServer                 convenience what tests call
  tls        a private CA, kubeconfig      control     /_fake/: the same from other processes

Locks: Store.lock is the only one that is held while looking at objects, faults or settings; nothing is sent under it.
"""
