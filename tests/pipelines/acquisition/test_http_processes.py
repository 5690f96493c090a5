"""Fetching over http from several processes: killed, at once, within a host's limit, on a full disk."""

import random
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
import requests
from conftest import ROOT
from fetching import BODY, PATH, TAG, fetch, ranges, refused
from server import Answer, Server

from tutti.datasets.errors import StorageError
from tutti.pipelines.acquisition.host_slots import host_slot, one_writer

FETCHER = """
import sys
from pathlib import Path
from tutti.pipelines.acquisition.http import HttpRules, fetch_file
url, part, per_host = sys.argv[1:]
fetch_file(url, Path(part), rules=HttpRules(slots=Path(part).parent / "slots", per_host=int(per_host)))
"""

MOVER = """
import sys
from pathlib import Path
from tutti.pipelines.acquisition.host_slots import one_writer
from tutti.pipelines.acquisition.http import HttpRules, discard, fetch_file
url, part, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
with one_writer(part):
    if not target.exists():
        fetch_file(url, part, rules=HttpRules(slots=part.parent / "slots"))
        part.rename(target)
        discard(part)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def errors_of(*processes):
    return [process.communicate(timeout=60)[1] for process in processes]


def wait_until(condition):
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_killed_process_leaves_its_bytes_and_none_of_its_locks(server, part):
    server.script(PATH, Answer(body=BODY, throttle=200_000, **TAG), Answer(body=BODY, **TAG))
    process = start(FETCHER, server.url + PATH, part, 1)
    wait_until(lambda: part.exists() and part.stat().st_size >= 60_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    have = part.stat().st_size
    assert part.with_name("a.part.lock").exists()
    before = server.num_bytes[PATH]

    fetch(server, part, per_host=1)

    assert part.read_bytes() == BODY
    assert 60_000 <= have < 200_000
    assert ranges(server)[1:] == [(f"bytes={have}-", '"v1"')]
    # The connection of the killed process may have taken another piece or two of 4,000 bytes.
    assert server.num_bytes[PATH] - before <= 200_000 - have + 20_000


def test_two_processes_that_want_a_file_at_once_fetch_it_once(server, part):
    server.script(PATH, Answer(body=BODY, throttle=400_000))
    target = part.with_name("blob")

    assert errors_of(*(start(MOVER, server.url + PATH, part, target) for _ in range(3))) == ["", "", ""]

    assert target.read_bytes() == BODY
    assert server.asked(PATH) == 1
    assert sorted(path.name for path in part.parent.iterdir()) == ["blob", "slots"]


def test_two_processes_that_want_a_part_at_once_write_it_one_after_the_other(server, part):
    server.script(PATH, Answer(body=BODY, throttle=400_000, **TAG))

    assert errors_of(*(start(FETCHER, server.url + PATH, part, 2) for _ in range(2))) == ["", ""]

    assert part.read_bytes() == BODY
    assert ranges(server) == [(None, None), ("bytes=200000-", '"v1"')]
    assert server.num_bytes[PATH] == 200_000


HOLDER = """
import sys, time
from pathlib import Path
from tutti.pipelines.acquisition.host_slots import host_slot
with host_slot(Path(sys.argv[1]), "127.0.0.1:80", 2):
    print(time.monotonic(), end=" ", flush=True)
    time.sleep(0.5)
    print(time.monotonic(), flush=True)
"""


def test_a_host_is_used_by_two_at_once_over_all_processes(tmp_path):
    processes = [start(HOLDER, tmp_path) for _ in range(5)]

    spans = [tuple(map(float, process.communicate(timeout=60)[0].split())) for process in processes]

    at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(at_once) == 2  # CLOCK_MONOTONIC is one clock for all processes
    assert [process.returncode for process in processes] == [0] * 5


def test_a_download_waits_for_a_slot_of_its_host(server, part):
    server.script(PATH, Answer(body=BODY))
    thread = threading.Thread(target=fetch, args=(server, part))

    with host_slot(part.parent / "slots", server.host, 2), host_slot(part.parent / "slots", server.host, 2):
        thread.start()
        thread.join(0.5)
        assert server.requests == []
    thread.join()

    assert part.read_bytes() == BODY


def test_who_waited_for_a_lock_that_is_gone_still_keeps_others_out(part):
    first, second, third = (Writer(part) for _ in range(3))
    first.enter()
    second.start()
    assert not second.inside.wait(0.2)
    first.leave()  # takes the lock file away that the second one waits for
    assert second.inside.wait(10)

    third.start()

    assert not third.inside.wait(0.2)
    second.leave()
    assert third.inside.wait(10)
    third.leave()
    assert list(part.parent.iterdir()) == []


class Writer(threading.Thread):
    """Holds a part from the moment that it gets it until told to leave."""

    def __init__(self, part):
        super().__init__(daemon=True)
        self.part, self.inside, self.told = part, threading.Event(), threading.Event()

    def run(self):
        with one_writer(self.part):
            self.inside.set()
            self.told.wait(30)

    def enter(self):
        self.start()
        assert self.inside.wait(10)

    def leave(self):
        self.told.set()
        self.join()


def test_a_busy_host_does_not_hold_up_another(server, part):
    server.script(PATH, Answer(body=BODY))
    slots = part.parent / "slots"

    with host_slot(slots, "data.example", 2), host_slot(slots, "data.example", 2):
        fetch(server, part)

    assert part.read_bytes() == BODY
    assert sorted(path.name for path in slots.iterdir())[-2:] == ["data.example.0", "data.example.1"]


def test_a_full_disk_is_a_storage_error_and_the_bytes_that_fit_are_kept(server, part):
    server.script(PATH, Answer(body=BODY, **TAG))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, hard))
    try:
        message = refused(StorageError, server, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    have = part.stat().st_size
    assert message == (
        f"{part}: File too large; free space or raise `ulimit -f`, or choose a file system that takes such files, "
        "then run it again: what has come is kept"
    )
    assert server.asked(PATH) == 1

    fetch(server, part)

    assert part.read_bytes() == BODY
    assert 0 < have <= 120_000
    assert ranges(server)[1] == (f"bytes={have}-", '"v1"')


# --- the server of these tests


@pytest.mark.parametrize("seed", [0, 1])
def test_every_file_of_a_flaky_server_arrives(server, part, tmp_path, seed, monkeypatch):
    rng = random.Random(seed)
    files = {f"{number}.bin": rng.randbytes(rng.randrange(300_000)) for number in range(40)}
    for name, content in files.items():
        (tmp_path / "mirror").mkdir(exist_ok=True)
        (tmp_path / "mirror" / name).write_bytes(content)
    server.serve_folder(tmp_path / "mirror")
    server.flaky(seed, fail=0.2, truncate=0.1, throttle=3_000_000)

    for name in files:
        fetch(server, part.with_name(name), f"/{name}", attempts=8, backoff_s=0)

    assert {name: part.with_name(name).read_bytes() for name in files} == files
    assert len(server.requests) > 44  # 40 and what failed: about 55 are expected
    assert sum(server.num_bytes.values()) == sum(map(len, files.values()))  # nothing twice


def test_a_flaky_server_fails_as_often_as_told_and_equally_for_equal_seeds(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    runs = []
    for seed in (1, 1, 2):
        with Server() as server:
            server.serve_folder(tmp_path)
            server.flaky(seed)
            runs.append([outcome(server.url) for _ in range(200)])

    assert runs[0] == runs[1] != runs[2]
    for name, share in (("reset", 0.1), ("503", 0.1), ("short", 0.1), ("200", 0.7)):
        assert abs(runs[0].count(name) / 200 - share) < 0.07, name


def outcome(url):
    try:
        answer = requests.get(f"{url}/a", timeout=5, proxies={"no_proxy": "127.0.0.1"})
    except requests.exceptions.ChunkedEncodingError:
        return "short"
    except requests.ConnectionError:
        return "reset"
    return str(answer.status_code)


def test_a_folder_is_served_by_head_and_never_beyond_its_root(server, tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(b"no")
    server.serve_folder(tmp_path / "mirror")

    head = requests.head(f"{server.url}/a", timeout=5, proxies={"no_proxy": "127.0.0.1"})
    beyond = requests.get(f"{server.url}/%2e%2e/secret", timeout=5, proxies={"no_proxy": "127.0.0.1"})

    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "3", b"")
    assert beyond.status_code == 404
    assert [request.method for request in server.requests] == ["HEAD", "GET"]
