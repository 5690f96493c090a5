"""The decoder's process: whatever a file makes of it, the caller gets an answer or a stable error."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
import signals
from conftest import ROOT
from rows import clip

from tutti.datasets.decode_error import DecodeError
from tutti.datasets.errors import StorageError
from tutti.datasets.record import Media, Recording
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding import process as decoder_child
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.decoding.sandbox import Limits, Probed, SandboxError, call, probe, stream
from tutti.pipelines.stages.prepare import PrepareConfig, prepare

HASTY = Limits(memory_bytes=1 << 30, cpu_s=1.0, cpu_s_per_mib=0.0, wall_factor=1.0)
SOUND = {"duration_s": 1.0, "sample_rate": 48_000, "num_channels": 2, "codec": "matroska/opus", "complete": True}
PATIENT = Limits(memory_bytes=1 << 30, cpu_s=1.0, cpu_s_per_mib=0.0, wall_factor=30.0, output_bytes=1 << 20)


pytestmark = pytest.mark.usefixtures("misbehaving_decoders")


def child_pid():
    return call("pid", {}, [], PATIENT)[0]["found"]


# --- the child


def test_calls_of_one_thread_share_one_child():
    assert child_pid() == child_pid()


def test_threads_have_a_child_each_so_none_waits_for_another():
    first, done = [], threading.Event()

    def hold():
        first.append(child_pid())
        with pytest.raises(SandboxError):
            call("hang", {}, [], HASTY)
        done.set()

    thread = threading.Thread(target=hold)
    thread.start()
    while not first:
        time.sleep(0.01)
    time.sleep(0.2)  # it is in its hanging call now
    assert child_pid() != first[0]
    assert not done.is_set()
    thread.join()


def test_the_child_is_light_and_its_own_session():
    modules = {name.split(".")[0] for name in call("modules", {}, [], PATIENT)[0]["found"]}
    process = psutil.Process(child_pid())

    assert not modules & {"apache_beam", "torch", "pyarrow", "sklearn", "matplotlib", "yt_dlp", "requests"}
    assert process.memory_info().rss < 250 * 2**20
    assert process.name() == "tutti-decoder"
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert process.environ()["OMP_NUM_THREADS"] == "1"


def test_blobs_of_any_size_go_there_and_back():
    blobs = [b"", b"x", os.urandom(3_000_000), b""]

    assert call("echo", {}, blobs) == ({"found": None}, blobs)


STARTER = """
from misbehaving_child import COMMAND
from tutti.pipelines.decoding import process
from tutti.pipelines.decoding.sandbox import call
process.CHILD = COMMAND
print(call("pid", {})[0]["found"], flush=True)
call("hang", {})
"""


def test_the_child_ends_with_its_parent_even_when_that_is_killed_within_a_call():
    parent = subprocess.Popen([sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()

    parent.kill()
    parent.communicate()

    child.wait(timeout=10)


def test_the_child_outlives_the_thread_that_started_it():
    found = []
    thread = threading.Thread(target=lambda: found.append(child_pid()))
    thread.start()
    thread.join()

    assert child_pid() == found[0]


# --- misbehavior


@pytest.mark.parametrize(
    ("fault", "limits", "message", "reason"),
    [
        ("crash", PATIENT, "the decoder crashed (SIGSEGV)", "decoder_crashed"),
        ("hang", HASTY, "the decoder took longer than 2 s", "out_of_time"),  # twice what it got at first
        ("spin", PATIENT, "the decoder took more than 2 s of processor time", "out_of_time"),
        ("leak", replace(PATIENT, cpu_s=30.0), "the decoder needs more than 2 GiB of memory", "out_of_memory"),
        ("exit", PATIENT, "the decoder ended (exit code 0)", "decoder_crashed"),
        ("lie", PATIENT, "the decoder's answer is larger than 1048576 bytes", "decoder_crashed"),
        ("flood", PATIENT, "the decoder's answer is larger than 1048576 bytes", "decoder_crashed"),
        ("babble", PATIENT, "the decoder's answer makes no sense (a frame)", "decoder_crashed"),
    ],
)
def test_a_child_that_misbehaves_twice_is_replaced_and_the_file_named(fault, limits, message, reason):
    before = child_pid()

    with pytest.raises(SandboxError) as caught:
        call(fault, {"name": "a/b.wav"}, [], limits)

    assert (str(caught.value), caught.value.reason) == (f"a/b.wav: {message}", reason)
    assert not isinstance(caught.value, DecodeError)  # no word on the bytes
    assert not psutil.pid_exists(before)
    assert child_pid() != before
    assert psutil.STATUS_ZOMBIE not in {process.status() for process in psutil.Process().children()}


def killed_from_outside(number, *, when):
    """Call a function that hangs; send every child a signal as soon as `when` says so; return what became of it."""
    found, done = [], threading.Event()

    def hold():
        try:
            call("hang", {"name": "a.wav"}, [], PATIENT)
        except Exception as error:
            found.append((type(error), getattr(error, "reason", str(error))))
        done.set()

    thread = threading.Thread(target=hold)
    thread.start()
    killed = set()
    while not done.wait(0.005):
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # it was waited for meanwhile
                if process.pid not in killed and when(process):
                    killed.add(process.pid)
                    process.send_signal(number)
    thread.join()
    return found


def within_a_call(process):
    return process.name() == "tutti-decoder" and process.rlimit(psutil.RLIMIT_CPU)[0] != psutil.RLIM_INFINITY


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGBUS, signal.SIGXCPU, signal.SIGTERM])
def test_a_child_that_is_killed_twice_from_outside_is_no_word_on_the_bytes(number):
    child_pid()  # starts

    found = killed_from_outside(number, when=within_a_call)

    expected = {signal.SIGKILL: "decoder_killed", signal.SIGXCPU: "out_of_time"}
    assert found == [(SandboxError, expected.get(number, "decoder_crashed"))]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU, signal.SIGTERM])
def test_a_child_that_is_killed_twice_at_its_start_is_no_word_on_the_bytes_or_the_machine(number, monkeypatch):
    monkeypatch.setattr(decoder_child, "_stillborn", [])
    sandbox.close()

    found = killed_from_outside(number, when=lambda process: True)

    assert found == [(SandboxError, "decoder_killed" if number == signal.SIGKILL else "decoder_crashed")]


def test_a_child_that_somebody_stopped_is_found_long_before_its_time_is_up(monkeypatch):
    monkeypatch.setattr(decoder_child, "LOOK_S", 0.2)
    os.kill(child_pid(), signal.SIGSTOP)
    start_s = time.monotonic()

    assert call("echo", {}, [b"x"], Limits(memory_bytes=1 << 30)) == ({"found": None}, [b"x"])
    assert time.monotonic() - start_s < 30  # of 300


def test_a_second_attempt_runs_alone_with_twice_the_room():
    states = []
    child_pid()  # is there

    def hold():
        with pytest.raises(SandboxError):
            call("hang", {}, [], HASTY)  # for 1 s, and then for 2 s alone
        states.append("over")

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0.3)
    child_pid()  # while it runs for the first time, others may
    assert states == []
    time.sleep(1.2)
    child_pid()  # waits

    assert states == ["over"]
    thread.join()


def test_room_grows_as_far_as_the_machine_has_memory():
    limits = Limits(memory_bytes=1 << 30, cpu_s=1.0, cpu_s_per_mib=2.0, wall_factor=3.0)

    assert limits.wider() == Limits(memory_bytes=2 << 30, cpu_s=2.0, cpu_s_per_mib=4.0, wall_factor=3.0)
    assert Limits(memory_bytes=1 << 60).wider().memory_bytes == 1 << 60


def test_what_goes_wrong_in_a_used_child_is_tried_once_more_in_a_fresh_one():
    before = child_pid()

    assert call("crash if used", {}, [], PATIENT)[0]["found"] == "fresh"
    assert not psutil.pid_exists(before)


def test_a_child_that_was_killed_from_outside_is_replaced_and_nobody_notices():
    before = child_pid()
    os.kill(before, signal.SIGKILL)

    assert child_pid() not in (before, None)


def test_what_nobody_foresaw_is_an_error_that_says_what_it_was():
    with pytest.raises(RuntimeError, match=r"^ZeroDivisionError: not foreseen$"):
        call("raise", {}, [], PATIENT)


def test_the_processor_time_of_earlier_calls_does_not_count():
    data = signals.encoded(signals.noise(20.0, num_channels=2), kind="OGG", subtype="VORBIS")
    child = child_pid()
    deadline = time.monotonic() + 30
    while sum(psutil.Process(child).cpu_times()[:2]) < 3.0 and time.monotonic() < deadline:
        probe(data, "a.ogg", PATIENT)

    assert child_pid() == child


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (4, 4))  # for every process; a decoder starts with more than one
from tutti.pipelines.decoding import sandbox
data, pids = open(sys.argv[1], "rb").read(), set()
while len(pids) < 3:
    assert sandbox.probe(data, "a.ogg").duration_s == 20.0
    pids |= {child._process.pid for child in sandbox._idle}
print("three decoders")
"""


def test_a_decoder_that_used_half_of_the_user_s_limit_makes_room_for_a_fresh_one(tmp_path):
    (tmp_path / "a.ogg").write_bytes(signals.encoded(signals.noise(20.0, num_channels=2), kind="OGG", subtype="VORBIS"))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a.ogg")]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert (result.returncode, result.stdout, result.stderr) == (0, "three decoders\n", "")


def test_a_bigger_file_has_more_time():
    limits = Limits(cpu_s=10.0, cpu_s_per_mib=2.0, wall_factor=5.0)

    assert [limits.times_s(num_bytes) for num_bytes in (0, 1 << 20, 100 << 20)] == [(10, 50), (12, 60), (210, 1_050)]


def test_a_machine_where_no_child_can_start_is_a_storage_error_not_a_bad_file(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(StorageError, match=r"^cannot start the decoder process: the decoder ended \(exit code 1\)"):
        call("pid", {}, [], Limits(memory_bytes=1 << 31))


@pytest.mark.parametrize("field", ["memory_bytes", "cpu_s", "wall_factor", "output_bytes"])
def test_limits_of_nothing_are_refused(field):
    with pytest.raises(ValueError, match="above zero"):
        Limits(**{field: 0})


# --- probe and prepare


def test_probe_decodes_to_the_end_and_counts():
    data = signals.webm(signals.noise(2.0, sample_rate=48_000, num_channels=2))

    assert probe(data) == Probed(2.0, 48_000, 2, "matroska/opus", True)


def test_probe_says_why_a_file_is_no_audio():
    with pytest.raises(DecodeError, match=r"^a\.webm: Format not recognised"):
        probe(b"<html>", "a.webm")


def test_one_hostile_file_costs_its_own_clip_and_no_other(tmp_path):
    cache = Cache(tmp_path / "cache")
    good = [signals.encoded(signals.noise(1.0, seed=seed)) for seed in range(2)]
    files = [good[0], b"sandbox-test:crash ", good[1]]
    recordings = [
        Recording(Media(f"https://host/{number}", sha256=cache.put_blob(data)), (clip(f"a/{number}@0", audio=None),))
        for number, data in enumerate(files)
    ]

    rows = [next(prepare(recording, config=PrepareConfig(), cache=cache)) for recording in recordings]

    assert [getattr(row, "reason", "kept") for row in rows] == ["kept", "decoder_crashed", "kept"]
    assert rows[1].detail == "https://host/1: the decoder crashed (SIGSEGV)"


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ("crash", "decoder_crashed", "the decoder crashed (SIGSEGV)"),
        ("hang", "out_of_time", "the decoder took longer than 2 s"),
        ("spin", "out_of_time", "the decoder took longer than 2 s"),
        ("exit", "decoder_crashed", "the decoder ended (exit code 0)"),
        ("babble", "decoder_crashed", "the decoder's answer makes no sense (a frame)"),
    ],
)
def test_what_is_no_word_on_the_bytes_is_pending_and_not_remembered(tmp_path, monkeypatch, fault, reason, detail):
    cache = Cache(tmp_path / "cache")
    data = f"sandbox-test:{fault} ".encode()
    recording = Recording(Media("https://host/a", sha256=cache.put_blob(data)), (clip("a/b@0", audio=None),))
    monkeypatch.setattr(sandbox, "stream", lambda *request, **rest: stream(*request, **rest, limits=HASTY))

    (row,) = prepare(recording, config=PrepareConfig(), cache=cache)

    assert (row.status, row.stage, row.reason) == ("pending", "prepare", reason)
    assert row.detail == f"https://host/a: {detail}"
    assert list(cache.root.rglob("*.json")) == []


def test_a_part_is_taken_as_it_comes_and_more_than_there_can_be_are_nonsense():
    taken = []

    def take(part, files):
        taken.append(part["number"])
        return len(files[0])

    assert stream("parts", {"count": 3}, [b"abc"], take, 3, PATIENT) == ({}, [3, 3, 3])
    assert taken == [0, 1, 2]
    with pytest.raises(SandboxError, match=r"^parts: the decoder's answer makes no sense \(too many parts\)$"):
        stream("parts", {"count": 4}, [b"abc"], take, 3, PATIENT)


def test_limits_of_bytes_and_time_are_for_a_part_not_for_the_sum():
    limits = replace(PATIENT, cpu_s=30.0)
    megabyte = bytes(1_000_000)

    assert stream("parts", {"count": 300}, [megabyte], lambda part, files: None, 300, limits)[1] == [None] * 300


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"duration_s": 1.0}, {**SOUND, "more": 1}, {**SOUND, "duration_s": "1"},
        {**SOUND, "duration_s": float("nan")},
        {**SOUND, "complete": 1}, {**SOUND, "sample_rate": True}, {**SOUND, "codec": "a\x1b[2J"},
        {**SOUND, "codec": "x" * 10_000}, {**SOUND, "num_channels": None},
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_nonsense(answer):
    assert sandbox.typed(Probed, SOUND) == Probed(1.0, 48_000, 2, "matroska/opus", True)
    with pytest.raises(SandboxError, match="makes no sense"):
        sandbox.typed(Probed, answer)
