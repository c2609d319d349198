"""The simulated model servers of a chaos run, and the ways to harm them. Each is reached in one of three ways: directly,
through a relay (relay.py), or across a link out of a network namespace of its own, in which packets can be dropped."""

import concurrent.futures
import os
import shutil
import signal
import socket
import subprocess
import sys

import harness
from harness import LOOPBACK, Process, Sim, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
# Of the link into a namespace: addresses that stand for nobody's (RFC 5737).
NEAR, FAR = "192.0.2.1", "192.0.2.2"
# A process that the harness starts ends with the thread that has started it, so these do not end.
STARTERS = concurrent.futures.ThreadPoolExecutor(4)
INSIDE = "PENSTOCK_CHAOS_NAMESPACE"  # set where this process has a network of its own


def command(*words):
    code, _, err = harness.run_program(*words)
    if code != 0:
        raise AssertionError(f"{' '.join(words)}: {err.strip()}")


def enter_namespace():
    """Starts this program again in a network namespace of its own, so that nothing which it does to links and addresses is
    seen outside. An empty string there; otherwise why there is none."""
    if os.environ.get(INSIDE):
        command("ip", "link", "set", "lo", "up")
        return ""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    pair = "unshare -n true && ip link add chaos0 type veth peer name chaos1"
    tried = subprocess.run(["unshare", "-n", "sh", "-c", pair], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return "network namespaces cannot be made here: " + tried.stderr.strip()
    os.environ[INSIDE] = "1"
    sys.stdout.flush()
    os.execvp("unshare", ["unshare", "-n", "--", sys.executable, *sys.orig_argv[1:]])


class Relay(Process):
    def __init__(self, target):
        super().__init__([sys.executable, os.path.join(HERE, "relay.py"), target])
        found = self.out.wait(r"listening on (\S+), control on (\S+):(\d+)")
        self.address = found.group(1)
        self.control = socket.create_connection((found.group(2), int(found.group(3))), harness.PATIENCE)

    def tell(self, line):
        self.control.sendall(line.encode() + b"\n")
        if self.control.recv(10) != b"ok\n":
            raise AssertionError("the relay has ended: " + self.log())

    def kill(self):
        self.control.close()
        return super().kill()


class Namespace:
    """A network namespace with one address and a link out of it."""

    def __init__(self):
        self.holder = Process(["unshare", "-n", "tail", "-f", "/dev/null"])  # holds it open
        ours = os.readlink("/proc/self/ns/net")
        wait_for("the namespace", lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != ours)
        command("ip", "link", "add", "chaos0", "type", "veth", "peer", "name", "chaos1", "netns", str(self.holder.pid))
        command("ip", "address", "add", NEAR + "/30", "dev", "chaos0")
        command("ip", "link", "set", "chaos0", "up")
        self.inside("ip", "address", "add", FAR + "/30", "dev", "chaos1")
        self.black_hole(False)

    def prefix(self):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def inside(self, *words):
        command(*self.prefix(), *words)

    def black_hole(self, on):
        """With the far end of the link down, packets are dropped in both directions, and nobody is told."""
        self.inside("ip", "link", "set", "chaos1", "down" if on else "up")

    def close(self):
        command("ip", "link", "delete", "chaos0")
        self.holder.kill()


class Endpoint:
    """One model server. `way`: "direct", "relay" or "namespace"."""

    def __init__(self, name, way, flags):
        self.name, self.way, self.flags = name, way, [*flags, "--name", name]
        self.namespace = Namespace() if way == "namespace" else None
        self.host = FAR if self.namespace else LOOPBACK
        self.sim, self.port = None, 0
        self.start()
        self.relay = Relay(self.address) if way == "relay" else None
        self.url = "http://" + (self.relay.address if self.relay else self.address)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        prefix = self.namespace.prefix() if self.namespace else ()
        self.sim = STARTERS.submit(Sim, *self.flags, port=self.port, host=self.host, prefix=prefix).result()
        self.port = self.sim.port

    def kill(self):
        self.sim.kill()

    def terminate(self):
        """Asks it to end, and waits until it has."""
        self.sim.signal(signal.SIGTERM)
        self.sim.wait()

    def hang(self):
        self.sim.signal(signal.SIGSTOP)

    def go_on(self):
        self.sim.signal(signal.SIGCONT)

    def close(self):
        self.sim.kill()
        if self.relay:
            self.relay.kill()
        if self.namespace:
            self.namespace.close()
