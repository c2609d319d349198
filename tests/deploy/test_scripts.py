"""What somebody meets first: scripts/demo, scripts/install-deps and scripts/bench, when something is missing or wrong.

Nothing is installed and nothing is built: the demo runs the programs of this build, and the others see stand-ins for
dpkg-query, sudo and apt-get.
"""

import os
import subprocess
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ["PENSTOCK_BUILD"]


class Scripts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="penstock-scripts-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def program(self, name, text):
        """A shell script in our folder, in place of the real program."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)
        return path

    def script(self, name, *arguments, path=""):
        """Runs it without a terminal, with what is in `path` found first: its status and all that it says."""
        done = subprocess.run(
            [os.path.join(TOP, "scripts", name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
            start_new_session=True,
            timeout=100,
            check=False,
        )
        return done.returncode, done.stdout


class Demo(Scripts):
    def demo(self, sim):
        """A start of the demo with this text of a shell script for penstock-sim."""
        for program in ("src/app/penstock", "perf/trace_load"):
            os.makedirs(os.path.join(self.folder, os.path.dirname(program)), exist_ok=True)
            os.symlink(os.path.join(BUILD, program), os.path.join(self.folder, program))
        self.program("src/sim/penstock-sim", sim.replace("SIM", os.path.join(BUILD, "src/sim/penstock-sim")))
        return self.script("demo", "--build", self.folder, "--start-only")

    def test_three_servers_become_ready_whatever_an_earlier_run_left(self):
        os.makedirs(os.path.join(self.folder, "demo"))
        for i in range(3):
            with open(os.path.join(self.folder, "demo", f"llm-{i}.log"), "w", encoding="utf-8") as file:
                file.write("listening on 127.0.0.1:9\n")
        status, said = self.demo('exec SIM "$@"')
        self.assertEqual(status, 0, said)
        self.assertIn("three model servers are ready", said)
        self.assertNotIn("127.0.0.1:9\n", said)

    def test_a_server_that_nobody_can_reach_is_named_and_fails_the_demo(self):
        status, said = self.demo('case "$*" in *llm-1*) echo "listening on 127.0.0.1:9"; exec sleep 60;; esac; exec SIM "$@"')
        self.assertEqual(status, 1, said)
        self.assertIn("the model server llm-1 is not ready", said)

    def test_a_server_that_does_not_start_is_named_and_fails_the_demo(self):
        status, said = self.demo('case "$*" in *llm-2*) echo "error: no memory" >&2; exit 1;; esac; exec SIM "$@"')
        self.assertEqual(status, 1, said)
        self.assertIn("the model server llm-2 did not start", said)
        self.assertIn("error: no memory", said)


class InstallDeps(Scripts):
    def setUp(self):
        super().setUp()
        self.program("id", 'if [ "$1" = -u ]; then echo 1000; else echo someone; fi')
        self.program("apt-get", f'echo "$@" >>{self.folder}/apt; exit 100')

    def installed(self, pattern, missing="none"):
        """The packages that match it are there, but not those that match `missing`; no others."""
        answers = f"{missing}) exit 1;; {pattern}) echo installed;; *) exit 1;;"
        self.program("dpkg-query", f'for p; do :; done; case "$p" in {answers} esac')

    def sudo(self, text):
        self.program("sudo", text)

    def install(self):
        return self.script("install-deps", "--build", path=self.folder)

    def test_llhttp_is_listed_with_the_others_and_when_it_alone_is_missing(self):
        self.sudo("exit 1")
        for pattern in ("g++", "*"):
            self.installed(pattern, missing="libllhttp-dev|node-llhttp")
            status, said = self.install()
            self.assertEqual(status, 1, said)
            self.assertRegex(said, r"apt-get install .*(libllhttp-dev|node-llhttp)\b")
            self.assertNotIn("g++", said)

    def test_either_package_of_llhttp_will_do(self):
        for name in ("libllhttp-dev", "node-llhttp"):
            other = "node-llhttp" if name == "libllhttp-dev" else "libllhttp-dev"
            self.installed(name)
            _, said = self.install()
            self.assertNotIn(name, said)
            self.assertNotIn(other, said)

    def test_without_a_terminal_for_the_password_it_says_what_to_do_and_starts_nothing(self):
        self.sudo("exit 1")
        self.installed("none")
        status, said = self.install()
        self.assertEqual(status, 1, said)
        self.assertIn("sudo wants a password, for which there is no terminal. As root:\n  apt-get update && apt-get install", said)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "apt")))

    def test_with_sudo_it_goes_on_and_shows_what_apt_says(self):
        self.sudo('if [ "$1" = -n ]; then exit 0; fi; exec "$@"')
        self.program("apt-get", 'echo "E: no mirror"; exit 100')
        self.installed("none")
        status, said = self.install()
        self.assertEqual(status, 1, said)
        self.assertIn("E: no mirror", said)
        self.assertIn("failed: sudo apt-get -q update", said)

    def test_nothing_is_said_when_all_is_there(self):
        self.installed("*")
        self.assertEqual(self.install(), (0, ""))


class Bench(Scripts):
    def test_an_unknown_scenario_is_named_before_anything_is_installed_or_built(self):
        for program in ("dpkg-query", "apt-get", "sudo", "meson", "ninja"):
            self.program(program, f'echo "{program} $*" >>{self.folder}/called; exit 1')
        status, said = self.script("bench", "--scenarios", "sse,nonexistent", path=self.folder)
        self.assertEqual(status, 2, said)
        self.assertIn("'nonexistent' is not one of unary, prompts, sse, memory", said)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "called")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
