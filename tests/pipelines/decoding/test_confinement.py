"""What code in a decoder can do: read and write its one socket, take memory within its limit, wait, and end."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import misbehaving_child
import psutil
import pytest
from conftest import ROOT
from misbehaving_child import ATTEMPTS, attempted

from tutti.pipelines.decoding import process, sandbox
from tutti.pipelines.decoding.confinement import CALLS, MACHINES
from tutti.pipelines.decoding.sandbox import Limits, call

LIMITS = Limits(memory_bytes=1 << 30, cpu_s=10.0)
# Of what the kernel lets any process do, and this test may.
HARMLESS = [
    "open to read", "open to write", "open itself anew", "list a folder", "look at a file", "change the mode",
    "open a socket", "open a datagram socket", "open a socket pair", "connect to loopback", "connect to a unix socket",
    "duplicate the socket", "make a pipe", "make a file in memory", "fork", "start a thread", "kill the victim",
    "name the victim by descriptor",
]  # fmt: skip

STANDING = """
import os
from tutti.pipelines.decoding import confinement
confinement._limit = lambda memory_bytes: None
os.write(1, " ".join(confinement.confine(1 << 40, int)).encode())
os._exit(0)
"""


pytestmark = pytest.mark.usefixtures("misbehaving_decoders")


@pytest.fixture(scope="module")
def walls():
    """The walls that this kernel can build."""
    return subprocess.run([sys.executable, "-c", STANDING], cwd=ROOT, capture_output=True, text=True).stdout.split()


@pytest.fixture
def only(monkeypatch):
    """Leaves out walls in the children of a test."""

    def leave_out(*walls):
        sandbox.close()
        monkeypatch.setattr(process, "CHILD", (*misbehaving_child.COMMAND, *walls))

    yield leave_out
    sandbox.close()


@pytest.fixture
def given(tmp_path):
    """What attempts need to succeed: a file, servers that listen, a process to harm."""
    (tmp_path / "file").write_text("whole")
    victim = subprocess.Popen(["sleep", "60"])
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "unix"))
        unix.listen()
        names = {"path": str(tmp_path / "file"), "unix": str(tmp_path / "unix")}
        yield names | {"port": inet.getsockname()[1], "pid": victim.pid}
    assert victim.poll() is None
    victim.kill()
    victim.wait()
    assert (tmp_path / "file").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "unix"]


def in_child(what, given, *, free=False):
    return call("attempt", {"what": what, "free": free, **given}, [], LIMITS)[0]["found"]


@pytest.mark.parametrize("free", [False, True], ids=["", "after closing descriptors and raising limits"])
def test_no_attempt_of_code_in_the_decoder_succeeds(walls, given, free):
    if "seccomp" not in walls:
        pytest.skip(f"needs a kernel with seccomp, has {walls}")

    found = {what: in_child(what, given, free=free) for what in ATTEMPTS}

    others = {
        "start a thread": "RuntimeError: can't start new thread",
        "raise its limits": "ValueError: not allowed to raise maximum limit",  # how Python tells EPERM
    }
    assert found == dict.fromkeys(ATTEMPTS, "EPERM") | others


LANDLOCK_ALONE = """
import json, sys
from tutti.pipelines.decoding import confinement
from misbehaving_child import attempted
confinement._limit = lambda memory_bytes: None  # as root may have it
confinement.confine(1 << 40, int, without=["seccomp"])
given = json.loads(sys.argv[1])
print(json.dumps({what: attempted(what, given) for what in given["what"]}))
"""


def test_landlock_alone_lets_no_file_be_opened_or_executed(walls, given):
    if "landlock" not in walls:
        pytest.skip(f"needs a kernel with Landlock, has {walls}")
    files = ["open to read", "open to write", "open by openat2", "list a folder", "remove a file", "execute"]
    command = [sys.executable, "-c", LANDLOCK_ALONE, json.dumps(given | {"what": files})]

    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)

    assert found == dict.fromkeys(files, "EACCES")


def test_without_both_no_descriptor_is_left_and_the_log_says_so_once(given, only, caplog, monkeypatch):
    only("seccomp", "landlock")
    monkeypatch.setattr("tutti.pipelines.decoding.process._warned", set())

    found = {what: in_child(what, given) for what in ("open to read", "open a socket")}
    sandbox.close()
    in_child("open to read", given)

    assert found == {"open to read": "EMFILE", "open a socket": "EMFILE"}
    assert caplog.messages == [
        "decoders: this kernel has no seccomp; resource limits alone confine them "
        "(see pipelines/decoding/confinement.py)"
    ]


def test_the_attempts_are_real_any_other_process_succeeds(tmp_path):
    (tmp_path / "file").write_text("whole")
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "unix"))
        unix.listen()
        victim = subprocess.Popen(["sleep", "60"])
        given = {"path": str(tmp_path / "file"), "unix": str(tmp_path / "unix"), "port": inet.getsockname()[1]}
        named = {"kill the victim": "kill the parent", "name the victim by descriptor": "name the parent by descriptor"}
        found = {what: attempted(named.get(what, what), given | {"pid": victim.pid}) for what in HARMLESS}
        victim.wait()

    assert found == dict.fromkeys(HARMLESS, "allowed")


def test_the_child_has_one_descriptor_one_thread_and_hard_limits():
    child = psutil.Process(call("pid", {}, [], LIMITS)[0]["found"])

    assert os.listdir(f"/proc/{child.pid}/fd") == ["0"]
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    for name, most in (("open files", 1), ("processes", 0), ("file size", 0), ("core file size", 0)):
        assert re.search(rf"Max {name} +{most} +{most} ", limits)
    assert re.search(rf"Max address space +{1 << 30} +{1 << 30} ", limits)
    assert child.num_threads() == 2  # with the one that waits for our end


def test_the_child_knows_no_variable_that_could_be_a_secret(monkeypatch):
    sandbox.close()
    for name in ("HTTPS_PROXY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "TUTTI_COOKIES"):
        monkeypatch.setenv(name, "secret")

    found = call("variables", {}, [], LIMITS)[0]["found"]

    assert "PATH" in found
    assert {name for name in found if not name.startswith(("PYTHON", "LD_", "LC_", "MALLOC_"))} <= {
        "PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV",
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
        "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK",  # threadpoolctl's, made in the child
    }  # fmt: skip


HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_of_the_calls_are_those_of_the_kernels_own_headers(machine):
    header = next((Path(name) for name in HEADERS[machine] if Path(name).is_file()), None)
    if header is None:
        pytest.skip(f"needs the kernel's headers for {machine}")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    column = MACHINES[machine][2]

    expected = {name: numbers[column] for name, numbers in CALLS.items() if numbers[column] is not None}

    assert {name: int(defined[name]) for name in expected} == expected
    assert int(defined["seccomp"]) == MACHINES[machine][1]
