"""The image that scripts/image makes: unpacked, and run as a container would run it."""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest

import deploy_files as files

BUILD = os.environ["PENSTOCK_BUILD"]
UID = 65532
# Bytes, unpacked; with the programs of a release it is 0.8 MB less. Debian 13's libraries, which it takes from there where
# it is built, are larger.
LARGEST = 32e6 if "bookworm" in files.text("/etc/os-release") else 38e6
PATIENCE = float(os.environ.get("E2E_PATIENCE_S", "20"))


def make_image(folder, name):
    out = os.path.join(folder, name)
    done = subprocess.run(
        [sys.executable, files.path("scripts/image"), "--bin", BUILD, "--out", out, "--tag", "penstock:test"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    print(done.stdout, end="")
    return out


def blob(archive, digest):
    data = archive.extractfile("blobs/" + digest.replace(":", "/")).read()
    if hashlib.sha256(data).hexdigest() != digest.partition(":")[2]:
        raise AssertionError(f"{digest} is not the digest of its blob")
    return data


def may_use_namespaces():
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode == 0


class Contained:
    """A program in the unpacked image: own mounts, root file system read-only, another user, no privileges."""

    SETUP = (
        'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && '
        f'exec chroot --userspec={UID}:{UID} --groups={UID} "$0" "$@"'
    )

    def __init__(self, root, *command):
        self.lines, self.changed = [], threading.Condition()
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", self.SETUP, root, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def wait_line(self, pattern):
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while True:
                for line in self.lines:
                    found = re.search(pattern, line)
                    if found:
                        return found
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None and not self.reader.is_alive():
                    raise AssertionError(f"no line with {pattern}:\n" + "".join(self.lines))
                self.changed.wait(min(left, 0.1))

    def end(self, number=None):
        """Without a signal it ends by itself. Returns its status."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdout.close()
        return code


def get(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST" if body else "GET", path, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="penstock-image-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        os.chmod(cls.folder, 0o755)  # another user has to get through
        cls.archive = make_image(cls.folder, "one.tar")
        cls.root = os.path.join(cls.folder, "root")
        with tarfile.open(cls.archive) as archive:
            cls.index = json.load(archive.extractfile("index.json"))
            cls.manifest = json.loads(blob(archive, cls.index["manifests"][0]["digest"]))
            cls.config = json.loads(blob(archive, cls.manifest["config"]["digest"]))
            cls.layer = blob(archive, cls.manifest["layers"][0]["digest"])
            cls.docker = json.load(archive.extractfile("manifest.json"))
            cls.names = archive.getnames()
        layer_file = os.path.join(cls.folder, "layer.tar")
        with open(layer_file, "wb") as file:
            file.write(cls.layer)
        with tarfile.open(layer_file) as layer:
            cls.members = layer.getmembers()
            layer.extractall(cls.root, filter="tar") if hasattr(tarfile, "tar_filter") else layer.extractall(cls.root)

    def test_the_archive_is_whole_for_both_kinds_of_reader(self):
        self.assertEqual(self.manifest["layers"][0]["size"], len(self.layer))
        self.assertEqual(self.config["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(self.layer).hexdigest()])
        self.assertEqual(self.docker[0]["RepoTags"], ["penstock:test"])
        for name in [self.docker[0]["Config"], *self.docker[0]["Layers"], "oci-layout"]:
            self.assertIn(name, self.names)
        self.assertEqual(
            self.index["manifests"][0]["annotations"]["io.containerd.image.name"], "docker.io/library/penstock:test"
        )

    def test_the_configuration(self):
        config = self.config["config"]
        self.assertEqual(config["User"], f"{UID}:{UID}")
        self.assertEqual(config["Entrypoint"], ["/usr/bin/penstock"])
        self.assertEqual(set(config["ExposedPorts"]), {"8080/tcp", "9090/tcp"})
        for label in ("title", "version", "revision", "created"):
            self.assertTrue(config["Labels"][f"org.opencontainers.image.{label}"])
        dockerfile = files.text("deploy/image/Dockerfile")
        for line in (f"USER {UID}:{UID}", 'ENTRYPOINT ["/usr/bin/penstock"]', 'CMD ["serve"]', "EXPOSE 8080 9090"):
            self.assertIn("\n" + line + "\n", dockerfile)

    def test_the_size(self):
        self.assertLess(len(self.layer), LARGEST)

    def test_the_same_programs_give_the_same_bytes(self):
        with open(self.archive, "rb") as one, open(make_image(self.folder, "two.tar"), "rb") as two:
            self.assertEqual(one.read(), two.read())

    def test_nothing_else_runs_and_nobody_gains_rights(self):
        programs = {
            m.name for m in self.members if m.isfile() and m.mode & 0o111 and not re.search(r"\.so(\.|$)", m.name)
        }
        self.assertEqual(programs, {"usr/bin/penstock", "usr/bin/penstock-sim"})
        for member in self.members:
            self.assertEqual((member.uid, member.gid), (0, 0), member.name)
            self.assertFalse(member.mode & 0o6000, member.name)
            self.assertTrue(member.name == "tmp" or not member.mode & 0o022, member.name)
            self.assertTrue(member.isfile() or member.isdir(), member.name)
        self.assertTrue(
            [m for m in self.members if m.name.startswith("usr/share/doc/libc6/")], "terms of the libraries"
        )

    def test_the_programs_run_on_the_images_own_libraries(self):
        loader = next(m.name for m in self.members if re.match(r"lib(64)?/ld-linux", m.name))
        libraries = os.path.dirname(next(m.name for m in self.members if m.name.endswith("/libc.so.6")))
        for program in ("penstock", "penstock-sim"):
            listed = subprocess.run(
                [
                    os.path.join(self.root, loader),
                    "--inhibit-cache",
                    "--library-path",
                    os.path.join(self.root, libraries),
                    "--list",
                    os.path.join(self.root, "usr/bin", program),
                ],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            elsewhere = [
                p for p in re.findall(r"=> (/\S+)", listed) if not p.startswith(self.root) and "ld-linux" not in p
            ]
            self.assertEqual(elsewhere, [])
            self.assertIn("libstdc++", listed)

    @unittest.skipUnless(may_use_namespaces(), "needs root and mount namespaces")
    def test_it_serves_read_only_as_another_user(self):
        sim = Contained(self.root, "/usr/bin/penstock-sim", "--port", "0", "--model", "m")
        self.addCleanup(sim.end, signal.SIGKILL)
        sim_port = int(sim.wait_line(r"listening on \S+:(\d+)")[1])
        gateway = Contained(
            self.root,
            "/usr/bin/penstock",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--shards",
            "1",
            "--endpoint",
            f"http://127.0.0.1:{sim_port}",
        )
        self.addCleanup(gateway.end, signal.SIGKILL)
        port = int(gateway.wait_line(r"serving\W.*?listen\W+(?:\S+?):(\d+)")[1])
        admin = int(gateway.wait_line(r"admin pages\W.*?listen\W+(?:\S+?):(\d+)")[1])
        self.assertEqual(get(admin, "/healthz")[0], 200)
        with open(f"/proc/{gateway.process.pid}/status", encoding="utf-8") as status:
            text = status.read()
        self.assertRegex(text, rf"(?m)^Uid:\t{UID}\t{UID}\t{UID}\t{UID}$")
        self.assertRegex(text, r"(?m)^CapEff:\t0+$")
        self.assertEqual(os.readlink(f"/proc/{gateway.process.pid}/root"), self.root)
        body = json.dumps({"model": "m", "prompt": "The future of AI is", "max_tokens": 5})
        status, answer = get(port, "/v1/completions", body)
        self.assertEqual(status, 200, answer)
        self.assertTrue(json.loads(answer)["choices"][0]["text"])
        self.assertEqual(gateway.end(signal.SIGINT), 0, "".join(gateway.lines))

    @unittest.skipUnless(may_use_namespaces(), "needs root and mount namespaces")
    def test_the_root_is_read_only_in_there(self):
        refused = Contained(self.root, "/usr/bin/penstock", "serve", "--config", "/no/such/file.yaml")
        refused.wait_line(r"/no/such/file\.yaml")
        self.assertEqual(refused.end(), 1)
        probe = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && touch "$0/tmp/x"',
                self.root,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertIn("Read-only", probe.stderr)

    @unittest.skipUnless(shutil.which("skopeo") or shutil.which("buildah"), "needs skopeo or buildah")
    def test_an_engine_takes_it(self):
        copy = os.path.join(self.folder, "copied")
        if shutil.which("skopeo"):
            command = ["skopeo", "copy", "--insecure-policy", f"docker-archive:{self.archive}", f"dir:{copy}"]
        else:
            command = [
                "buildah",
                "--root",
                os.path.join(self.folder, "store"),
                "--runroot",
                os.path.join(self.folder, "run"),
                "--storage-driver",
                "vfs",
                "pull",
                f"docker-archive:{self.archive}",
            ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
