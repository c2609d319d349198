"""FakeApiServer: its sockets and its life."""

import dataclasses
import os
import shutil
import socket
import ssl
import struct
import tempfile
import threading

from . import schemas
from .api import Api
from .control import Control
from .convenience import Convenience
from .faults import Faults
from .handling import Handling
from .kinds import Kinds
from .store import Store
from .tls import Certificates
from .wire import Connection, Gone

LOOPBACK = "127.0.0.1"


@dataclasses.dataclass
class Settings:
    """What differs between real servers. Change them with FakeApiServer.set()."""

    history: int = 1024  # events of a resource that a watch can resume over
    bookmark_period_s: float = 60  # None: no bookmarks
    initial_events: str = "on"  # sendInitialEvents: "on", "invalid" (422), "ignore", "error" (500 in the stream)
    fresh_wait_s: float = 3  # how long a list waits for a version that is not there yet
    watch_timeout_s: float = 1800  # of watches that name none
    null_items: bool = False  # typed lists without an item say "items": null


class FakeApiServer(Handling, Convenience):
    """Serves from its constructor to close(). `tls` is True, or a directory to keep certificates in; `tokens` the valid
    Bearer tokens (None: nobody is asked); `crds` the names of the installed ones (None: all that are known); `store`
    that of another server, for two API servers in front of one etcd; what is left are Settings."""

    def __init__(self, port=0, host=LOOPBACK, tls=None, tokens=None, crds=None, store=None, directory=None, **settings):
        self._own_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="fake-kube-")
        self.settings = Settings(**settings)
        self.store = store or Store()
        self.faults = Faults(self.store)
        self.kinds = Kinds(self.store)
        self.api = Api(self.store, self.kinds, self.faults)
        self.control = Control(self)
        self.tokens = None if tokens is None else set(tokens)
        self.certificates = self._tls = None
        if tls:
            self.certificates = Certificates(tls if isinstance(tls, str) else os.path.join(self.directory, "tls"))
            self._tls = self.certificates.server_context()
        if store is None:
            for name in schemas.crd_objects() if crds is None else crds:
                self.install_crd(name)
        self.started_rv = 0 if store is None else self.store.rv
        self.frozen_rv = None
        self.requests, self._open_watches = [], []
        self._connections = set()
        self._blocked, self._ended = None, False  # the partition in force; close() has begun
        self.host, self.port = host, port
        self._holder = self._hold_port()
        self._listener = None
        self.serve()

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    # ---- sockets ----

    def _socket(self):
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((self.host, self.port))
        return sock

    def _hold_port(self):
        """Bound but not listening: the port stays ours, and refuses, while the server is down."""
        holder = self._socket()
        self.port = holder.getsockname()[1]
        return holder

    def serve(self):
        """Begins to accept (again)."""
        if self._listener is None:
            self._listener = self._socket()
            self._listener.listen(128)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _stop_listening(self):
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A client that reads nothing for so long is dropped, as the real server does with slow watchers.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 10, 0))
            connection = Connection(sock, self._gate)
            with self.store.changed:
                if self._ended or self._blocked == "drop" or self._listener is not listener:
                    connection.doomed = "rst"
                else:
                    self._connections.add(connection)
            if connection.doomed:
                connection.close()
            else:
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _gate(self, connection):
        """Nothing passes while the network is black-holed."""
        with self.store.changed:
            while self._blocked == "blackhole" and not connection.doomed and not self._ended:
                self.store.changed.wait(1)
            if connection.doomed:
                raise Gone

    def _converse(self, connection):
        try:
            if self._tls is not None:
                self._gate(connection)
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
                connection.client_certificate = connection.sock.getpeercert()
            while not connection.doomed:
                request = connection.read_request()
                if not self._handle(connection, request) or request.header("connection") == "close":
                    return
        except (Gone, OSError, ssl.SSLError, ValueError):
            pass
        finally:
            with self.store.changed:
                self._connections.discard(connection)
                self.store.changed.notify_all()
            connection.close()

    # ---- for tests: the server's own life ----

    def _end_connections(self, how):
        with self.store.changed:
            for connection in self._connections:
                connection.doom(how)
            self.store.changed.notify_all()

    def stop(self, how="close"):
        """Down: open watches end ("close", or "rst"), connections are refused."""
        self._stop_listening()
        self._end_connections(how)
        self.wait("all connections have ended", lambda: not self._connections)

    def restart(self, rv=None, how="close"):
        """Down and up again: no history, so that every older version is too old for a watch. `rv` sets the counter,
        also back ("a restored backup")."""
        self.stop(how)
        self.forget(rv)
        self.serve()

    def forget(self, rv=None):
        """The watch caches begin now. Open watches are not touched."""
        with self.store.changed:
            if rv is not None:
                if rv < self.store.rv:
                    self.store.rewind(rv)
                self.store.rv = rv
            self.started_rv = self.store.rv
            self.store.changed.notify_all()

    def partition(self, how="blackhole"):
        """Cuts the server off. "blackhole": what is open stays open and says nothing, new connections get no answer;
        "drop": connections are reset as soon as they are made; "refuse": nobody listens."""
        if how not in ("blackhole", "drop", "refuse"):
            raise ValueError(f"no partition {how}")
        with self.store.changed:
            self._blocked = how
            self.store.changed.notify_all()
        if how == "refuse":
            self._stop_listening()
        if how != "blackhole":
            self._end_connections("rst")

    def heal(self, reset=False):
        """Ends the partition. `reset`: what was open is lost, as when the path has forgotten it."""
        if reset:
            self._end_connections("rst")
        with self.store.changed:
            self._blocked = None
            self.store.changed.notify_all()
        self.serve()

    def freeze(self, on=True):
        """This server's caches stand still, as of one that lags behind etcd: only RV "" lists are current."""
        with self.store.changed:
            self.frozen_rv = self.store.rv if on else None
            self.store.changed.notify_all()

    def close(self):
        with self.store.changed:
            self._ended, self._blocked = True, None
            self.store.changed.notify_all()
        self.stop("rst")
        self._holder.close()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
