"""A TCP relay that does to the connections through it what bad networks do.

relay.py HOST:PORT prints "listening on 127.0.0.1:N, control on 127.0.0.1:M" and relays connections to HOST:PORT. A line on
the control connection says what happens from now on; each is answered with "ok":

  pass       all bytes go on at once
  stall      connections are accepted, and no byte passes, in neither direction
  pace N     N bytes a second in each direction of each connection
  refuse     no new connections; those that are open go on
  reset      all open connections are reset, on both sides; nothing else changes

A program of its own, so that the clients that measure pauses do not share an interpreter with it.
"""

import contextlib
import selectors
import socket
import sys
import time

LOOPBACK = "127.0.0.1"
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
QUEUE_MAX = 1 << 16
TICK = 0.01  # between two looks at what a pace allows


def reset(sock):
    """Closes a socket with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


class Side:
    """One of the two sockets of a connection that is relayed, and what waits to be written to it."""

    def __init__(self, link, sock):
        self.link, self.sock, self.queue = link, sock, b""
        self.ended = self.connecting = False
        self.events = 0
        self.allowance, self.paid_at = 0.0, time.monotonic()
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def may_write(self, pace):
        """How many bytes may go now."""
        if pace is None:
            return len(self.queue)
        now = time.monotonic()
        self.allowance = min(self.allowance + (now - self.paid_at) * pace, max(1.0, pace / 10))
        self.paid_at = now
        return min(len(self.queue), int(self.allowance))


class Link:
    """A connection that is relayed: `client` has connected to us, `server` is what we have connected to."""

    def __init__(self, relay, sock):
        self.relay = relay
        server = socket.socket()
        self.client, self.server = Side(self, sock), Side(self, server)
        self.server.connecting = True
        server.connect_ex(relay.target)

    def sides(self):
        return self.client, self.server

    def other(self, side):
        return self.server if side is self.client else self.client

    def read(self, side):
        data = side.sock.recv(QUEUE_MAX)
        self.other(side).queue += data
        side.ended = side.ended or not data

    def write(self, side):
        if side.connecting:
            error = side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "connect")
            side.connecting = False
        size = side.may_write(self.relay.pace)
        if size > 0:
            sent = side.sock.send(side.queue[:size])
            side.queue, side.allowance = side.queue[sent:], side.allowance - sent

    def handle(self, side, events):
        try:
            if events & WRITE:
                self.write(side)
            if events & READ and not side.ended:
                self.read(side)
                if not self.other(side).connecting:
                    self.write(self.other(side))
        except BlockingIOError:
            pass
        except OSError:
            return self.relay.drop(self, reset)
        # Neither the gateway nor a model server closes one direction alone.
        if any(one.ended and not self.other(one).queue for one in self.sides()):
            self.relay.drop(self, socket.socket.close)


class Relay:
    def __init__(self, target):
        self.target = target
        self.selector = selectors.DefaultSelector()
        self.links = set()
        self.stalled, self.pace = False, None
        self.place = self.bind(0)  # keeps the port ours while nothing listens there
        self.port = self.place.getsockname()[1]
        self.listener = None
        self.listen(True)
        self.control = self.bind(0)
        self.control.listen()
        self.selector.register(self.control, READ, self.on_control)

    @staticmethod
    def bind(port):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        return sock

    def listen(self, on):
        if on and self.listener is None:
            self.listener = self.bind(self.port)
            self.listener.listen(512)
            self.listener.setblocking(False)
            self.selector.register(self.listener, READ, self.on_connection)
        elif not on and self.listener is not None:
            self.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None

    def on_connection(self, _):
        if self.listener is None:
            return  # told to refuse since the selector saw it
        with contextlib.suppress(OSError):
            self.links.add(Link(self, self.listener.accept()[0]))

    def on_control(self, _):
        connection, _ = self.control.accept()
        self.selector.register(connection, READ, lambda _: self.on_command(connection))

    def on_command(self, connection):
        words = connection.recv(1000).decode().split()
        if not words:
            self.selector.unregister(connection)
            return connection.close()
        if words[0] == "reset":
            for link in list(self.links):
                self.drop(link, reset)
        else:
            self.stalled = words[0] == "stall"
            self.pace = float(words[1]) if words[0] == "pace" else None
            self.listen(words[0] != "refuse")
        connection.sendall(b"ok\n")

    def drop(self, link, how):
        self.links.discard(link)
        for side in link.sides():
            if side.events:
                self.selector.unregister(side.sock)
                side.events = 0
            with contextlib.suppress(OSError):
                how(side.sock)

    def wanted(self, link, side):
        """What may happen to it next. With a pace, writing goes by the clock and not by what the socket would take."""
        if self.stalled:
            return 0
        reads = READ if not side.ended and len(link.other(side).queue) < QUEUE_MAX else 0
        writes = WRITE if side.connecting or (side.queue and self.pace is None) else 0
        return reads | writes

    def watch(self, link):
        for side in link.sides():
            events = self.wanted(link, side)
            if events == side.events:
                continue
            if not side.events:
                self.selector.register(side.sock, events, side)
            elif not events:
                self.selector.unregister(side.sock)
            else:
                self.selector.modify(side.sock, events, side)
            side.events = events

    def turn(self):
        for link in list(self.links):
            self.watch(link)
        paced = self.pace is not None and any(side.queue for link in self.links for side in link.sides())
        for key, events in self.selector.select(TICK if paced else None):
            if not isinstance(key.data, Side):
                key.data(key)
            elif key.data.link in self.links:
                key.data.link.handle(key.data, events)
        if paced and not self.stalled:
            for link in list(self.links):
                for side in link.sides():
                    if side.queue and not side.connecting and link in self.links:
                        link.handle(side, WRITE)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    relay = Relay((host, int(port)))
    control = relay.control.getsockname()[1]
    print(f"listening on {LOOPBACK}:{relay.port}, control on {LOOPBACK}:{control}", flush=True)
    while True:
        relay.turn()


if __name__ == "__main__":
    main()
