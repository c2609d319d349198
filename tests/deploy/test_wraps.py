"""subprojects/: where a library comes from that the system lacks. Each wrap is whole, is what meson.build asks for, and what
lies in the package cache is what the wraps name, and builds without a network."""

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import deploy_files as files

FOLDER = "subprojects"
CACHE = os.path.join(files.TOP, FOLDER, "packagecache")
# Of every distribution, which keeps them patched: no wrap.
OF_THE_SYSTEM = {"threads", "libcurl", "libnghttp2", "openssl", "zlib"}
USERS_OF_HEADERS = {
    "cli11": "src/libpenstock-config.a.p/config_command_line.cc.o",
    "doctest": "tests/unit/unit-base.p/main.cc.o",
}
# Asked for by another wrap.
OF_WRAPS = {"fmt"}


def wraps():
    """{name: its sections}."""
    found = {}
    for name in sorted(os.listdir(files.path(FOLDER))):
        if name.endswith(".wrap"):
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(files.text(f"{FOLDER}/{name}"))
            found[name.removesuffix(".wrap")] = parser
    return found


WRAPS = wraps()


def provided(wrap):
    """Names of dependencies, in lower case, as meson looks them up."""
    section = dict(wrap["provide"])
    listed = section.pop("dependency_names", "").split(",")
    return {name.strip().lower() for name in [*listed, *section] if name.strip()}


def asked_for():
    """Names in dependency(...) of the meson.build that looks for libraries."""
    return set(re.findall(r"\bdependency\('([\w+-]+)'", files.text("meson.build")))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def archives():
    """{file in the cache: the hash that a wrap wants}."""
    wanted = {}
    for wrap in WRAPS.values():
        for what in ("source", "patch"):
            name = wrap["wrap-file"].get(f"{what}_filename")
            if name:
                wanted[name] = wrap["wrap-file"][f"{what}_hash"]
    return wanted


def buildable():
    """Wraps all of whose archives are in the cache."""
    names = []
    for name, wrap in WRAPS.items():
        needed = [wrap["wrap-file"].get(f"{what}_filename") for what in ("source", "patch")]
        if all(os.path.exists(os.path.join(CACHE, n)) for n in needed if n):
            names.append(name)
    return names


class Wraps(unittest.TestCase):
    def test_each_is_whole(self):
        self.assertGreaterEqual(len(WRAPS), 10)
        for name, wrap in WRAPS.items():
            with self.subTest(wrap=name):
                section = wrap["wrap-file"]
                for key in ("directory", "source_url", "source_filename", "source_hash"):
                    self.assertTrue(section.get(key), key)
                self.assertRegex(section["source_hash"], r"^[0-9a-f]{64}$")
                version = re.search(r"(\d+(?:\.\d+)+)", section["directory"])[1]
                for key in ("source_url", "source_filename"):
                    self.assertIn(version, section[key])
                self.assertRegex(section["source_url"], r"^https://.*\.tar\.gz$")
                patch = {key for key in section if key.startswith("patch_")}
                self.assertIn(patch, (set(), {"patch_url", "patch_filename", "patch_hash"}))
                if patch:
                    self.assertRegex(section["patch_hash"], r"^[0-9a-f]{64}$")
                    release = f"{name}_{section['wrapdb_version']}"
                    self.assertEqual(section["patch_filename"], f"{release}_patch.zip")
                    self.assertEqual(section["patch_url"], f"https://wrapdb.mesonbuild.com/v2/{release}/get_patch")
                    self.assertTrue(section["wrapdb_version"].startswith(version + "-"))

    def test_no_two_wraps_name_one_file_or_hash(self):
        wanted = archives()
        hashes = list(wanted.values())
        self.assertEqual(len(hashes), len(set(hashes)))
        self.assertEqual(
            len(wanted), sum(1 + wrap.has_option("wrap-file", "patch_filename") for wrap in WRAPS.values())
        )

    def test_each_dependency_has_a_wrap_and_each_wrap_is_asked_for(self):
        names = {name: wrap for wrap in WRAPS for name in provided(WRAPS[wrap])}
        asked = {name.lower() for name in asked_for()} - OF_THE_SYSTEM
        # Found as a library, not as a dependency.
        self.assertIn("cpp.find_library('mimalloc'", files.text("meson.build"))
        asked.add("mimalloc")
        self.assertEqual(asked | OF_WRAPS, set(names))

    def test_what_cmake_builds_has_no_patch_and_the_others_know_of_meson(self):
        text = files.text("meson.build")
        table = text[text.index("by_cmake = {") : text.index("built = {}")]
        by_cmake = set(re.findall(r"^  '([\w-]+)': \[", table, re.M))
        self.assertLessEqual(by_cmake, set(WRAPS))
        for name in by_cmake:
            self.assertNotIn("patch_url", WRAPS[name]["wrap-file"])

    def test_nothing_but_wraps_is_in_the_repository(self):
        done = subprocess.run(
            ["git", "-C", files.TOP, "ls-files", "-co", "--exclude-standard", FOLDER], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            self.skipTest("no git repository")
        self.assertEqual([n for n in done.stdout.split() if not n.endswith(".wrap")], [])


@unittest.skipUnless(os.path.isdir(CACHE) and os.listdir(CACHE), "subprojects/packagecache is empty: nothing to build from")
class PackageCache(unittest.TestCase):
    def test_what_is_there_is_what_the_wraps_name(self):
        wanted = archives()
        for name in os.listdir(CACHE):
            self.assertEqual(digest(os.path.join(CACHE, name)), wanted.get(name), name)

    def test_what_is_there_builds_without_a_network(self):
        names = buildable()
        if not names or not shutil.which("cmake"):
            self.skipTest("no wrap has all of its archives in the cache, or cmake is missing")
        with tempfile.TemporaryDirectory() as folder:
            copy, build = os.path.join(folder, "source"), os.path.join(folder, "build")
            shutil.copytree(files.TOP, copy, ignore=shutil.ignore_patterns("build*", ".git"))
            forced = "--force-fallback-for=" + ",".join(names)
            options = ("-Doptimization=0", "-Ddebug=false", "-Dtests=enabled", "--wrap-mode=nodownload", forced)
            self.run_command("meson", "setup", build, copy, *options)
            targets = self.run_command("ninja", "-C", build, "-t", "targets", "all")
            libraries = re.findall(r"^(subprojects/\S+\.a): ", targets, re.M)
            # And a file of ours for each of the two that are headers alone.
            users = {user: WRAPS[name]["wrap-file"]["directory"] for name, user in USERS_OF_HEADERS.items() if name in names}
            self.run_command("ninja", "-C", build, *libraries, *users)
            for user, directory in users.items():
                included = self.run_command("ninja", "-C", build, "-t", "deps", user)
                self.assertIn(f"/{FOLDER}/{directory}/", included, "the system's header was taken")

    def run_command(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr)
        return done.stdout


if __name__ == "__main__":
    unittest.main()
