"""The configuration files inside the manifests, shown to the program itself."""

import os
import re
import subprocess
import tempfile
import unittest

import yaml

import deploy_files as files

SETS = files.rendered_sets()
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def seconds(duration):
    return sum(float(n) * SECONDS[unit] for n, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))


def check(text):
    """`penstock check`, with a pair in a folder of this machine instead of that of a mounted Secret."""
    with tempfile.TemporaryDirectory() as folder:
        name, secret = os.path.join(folder, "penstock.yaml"), "/etc/penstock-admin-tls"
        if secret in text:
            text = text.replace(secret, folder)
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                 "2", "-subj", "/CN=admin", "-keyout", folder + "/tls.key", "-out", folder + "/tls.crt"],
                capture_output=True, check=True,
            )
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        return subprocess.run([files.PENSTOCK, "check", "--config", name], capture_output=True, text=True, check=False)


class Configuration(unittest.TestCase):
    def test_the_program_finds_no_problem(self):
        self.assertGreaterEqual(len(SETS), 7)
        for name, objects in SETS.items():
            with self.subTest(name):
                text = files.configuration_of(objects)
                done = check(text)
                self.assertEqual(done.returncode, 0, done.stderr + text)
                # The same with a key that does not exist: the program did look.
                self.assertNotEqual(check(text + "\nno_such_key: 1\n").returncode, 0)

    def test_every_section_of_the_values_reaches_the_program(self):
        values = files.documents("deploy/helm/golden/full.values.yaml")[0]["config"]
        rendered = yaml.safe_load(files.configuration_of(SETS["deploy/helm/golden/full.yaml"]))
        self.assertEqual(values["http2"], {"streams": 256, "stream_window": "2MiB"})
        self.assertTrue(rendered["admin"].pop("tls"))  # from a value of its own
        self.assertEqual({name: rendered.get(name) for name in values}, values)

    def test_the_drain_fits_into_the_grace_period(self):
        for name, objects in SETS.items():
            with self.subTest(name):
                lifecycle = yaml.safe_load(files.configuration_of(objects))["lifecycle"]
                drain = seconds(lifecycle["drain_delay"]) + seconds(lifecycle["drain_limit"])
                grace = files.pod_of(files.one(objects, "Deployment"))["spec"]["terminationGracePeriodSeconds"]
                self.assertGreaterEqual(grace, drain + 5)
                # Longer than the readiness probe needs to be seen failing, with room for load balancers.
                self.assertGreaterEqual(seconds(lifecycle["drain_delay"]), 10)

    def test_the_ports_are_those_of_the_program(self):
        help_text = subprocess.run(
            [files.PENSTOCK, "serve", "--help"], capture_output=True, text=True, check=True
        ).stdout
        for objects in SETS.values():
            configuration = yaml.safe_load(files.configuration_of(objects))
            self.assertNotIn("listen", configuration)
            self.assertNotIn("listen", configuration.get("admin", {}))
        self.assertRegex(help_text, r"--listen[\s\S]*0\.0\.0\.0:8080")
        self.assertRegex(help_text, r"--admin[\s\S]*0\.0\.0\.0:9090")

    def test_the_program_knows_every_flag(self):
        known = set(
            re.findall(
                r"--[a-z][a-z-]*",
                subprocess.run([files.PENSTOCK, "serve", "--help"], capture_output=True, text=True, check=True).stdout,
            )
        )
        for name, objects in SETS.items():
            arguments = files.container_of(files.one(objects, "Deployment"))["args"]
            self.assertEqual(arguments[0], "serve")
            with self.subTest(name):
                self.assertEqual({a.partition("=")[0] for a in arguments[1:]} - known, set())


if __name__ == "__main__":
    unittest.main()
