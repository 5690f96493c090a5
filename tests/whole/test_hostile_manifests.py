"""What a stranger's version can do to whom takes it up: nothing but be refused, in one line.

`TUTTI_HOSTILE=all` runs every case with every command; without it a sample is drawn. Each run is a fork of its own,
within 10 s and 1 GiB; a hook sees every file that is opened, and the folders of somebody else are compared afterwards.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hostile_manifests import EVERYTHING, Case, cases

from tutti.datasets.manifest import version_folder

SEED = 0
NUM_RUNS = 150  # of the sample
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "verify-manifest": ("pipelines.verify", ["ROOT", "--level", "manifest", "--cache-dir", "CACHE"]),
    "verify-shards": ("pipelines.verify", ["ROOT", "--cache-dir", "CACHE"]),
    "verify-clips": ("pipelines.verify", ["ROOT", "--level", "clips", "--cache-dir", "CACHE"]),
    "verify-sources": ("pipelines.verify", ["ROOT", "--level", "sources", "--cache-dir", "CACHE"]),
    "info": ("pipelines.info", ["ROOT"]),
    "diff": ("pipelines.diff", ["SOUND", "ROOT"]),
    "export-csv": ("pipelines.export", ["ROOT", "--format", "csv", "--output", "OUT/csv"]),
    "export-huggingface": ("pipelines.export", ["ROOT", "--format", "huggingface", "--output", "OUT/huggingface"]),
    "versions": ("pipelines.versions", ["list", "ROOT"]),
    "relabel": ("pipelines.relabel", ["sample", "--data", "ROOT", "--output", "OUT/relabel"]),
    "train": ("train.run", ["--recipe", "logmel_cnn", "--tiny", "--set", "epochs=1", "--data", "ROOT",
                            "--output", "OUT/run", "--hot-copy", "off"]),
    "build-frozen": ("pipelines.build", ["--frozen", "ROOT", "--data-from", "SONGS", "--cache-dir", "CACHE"]),
    "build-parent": ("pipelines.build", ["--dataset", "folder", "--parent", "ROOT", "--data-from", "SONGS",
                                         "--output", "OUT/build", "--cache-dir", "CACHE"]),
    "verify-repair": ("pipelines.verify", ["ROOT", "--repair", "--cache-dir", "CACHE"]),
}  # fmt: skip


class Runner:
    """A process that carries out jobs."""

    def __init__(self, folder: Path) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        (folder / "home").mkdir()
        (folder / "tmp").mkdir()
        places = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "TUTTI_CACHE_DIR": str(folder / "cache")}
        places["MPLCONFIGDIR"] = str(folder / "tmp")  # matplotlib keeps a list of fonts, made when it is imported
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "support" / "hostile_runner.py")],
            env={**os.environ, **threads, **places}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def bench(songs_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Bench"]:
    bench = Bench(songs_build, tmp_path_factory.mktemp("bench"))
    yield bench
    bench.runner.close()


class Bench:
    """Runs commands on cases, beside files of somebody else."""

    def __init__(self, sound: Path, folder: Path) -> None:
        self.sound, self.folder = version_folder(sound / "out"), folder
        self.songs, self.cache, self.elsewhere = folder / "songs", folder / "cache", folder / "elsewhere"
        shutil.copytree(sound / "songs", self.songs)
        shutil.copytree(sound / "cache", self.cache)
        shutil.copytree(self.sound, self.elsewhere / "version")
        shutil.copyfile(self.sound / "data" / "train-00000-of-00001.parquet", self.elsewhere / "secret.parquet")
        shutil.copyfile(min(self.sound.glob("manifest/clips/*")), self.elsewhere / "secret.jsonl")
        shutil.copyfile(self.sound / "manifest" / "manifest.json", self.elsewhere / "manifest.json")
        os.mkfifo(self.elsewhere / "pipe")
        self.runner = Runner(folder)

    def run(self, case: Case, commands: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        place = self.folder / "case"
        version = case.make(self.sound, place / "root", self.elsewhere)
        here, out = place / "here", place / "out"
        here.mkdir()
        out.mkdir()
        names = {"ROOT": place / "root", "SOUND": self.sound, "OUT": out, "CACHE": self.cache}
        names["SONGS"] = self.songs
        for command in commands:
            module, arguments = COMMANDS[command]
            filled = [_filled(argument, names) for argument in arguments]
            writes = [out, self.cache, self.folder / "tmp", "/dev/null", "/dev/shm", "/proc/self"]
            writes += [here / "build"] if command == "build-frozen" else []
            writes += [version.parent.parent] if command == "verify-repair" else []
            job = {
                "module": module, "arguments": filled, "folder": str(here), "may_write": [str(one) for one in writes],
                "closed": [str(self.elsewhere)], "may_run": module == "pipelines.build",
            }  # fmt: skip
            yield command, self.runner(job)
        assert {path.name for path in here.iterdir()} <= ({"build"} if "build-frozen" in commands else set())
        _remove(place)


def _filled(argument: str, names: dict[str, Path]) -> str:
    first, slash, rest = argument.partition("/")
    return str(names[first]) + slash + rest if first in names else argument


def _remove(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # deeper than Python's own can go


def look_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What would tell that somebody wrote here."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def fault_of(case: Case, command: str, answer: dict[str, Any]) -> str | None:
    """What is wrong with how a command took a case."""
    code, said = answer["code"], answer["stderr"]
    lines = [line for line in said.strip().splitlines() if not line.startswith(("note: ", "wrote again: "))]
    expected = {2, 3} if command in case.refused_by else {0, 2, 3} if command in case.may_pass else {0}
    if command == "versions":  # lists a damaged version as such
        expected |= {0}
    checks = (
        (answer["late"], f"took more than {answer['seconds']} s"),
        ("Traceback" in said or code == 70, "a traceback"),
        (code not in expected, f"exit code {code}, expected one of {sorted(expected)}"),
        (answer["touched"], f"touched {answer['touched']}"),
        (answer["more_memory"] > 1 << 30, f"took {answer['more_memory']:,} bytes"),
        (
            code in (2, 3) and len(lines) != 1,
            "not one line",
        ),
    )
    wrong = [words for is_wrong, words in checks if is_wrong]
    return f"{case.name} / {command}: {'; '.join(wrong)}\n{said[-1500:]}" if wrong else None


def test_the_generator_has_more_than_169_versions_and_repeats_itself() -> None:
    found = cases(SEED)

    assert len({case.name for case in found}) == len(found) > 169
    assert [case.name for case in found] == [case.name for case in cases(SEED)]
    assert set(COMMANDS) == EVERYTHING
    assert sum(case.signed for case in found) > 169


def test_the_sound_version_is_taken_by_every_command(bench: Bench) -> None:
    sound = Case("sound", lambda version, _: None, frozenset())

    assert {command: answer["code"] for command, answer in bench.run(sound, list(COMMANDS))} == dict.fromkeys(
        COMMANDS, 0
    )


def test_a_strangers_version_harms_nobody(bench: Bench) -> None:
    found = cases(SEED)
    # What is taken as sound would be built and trained for seconds each time.
    slow = {"build-frozen", "build-parent", "train"}
    pairs = [(case, name) for case in found for name in COMMANDS if name in case.refused_by or name not in slow]
    if os.environ.get("TUTTI_HOSTILE") != "all":
        pairs = random.Random(SEED).sample(pairs, NUM_RUNS)
    before = look_of(bench.elsewhere)
    faults, codes, seconds, memory = [], Counter[int](), 0.0, 0
    for case in found:
        commands = [command for one, command in pairs if one is case]
        if not commands:
            continue
        for command, answer in bench.run(case, commands):
            codes[answer["code"]] += 1
            seconds, memory = max(seconds, answer["seconds"]), max(memory, answer["more_memory"])
            if (fault := fault_of(case, command, answer)) is not None:
                faults.append(fault)
                if path := os.environ.get("TUTTI_HOSTILE_LOG"):
                    with Path(path).open("a") as log:
                        log.write(fault + "\n\n")
    print(f"{len(found)} versions, {codes.total()} runs: {dict(codes)}; at most {seconds} s, {memory:,} bytes more")

    assert faults == []
    assert look_of(bench.elsewhere) == before
    assert list((bench.folder / "home").iterdir()) == []
    assert codes.total() == len(pairs)
