"""The seccomp profile: what it says, and the programs running under it, with and without the calls of io_uring."""

import json
import os
import re
import subprocess
import sys
import unittest

import deploy_files as files

try:
    import seccomp
except ImportError:
    seccomp = None

PROFILE = "deploy/seccomp/penstock-io-uring.json"
IO_URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
# What gives a container the host, or other containers: RuntimeDefault denies these too.
NEVER = (
    """acct add_key bpf chroot clock_settime delete_module finit_module init_module ioperm iopl kexec_load keyctl mount
move_mount open_by_handle_at perf_event_open pivot_root process_vm_readv process_vm_writev ptrace reboot request_key
setns settimeofday swapon syslog umount2 unshare userfaultfd""".split()
)
PENSTOCK = files.PENSTOCK
CLONE_NEW = 0x7E020000  # all CLONE_NEW* flags
LINUX_ENOSYS = 38


def profile():
    return json.loads(files.text(PROFILE))


def load_filter(rules):
    """Puts this process, and what it becomes, under the profile's rules. Needs libseccomp's Python module."""
    filter_ = seccomp.SyscallFilter(seccomp.ERRNO(rules["defaultErrnoRet"]))
    compare = {"SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}
    for rule in rules["syscalls"]:
        action = seccomp.ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else seccomp.ERRNO(rule["errnoRet"])
        for name in rule["names"]:
            arguments = [
                seccomp.Arg(a["index"], compare[a["op"]], a["value"], *([a["valueTwo"]] if "valueTwo" in a else []))
                for a in rule.get("args", [])
            ]
            try:
                filter_.add_rule(action, name, *arguments)
            except RuntimeError:
                pass  # a call that this architecture does not have; runtimes skip it, too
    filter_.load()


def run_under(without, *command):
    """Runs a command under the profile less the calls in `without`."""
    return subprocess.run(
        [sys.executable, __file__, "--under", ",".join(sorted(without)), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def become_confined(without, command):
    rules = profile()
    for rule in rules["syscalls"]:
        rule["names"] = [n for n in rule["names"] if n not in without]
    load_filter(rules)
    os.execv(command[0], command)


class Profile(unittest.TestCase):
    def test_shape(self):
        rules = profile()
        self.assertEqual(set(rules), {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"})
        self.assertEqual(rules["defaultAction"], "SCMP_ACT_ERRNO")
        for rule in rules["syscalls"]:
            self.assertLessEqual(set(rule), {"names", "action", "args", "errnoRet"})
            self.assertIn(rule["action"], ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"))
            self.assertTrue(rule["names"])
            for argument in rule.get("args", []):
                self.assertLessEqual({"index", "value", "op"}, set(argument))

    def test_what_is_allowed(self):
        allowed = [
            n
            for rule in profile()["syscalls"]
            if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
            for n in rule["names"]
        ]
        self.assertEqual(len(allowed), len(set(allowed)))
        self.assertLessEqual(IO_URING, set(allowed))
        self.assertEqual(set(NEVER) & set(allowed), set())
        self.assertFalse({"clone", "clone3", "socket", "personality"} & set(allowed), "only with conditions")
        self.assertEqual(allowed[3:], sorted(allowed[3:]))

    def test_conditions(self):
        rules = {rule["names"][0]: rule for rule in profile()["syscalls"] if len(rule["names"]) == 1}
        # value is the mask, valueTwo what has to remain.
        self.assertEqual((rules["clone"]["args"][0]["value"], rules["clone"]["args"][0]["valueTwo"]), (CLONE_NEW, 0))
        # clone3 hides its flags in memory: libc falls back to clone on ENOSYS.
        self.assertEqual(rules["clone3"]["errnoRet"], LINUX_ENOSYS)

    def test_the_chart_names_this_file(self):
        values = files.documents("deploy/helm/penstock/values.yaml")[0]
        self.assertEqual(os.path.basename(values["seccomp"]["localhostProfile"]), os.path.basename(PROFILE))


def ring_of(output):
    return re.search(r"(?m)^ring\s+(\S+)$", output)[1]


@unittest.skipIf(seccomp is None, "needs python3-seccomp")
class Confined(unittest.TestCase):
    def version(self, *prefix):
        return subprocess.run([*prefix, PENSTOCK, "version"], capture_output=True, text=True, check=True).stdout

    def test_io_uring_under_the_profile_as_without_one(self):
        plain = self.version()
        confined = run_under([], PENSTOCK, "version")
        self.assertEqual(confined.returncode, 0, confined.stderr)
        self.assertEqual(confined.stdout, plain)

    def test_epoll_where_the_three_calls_are_missing(self):
        confined = run_under(IO_URING, PENSTOCK, "version")
        self.assertEqual(confined.returncode, 0, confined.stderr)
        self.assertEqual(ring_of(confined.stdout), "epoll", confined.stdout)

    def test_the_filter_does_deny(self):
        denied = run_under([], "/usr/bin/unshare", "--user", "/bin/true")
        self.assertNotEqual(denied.returncode, 0)
        self.assertIn("not permitted", denied.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--under"]:
        become_confined(set(sys.argv[2].split(",")), sys.argv[3:])
    unittest.main()
