"""Real builds on a bad day of the machine: little time, little memory, decoders that are killed, stopped or crash.

Once the cause is gone, one run gives the very version of a build that nothing disturbed.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import misbehaving_child
import psutil
import pytest
import signals
from conftest import ROOT

from tutti.datasets.machine import MACHINE_REASONS
from tutti.datasets.manifest import read_manifest

NUM_SONGS = 24
FAULTS_FOLDER = str(Path(misbehaving_child.__file__).parent)
WITH_FAULTS = (
    "-c",
    """
import sys
from misbehaving_child import COMMAND
from tutti.pipelines.build.__main__ import main
from tutti.pipelines.decoding import process
process.CHILD = COMMAND
sys.exit(main(sys.argv[1:]))
""",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """A folder of short songs in several formats, one of which is no audio."""
    folder = tmp_path_factory.mktemp("songs")
    lines = ["path,cello"]
    for number in range(NUM_SONGS):
        kind, subtype = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")][number % 3]
        (folder / f"{number:02}.{kind.lower()}").write_bytes(
            signals.encoded(signals.noise(2.0, seed=number), kind=kind, subtype=subtype)
        )
        lines.append(f"{number:02}.{kind.lower()},{number % 2}")
    (folder / "page.wav").write_bytes(b"<html>not found</html>")
    (folder / "labels.csv").write_text("\n".join([*lines, "page.wav,1"]) + "\n")
    return folder


class Build:
    """`pipelines.build` of the songs in its own output root and cache."""

    def __init__(self, songs, root):
        self.output, self.cache = root / "output", root / "cache"
        self._flags = ["--dataset", "folder", "--data-from", str(songs), "--embedder", "logmel"]

    def start(self, *, program=("-m", "pipelines.build"), limits=(), env=None):
        """Start it under limits: (kind, value), as `ulimit` sets them."""

        def limit():
            for kind, most in limits:
                resource.setrlimit(kind, (most, most))

        places = ["--output", str(self.output), "--cache-dir", str(self.cache)]
        return subprocess.Popen(
            [sys.executable, *program, *self._flags, *places],
            cwd=ROOT, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=limit,
        )  # fmt: skip

    def run(self, **how):
        """Exit code, summary or None, last line of stderr."""
        process = self.start(**how)
        out, err = process.communicate(timeout=300)
        return process.returncode, json.loads(out.splitlines()[-1]) if out else None, (err.splitlines() or [""])[-1]

    def reasons(self):
        """Reason -> status of the rows of the version that is published."""
        return {row["reason"]: row["status"] for row in read_manifest(self.output).clip_rows() if "reason" in row}

    def remembered_problems(self):
        """What the cache holds against files."""
        found = [json.loads(path.read_bytes()) for path in (self.cache / "stages" / "prepare").rglob("*.json")]
        return [text for text in map(json.dumps, found) if "undecodable" in text]


@pytest.fixture(scope="module")
def undisturbed(songs, tmp_path_factory):
    """The version and the root digest that a good day gives."""
    code, summary, error = Build(songs, tmp_path_factory.mktemp("undisturbed")).run()
    assert code == 0, error
    assert summary["clips"] == {"kept": NUM_SONGS, "rejected": {"undecodable": 1}}
    return summary["version"], summary["root_digest"]


@pytest.fixture
def build(songs, tmp_path):
    return Build(songs, tmp_path)


def heals(build, undisturbed, **how):
    code, summary, error = build.run(**how)
    assert code == 0, error
    assert "incomplete" not in read_manifest(build.output).content
    assert len(build.remembered_problems()) == 1  # the page
    return (summary["version"], summary["root_digest"]) == undisturbed


def decoders(process):
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process.pid).children(True)
        return [child for child in children if "tutti.pipelines.decoding.child" in child.cmdline()]
    return []


def test_a_build_that_the_user_s_limits_end_says_which_and_goes_on_with_more(build, undisturbed):
    code, summary, error = build.run(limits=[(resource.RLIMIT_AS, 400 << 20)])
    assert (code, summary) == (74, None)
    assert "not enough memory; free memory or raise `ulimit -v`" in error

    code, summary, error = build.run(limits=[(resource.RLIMIT_CPU, 5)])
    assert (code, summary) == (75, None)
    assert "the processor time of this process is used up (5 s); raise `ulimit -t`" in error

    # More than any process needs; a decoder of earlier code could not even be told of its own limit then.
    assert heals(build, undisturbed, limits=[(resource.RLIMIT_CPU, 50)])


def test_little_memory_is_a_word_on_no_file(build, undisturbed):
    for mebibytes in (750, 900):  # some of: no thread, no library, no decoder, no shard
        code, _, error = build.run(limits=[(resource.RLIMIT_AS, mebibytes << 20)])
        assert code in (0, 74, 75), error
    if (build.output / "current").exists():
        assert set(build.reasons()) - set(MACHINE_REASONS) <= {"undecodable"}

    assert heals(build, undisturbed)


def test_decoders_that_are_killed_or_stopped_lose_nothing_for_good(build, undisturbed):
    process = build.start()
    killed = set()
    while process.poll() is None:
        for decoder in decoders(process):
            if decoder.pid not in killed and len(killed) < 4:  # of two files, both attempts
                killed.add(decoder.pid)
                with contextlib.suppress(psutil.Error):
                    decoder.kill()
        time.sleep(0.02)
    out, err = process.communicate()

    assert process.returncode == 0, err
    assert read_manifest(build.output).content["incomplete"] == {"decoder_killed": 2}
    assert build.reasons()["decoder_killed"] == "pending"

    process = build.start()
    while not (found := decoders(process)):
        time.sleep(0.01)
    found[0].suspend()  # is noticed, and replaced
    out, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["root_digest"] == undisturbed[1]
    assert "incomplete" not in read_manifest(build.output).content


def test_a_file_whose_decoder_crashes_is_pending_the_version_says_so_and_the_next_build_tries_again(songs, tmp_path):
    mine = tmp_path / "songs"
    mine.mkdir()
    for path in songs.iterdir():
        (mine / path.name).write_bytes(path.read_bytes())
    (mine / "page.wav").write_bytes(b"sandbox-test:crash ")
    build = Build(mine, tmp_path)

    code, summary, error = build.run(program=WITH_FAULTS, env={"PYTHONPATH": FAULTS_FOLDER})

    assert code == 0, error
    manifest = read_manifest(build.output)
    assert manifest.content["incomplete"] == {"decoder_crashed": 1}
    (row,) = (row for row in manifest.clip_rows() if row["status"] != "kept")
    assert (row["status"], row["stage"], row["reason"]) == ("pending", "prepare", "decoder_crashed")
    assert row["detail"] == "folder:page.wav: the decoder crashed (SIGSEGV)"
    assert summary["sources"]["folder"]["pending"] == 1

    code, summary, error = build.run()  # a decoder that only says that the bytes are no audio

    assert (code, build.reasons()) == (0, {"undecodable": "rejected"})
    assert "incomplete" not in read_manifest(build.output).content
